#include "engine/cgroup_delegated.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

using namespace gantry;

namespace {

/// A directory that looks like a cgroup: files that remember what was written.
struct FakeCgroup {
  std::string dir;
  FakeCgroup() {
    char name[] = "/tmp/gantry-delegated.XXXXXX";
    dir = ::mkdtemp(name);
    ::mkdir(own().c_str(), 0755);
    write(own() + "/cgroup.procs", "");
  }
  ~FakeCgroup() { std::filesystem::remove_all(dir); }
  std::string own() const { return dir + "/" + kOwnSubCgroup; }
  static void write(const std::string& path, const std::string& text) { std::ofstream(path) << text; }
  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  void members(const std::string& pids) const { write(dir + "/cgroup.procs", pids); }
  void mark(const char* value) const { REQUIRE(::setxattr(dir.c_str(), "user.delegate", value, 1, 0) == 0); }
};

}  // namespace

TEST_CASE("a lone process in a delegated cgroup goes to a child of it") {
  const FakeCgroup cgroup;
  cgroup.members(std::to_string(::getpid()) + "\n");
  cgroup.mark("1");
  const auto moved = enter_sub_cgroup_of(cgroup.dir);
  REQUIRE(moved);
  CHECK(*moved);
  CHECK(FakeCgroup::read(cgroup.own() + "/cgroup.procs") == "0");
}

TEST_CASE("nobody is moved out of a cgroup that is not theirs alone") {
  const FakeCgroup cgroup;
  const std::string self = std::to_string(::getpid()) + "\n";
  SECTION("not delegated") {
    cgroup.members(self);
  }
  SECTION("marked otherwise") {
    cgroup.members(self);
    cgroup.mark("0");
  }
  SECTION("shared") {
    cgroup.members("1\n" + self);
    cgroup.mark("1");
  }
  const auto moved = enter_sub_cgroup_of(cgroup.dir);
  REQUIRE(moved);
  CHECK_FALSE(*moved);
  CHECK(FakeCgroup::read(cgroup.own() + "/cgroup.procs").empty());
}

TEST_CASE("a delegated cgroup that takes no child is an error") {
  const FakeCgroup cgroup;
  cgroup.members(std::to_string(::getpid()) + "\n");
  cgroup.mark("1");
  std::filesystem::remove(cgroup.own() + "/cgroup.procs");
  CHECK_FALSE(enter_sub_cgroup_of(cgroup.dir));
}
