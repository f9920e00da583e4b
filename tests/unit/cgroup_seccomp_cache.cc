// The cache of compiled filters, and everything that must not be believed.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>

#include "engine/seccomp_cache.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {
namespace {

namespace fs = std::filesystem;

Seccomp profile_for(const std::string& name) {
  Seccomp profile;
  profile.default_action = SeccompAction::kErrno;
  profile.rules.push_back({{"read", "write", name}, SeccompAction::kAllow, {}, {}});
  return profile;
}

/// A cache directory of its own, removed afterwards.
struct TempCache {
  std::string top, dir;
  TempCache() {
    char name[] = "/tmp/gantry-cache-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    top = name;
    dir = top + "/parent/seccomp";
  }
  ~TempCache() { fs::remove_all(top); }
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir)) names.push_back(entry.path());
    return names;
  }
};

bool same(const CompiledSeccomp& a, const CompiledSeccomp& b) {
  if (a.bpf.size() != b.bpf.size() || a.flags != b.flags || a.listener != b.listener) return false;
  for (size_t i = 0; i < a.bpf.size(); ++i) {
    if (a.bpf[i].code != b.bpf[i].code || a.bpf[i].k != b.bpf[i].k || a.bpf[i].jt != b.bpf[i].jt) return false;
  }
  return true;
}

/// Puts a marker into the stored program's first instruction with a valid checksum is impossible from outside, so the
/// question "was the entry used?" is answered by the inode: a refused entry is replaced by a new file.
ino_t inode(const std::string& path) {
  struct stat info{};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  return info.st_ino;
}

std::string slurp(const std::string& path) {
  return *sys::read_file(path, 1 << 20);
}

void spill(const std::string& path, const std::string& bytes) {
  const sys::Fd fd(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
  REQUIRE(fd);
  REQUIRE(sys::write_all(fd, bytes));
}

}  // namespace

TEST_CASE("a second compile comes from the cache and is the same") {
  TempCache cache;
  const Seccomp profile = profile_for("getpid");
  const auto plain = compile_seccomp(profile);
  const auto first = cached_seccomp(profile, cache.dir);
  REQUIRE(cache.entries().size() == 1);
  const ino_t before = inode(cache.entries().front());
  const auto second = cached_seccomp(profile, cache.dir);
  REQUIRE(plain);
  REQUIRE(first);
  REQUIRE(second);
  CHECK(same(*plain, *first));
  CHECK(same(*plain, *second));
  CHECK(inode(cache.entries().front()) == before);
  CHECK((fs::status(cache.dir).permissions() & fs::perms::all) == fs::perms::owner_all);
}

TEST_CASE("flags and listeners are the profile's, not the entry's") {
  TempCache cache;
  Seccomp profile = profile_for("getpid");
  REQUIRE(cached_seccomp(profile, cache.dir));
  profile.flags = {"SECCOMP_FILTER_FLAG_LOG"};
  CHECK(cached_seccomp(profile, cache.dir)->flags == 2);
  CHECK(cache.entries().size() == 1);
  profile.listener_metadata = "x";
  CHECK_FALSE(cached_seccomp(profile, cache.dir));
}

TEST_CASE("other profiles have other entries") {
  TempCache cache;
  Seccomp profile = profile_for("getpid");
  REQUIRE(cached_seccomp(profile, cache.dir));
  profile.default_errno_ret = 5;
  REQUIRE(cached_seccomp(profile, cache.dir));
  profile.rules[0].args.push_back({0, 1, 0, SeccompOp::kEqual});
  REQUIRE(cached_seccomp(profile, cache.dir));
  profile.rules[0].args[0].op = SeccompOp::kLess;
  REQUIRE(cached_seccomp(profile, cache.dir));
  profile.architectures = {"SCMP_ARCH_X86"};
  REQUIRE(cached_seccomp(profile, cache.dir));
  CHECK(cache.entries().size() == 5);
}

TEST_CASE("damaged, foreign and planted entries are compiled anew") {
  TempCache cache;
  const Seccomp profile = profile_for("getpid");
  const auto good = cached_seccomp(profile, cache.dir);
  REQUIRE(good);
  const std::string path = cache.entries().front();
  const std::string bytes = slurp(path);
  const auto still_right = [&] {
    const auto again = cached_seccomp(profile, cache.dir);
    REQUIRE(again);
    CHECK(same(*again, *good));
  };
  SECTION("each byte flipped") {
    for (size_t at = 0; at < bytes.size(); at += 3) {
      std::string bad = bytes;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      spill(path, bad);
      still_right();
    }
    CHECK(slurp(path) == bytes);
  }
  SECTION("cut and grown") {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{23}, bytes.size() / 2, bytes.size() - 1}) {
      spill(path, bytes.substr(0, size));
      still_right();
    }
    spill(path, bytes + "x");
    still_right();
  }
  SECTION("another profile's entry under this name") {
    REQUIRE(cached_seccomp(profile_for("mount"), cache.dir));
    for (const std::string& other : cache.entries()) {
      if (other != path) fs::rename(other, path);
    }
    still_right();
    CHECK(slurp(path) == bytes);
  }
  SECTION("a link") {
    const std::string aside = cache.top + "/aside";
    fs::rename(path, aside);
    fs::create_symlink(aside, path);
    still_right();
    CHECK_FALSE(fs::is_symlink(path));
  }
  SECTION("a file others can write, a second name, a fifo") {
    const ino_t before = inode(path);
    ::chmod(path.c_str(), 0622);
    still_right();
    CHECK(inode(path) != before);
    fs::create_hard_link(path, cache.top + "/twin");
    const ino_t twin = inode(path);
    still_right();
    CHECK(inode(path) != twin);
    fs::remove(path);
    REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
    still_right();
    CHECK(fs::is_regular_file(path));
  }
}

TEST_CASE("a directory that others can write, or that cannot be made, is not used") {
  TempCache cache;
  const Seccomp profile = profile_for("getpid");
  fs::create_directories(cache.dir);
  ::chmod(cache.dir.c_str(), 0777);
  REQUIRE(cached_seccomp(profile, cache.dir));
  CHECK(cache.entries().empty());
  fs::remove(cache.dir);
  fs::create_directory_symlink(cache.top, cache.dir);
  REQUIRE(cached_seccomp(profile, cache.dir));
  REQUIRE(cached_seccomp(profile, "/proc/no/such"));
  REQUIRE(cached_seccomp(profile, ""));
}

TEST_CASE("the cache does not grow for ever") {
  TempCache cache;
  fs::create_directories(cache.dir);
  ::chmod(cache.dir.c_str(), 0700);
  for (int i = 0; i < 300; ++i) {
    const sys::Fd fd(::open(cat(cache.dir, "/old", i).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(fd);
  }
  REQUIRE(cached_seccomp(profile_for("getpid"), cache.dir));
  CHECK(cache.entries().size() == 1);
}

}  // namespace gantry
