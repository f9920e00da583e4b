#include "sys/local_path.h"

#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstdlib>
#include <string>

#include "sys/text.h"

using gantry::cat;
using gantry::sys::check_answers;
using gantry::sys::may_hang;

namespace {

struct Directory {
  Directory() {
    char name[] = "/tmp/gantry-path-XXXXXX";
    path = ::mkdtemp(name);
  }
  ~Directory() {
    for (const char* name : {"here", "round", "file", "sub/up"})
      ::unlink(cat(path, "/", std::string_view(name)).c_str());
    ::rmdir(cat(path, "/sub").c_str());
    ::rmdir(path.c_str());
  }
  void link(const std::string& name, const std::string& target) const {
    REQUIRE(::symlink(target.c_str(), cat(path, "/", name).c_str()) == 0);
  }
  std::string path;
};

}  // namespace

TEST_CASE("file systems that wait for somebody") {
  for (const char* type : {"nfs", "nfs4", "fuse", "fuse.sshfs", "fuseblk", "9p", "cifs", "ceph", "autofs", "virtiofs"})
    CHECK(may_hang(type));
  for (const char* type : {"", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "proc", "fusectl", "nfsd", "zfs"})
    CHECK_FALSE(may_hang(type));
}

TEST_CASE("local paths pass, and what does not exist cannot hang") {
  const Directory work;
  REQUIRE(::mkdir(cat(work.path, "/sub").c_str(), 0755) == 0);
  work.link("here", "sub/../sub/./missing");
  work.link("sub/up", "../here");
  for (const char* path :
       {"/", "/proc/self/ns/net", "/proc/self/root/proc/self/exe", "/proc/self/fd/0", "/sys", "/no/such"})
    CHECK(check_answers(path).has_value());
  for (const char* name : {"", "/sub", "/here", "/sub/up", "/sub/up/more", "/../../../..", "//sub//", "/sub/."})
    CHECK(check_answers(cat(work.path, std::string_view(name))).has_value());
}

TEST_CASE("links that lead nowhere end") {
  const Directory work;
  work.link("round", cat(work.path, "/round"));
  const auto found = check_answers(cat(work.path, "/round/x"));
  REQUIRE_FALSE(found.has_value());
  CHECK(found.error().sys_errno == ELOOP);
}
