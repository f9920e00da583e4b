#include "engine/bundle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <string>

#include "engine/json.h"
#include "engine/spec_template.h"

namespace gantry {
namespace {

/// A directory that goes away with the test; config.json is the only thing ever put there.
class Dir {
 public:
  Dir() : path_("/tmp/gantry-bundle-XXXXXX") { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  ~Dir() {
    ::unlink(config().c_str());
    ::rmdir(config().c_str());
    ::rmdir(path_.c_str());
  }
  Dir(const Dir&) = delete;
  Dir& operator=(const Dir&) = delete;
  std::string config() const { return path_ + "/config.json"; }
  const std::string& path() const { return path_; }
  void write(const std::string& bytes) const {
    const sys::Fd file(::open(config().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    REQUIRE(::write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  }
  std::string error() const {
    auto bundle = open_bundle(path_);
    return bundle ? "" : bundle.error().text;
  }

 private:
  std::string path_;
};

TEST_CASE("CR-01 a bundle is read once and known by its absolute path") {
  const Dir dir;
  const std::string bytes = spec_template({.hostname = "runc"});
  dir.write(bytes);
  const auto bundle = open_bundle(dir.path() + "/../" + dir.path().substr(5) + "/.");
  REQUIRE(bundle);
  CHECK(bundle->path == dir.path());
  CHECK(bundle->config_bytes == bytes);
  CHECK(bundle->spec.hostname == "runc");
  CHECK((::fcntl(bundle->dir.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("CL-18 a missing bundle and a missing config.json") {
  const Dir dir;
  CHECK(dir.error() == "JSON specification file config.json not found");
  const auto missing = open_bundle(dir.path() + "/nowhere");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().text == "chdir " + dir.path() + "/nowhere: no such file or directory");
  CHECK(missing.error().sys_errno == ENOENT);
  dir.write("x");
  const auto file = open_bundle(dir.config());
  REQUIRE_FALSE(file);
  CHECK(file.error().text == "chdir " + dir.config() + ": not a directory");
}

TEST_CASE("what is not a regular file is refused without waiting") {
  const Dir fifo;
  REQUIRE(::mkfifo(fifo.config().c_str(), 0600) == 0);
  CHECK(fifo.error() == "config.json is a FIFO, not a regular file");
  const Dir device;
  REQUIRE(::symlink("/dev/zero", device.config().c_str()) == 0);
  CHECK(device.error() == "config.json is a device, not a regular file");
  const Dir directory;
  REQUIRE(::mkdir(directory.config().c_str(), 0700) == 0);
  CHECK(directory.error() == "config.json is a directory, not a regular file");
}

TEST_CASE("a file too large is refused before it is read") {
  const Dir dir;
  dir.write("");
  REQUIRE(::truncate(dir.config().c_str(), off_t{64} << 20) == 0);
  CHECK(dir.error() == "config.json has 67108864 bytes; at most 4194304 (4 MiB) are accepted");
  REQUIRE(::truncate(dir.config().c_str(), off_t{1} << 40) == 0);
  CHECK_THAT(dir.error(), Catch::Contains("at most 4194304"));
  REQUIRE(::truncate(dir.config().c_str(), 0) == 0);
  CHECK_THAT(dir.error(), Catch::Contains("EOF"));
}

TEST_CASE("files without a size, as in /proc, are read whole") {
  const auto bytes = read_json_file(AT_FDCWD, "/proc/self/status", "status");
  REQUIRE(bytes);
  CHECK_THAT(*bytes, Catch::Contains("VmRSS"));
  const auto missing = read_json_file(AT_FDCWD, "/nowhere/x", "x");
  REQUIRE_FALSE(missing);
  CHECK(missing.error().text == "open x: no such file or directory");
}

}  // namespace
}  // namespace gantry
