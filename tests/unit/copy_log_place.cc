// Whether the paths of two logs lead to the same files.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "engine/supervisor/log_file.h"
#include "engine/supervisor/log_place.h"
#include "tests/unit/copy_support.h"

namespace gantry {
namespace {

using copy_test::TempDir;

LogOptions log_at(std::string path, unsigned max_files = 4) {
  LogOptions options;
  options.path = std::move(path);
  options.max_files = max_files;
  return options;
}

FoundLogPlace find(const std::string& path, unsigned max_files = 4) {
  INFO(path);
  auto found = find_log_place(log_at(path, max_files));
  REQUIRE(found);
  return *std::move(found);
}

LogMeeting meet(const std::string& first, const std::string& second) {
  return meeting_of(find(first).place, find(second).place);
}

}  // namespace

TEST_CASE("the same log by other words") {
  const TempDir dir;
  const std::string top = dir.path();
  REQUIRE(::mkdir((top + "/a").c_str(), 0755) == 0);
  REQUIRE(::symlink("a", (top + "/link").c_str()) == 0);
  REQUIRE(::symlink((top + "/link").c_str(), (top + "/chain").c_str()) == 0);
  for (const char* other :
       {"/a/log", "/a//log", "/./a/log", "/a/../a/log", "/link/log", "/chain/log", "/link/../a/log"})
    CHECK(meet(top + "/a/log", top + other) == LogMeeting::kSame);
  for (const char* other : {"/log", "/a/log2", "/link/Log", "/a/log/log"})
    CHECK(meet(top + "/a/log", top + other) == LogMeeting::kNone);
  // Where nothing is yet, words decide behind what is there.
  for (const char* other : {"/a/new/er/log", "/chain/new//er/log", "/a/new/./er/log"})
    CHECK(meet(top + "/link/new/er/log", top + other) == LogMeeting::kSame);
  CHECK(meet(top + "/a/new/log", top + "/a/log") == LogMeeting::kNone);
}

TEST_CASE("a log and what another one is rotated to") {
  const std::string top = "/tmp/log";
  const auto meeting = [&](const std::string& first, unsigned files, const std::string& second, unsigned other_files) {
    return meeting_of(find(first, files).place, find(second, other_files).place);
  };
  CHECK(meeting(top + ".1", 1, top, 4) == LogMeeting::kRotatedTo);
  CHECK(meeting(top + ".3", 4, top, 4) == LogMeeting::kRotatedTo);
  CHECK(meeting(top, 4, top + ".3", 4) == LogMeeting::kRotates);
  CHECK(meeting(top, 100, top + ".99", 1) == LogMeeting::kRotates);
  // The oldest is N - 1, and its number has no zeros in front.
  CHECK(meeting(top + ".4", 4, top, 4) == LogMeeting::kNone);
  CHECK(meeting(top + ".1", 1, top, 1) == LogMeeting::kNone);
  for (const char* end : {".0", ".01", ".", "1", ".1x", ".1.1", ".-1", ".+1"})
    CHECK(meeting(top + end, 4, top, 4) == LogMeeting::kNone);
}

TEST_CASE("what lies above a log") {
  const TempDir dir;
  const std::string top = dir.path();
  REQUIRE(::symlink("/", (top + "/root").c_str()) == 0);
  struct stat directory{};
  REQUIRE(::stat(top.c_str(), &directory) == 0);
  const FileIdentity here = identity_of(directory);
  REQUIRE(::stat("/", &directory) == 0);
  const FileIdentity root = identity_of(directory);
  for (const std::string& path : {top + "/log", top + "/new/log", top + "/root" + top + "/log"}) {
    const FoundLogPlace found = find(path);
    CHECK(found.above.front() == found.place.directory);
    CHECK(found.place.directory == here);
    CHECK(found.above.back() == root);
    CHECK(std::ranges::count(found.above, root) == 1);
  }
  const FoundLogPlace elsewhere = find(top + "/root/log");
  CHECK(elsewhere.above == std::vector<FileIdentity>{root});
}

TEST_CASE("paths that lead nowhere") {
  const TempDir dir;
  const std::string top = dir.path();
  REQUIRE(::symlink("loop", (top + "/loop").c_str()) == 0);
  for (const char* path : {"/loop/log", "/..", "/.", "/missing/../log"}) {
    INFO(path);
    CHECK(!find_log_place(log_at(top + path)));
  }
  CHECK(!find_log_place(log_at("log")));
}

TEST_CASE("by its words alone a log meets only another one of these") {
  const LogPlace named = log_place_by_name(log_at("/tmp/x/../log"));
  CHECK(meeting_of(named, log_place_by_name(log_at("/tmp//log"))) == LogMeeting::kSame);
  CHECK(meeting_of(named, log_place_by_name(log_at("/tmp/log.1"))) == LogMeeting::kRotates);
  CHECK(meeting_of(named, find("/tmp/log").place) == LogMeeting::kNone);
}

TEST_CASE("a log that is none has no files to remove") {
  const TempDir dir;
  LogOptions options = log_at(dir.path() + "/somebodys");
  REQUIRE(::mknod(options.path.c_str(), S_IFREG | 0600, 0) == 0);
  options.driver = LogDriver::kNone;
  CHECK(LogFile(options).remove_all());
  CHECK(::access(options.path.c_str(), F_OK) == 0);
}

}  // namespace gantry
