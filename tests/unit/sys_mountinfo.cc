// /proc/PID/mountinfo.
#include <catch2/catch.hpp>

#include "sys/file.h"
#include "sys/mountinfo.h"

namespace gantry::sys {

TEST_CASE("a mountinfo line becomes an entry") {
  const auto entries = parse_mountinfo(
      "36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/ro\\134ot rw,errors=continue\n"
      "29 21 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct");
  REQUIRE(entries);
  REQUIRE(entries->size() == 2);
  CHECK((*entries)[0] == MountEntry{36, 35, 98, 0, "/mnt1", "/mnt 2", "rw,noatime", "master:1 shared:2", "ext3",
                                    "/dev/ro\\ot", "rw,errors=continue"});
  CHECK((*entries)[1].optional.empty());
  CHECK(has_mount_option((*entries)[1].super_options, "cpuacct"));
  CHECK_FALSE(has_mount_option((*entries)[1].super_options, "cpua"));
}

TEST_CASE("odd but legal mountinfo") {
  CHECK(parse_mountinfo("")->empty());
  const auto blank = parse_mountinfo("1 2 3:4 / / rw - tmpfs  rw\n");
  REQUIRE(blank);
  CHECK(blank->front().source.empty());
  const auto spaced = parse_mountinfo("1 2 3:4 / / rw - fuse a rw,x=b c\n");
  REQUIRE(spaced);
  CHECK(spaced->front().super_options == "rw,x=b c");
  const auto slashes = parse_mountinfo("1 2 3:4 / /a\\b\\04 rw - t s o\n");
  REQUIRE(slashes);
  CHECK(slashes->front().mountpoint == "/a\\b\\04");
}

TEST_CASE("what is no mountinfo is named by line") {
  const auto error = [](std::string_view text) {
    const auto entries = parse_mountinfo(text);
    return entries ? std::string() : entries.error().text;
  };
  const std::string good = "1 2 3:4 / / rw - t s o\n";
  CHECK(error(good + "1 2\n") == "mountinfo: line 2: fewer than 6 fields");
  CHECK(error("\n") == "mountinfo: line 1: fewer than 6 fields");
  CHECK(error("x 2 3:4 / / rw - t s o") == "mountinfo: line 1: mount id is not a number");
  CHECK(error("1 2 34 / / rw - t s o") == "mountinfo: line 1: device is not MAJOR:MINOR");
  CHECK(error("1 2 3:99999999999 / / rw - t s o") == "mountinfo: line 1: device is not MAJOR:MINOR");
  CHECK(error("1 2 3:4 / / rw t s o") == "mountinfo: line 1: no \"-\" after the optional fields");
  CHECK(error("1 2 3:4 / / rw - t") == "mountinfo: line 1: no file system type or source");
  CHECK(error("1 2 3:4 / /a\\000b rw - t s o") == "mountinfo: line 1: NUL byte");
}

TEST_CASE("the kernel's own mountinfo parses and has a root") {
  const auto text = read_file("/proc/self/mountinfo", 64u << 20);
  REQUIRE(text);
  const auto entries = parse_mountinfo(*text);
  REQUIRE(entries);
  bool root = false;
  for (const MountEntry& entry : *entries) root = root || entry.mountpoint == "/";
  CHECK(root);
}

}  // namespace gantry::sys
