// The copier dies behind each of its system calls and each change of its journal, and somebody else goes on.
#include <fcntl.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <climits>
#include <optional>
#include <utility>

#include "sys/text.h"
#include "tests/unit/copy_support.h"

namespace gantry::copy_test {
namespace {

/// Thrown in the place of SIGKILL: what is left of a copier is what is in the memfd, the pipes and the files.
struct Died {};

/// System calls that can be the last ones, on a disk that can be full.
class MortalCalls final : public CopyCalls {
 public:
  int life = INT_MAX;   ///< calls until death
  bool torn = false;    ///< dies in the middle of a write or read rather than behind it
  size_t piece = 300;   ///< bytes spliced at once
  bool splices = true;  ///< false: as a kernel that cannot splice terminals
  uint64_t room = UINT64_MAX;
  bool creates = true;
  unsigned failures = 0;

  void journaled() override { count(); }
  ssize_t splice(int in, int out, size_t size) override {
    if (!splices) return counted(refuse<ssize_t>(EINVAL));
    return counted(CopyCalls::splice(in, out, std::min(size, piece)));
  }
  int bytes_in_pipe(int fd, int& bytes) override { return counted(CopyCalls::bytes_in_pipe(fd, bytes)); }
  ssize_t read(int fd, void* into, size_t size) override {
    // Another pipe read in two: as a packet pipe, or a fault in the copy, does it.
    if (torn && life == 1 && size > 1) size /= 2;
    return counted(CopyCalls::read(fd, into, splices ? size : std::min(size, piece)));
  }
  ssize_t write(int fd, const void* from, size_t size) override {
    if (room == 0) return counted(refuse<ssize_t>(ENOSPC));
    if (torn && life == 1 && size > 1) size /= 2;
    size = static_cast<size_t>(std::min<uint64_t>(size, room));
    if (room != UINT64_MAX) room -= size;
    return counted(CopyCalls::write(fd, from, size));
  }
  int fstat(int fd, struct stat& into) override { return counted(CopyCalls::fstat(fd, into)); }
  int lstat(const std::string& path, struct stat& into) override { return counted(CopyCalls::lstat(path, into)); }
  int open(const std::string& path, int flags, mode_t mode) override {
    struct stat there{};
    if (!creates && CopyCalls::lstat(path, there) != 0) return counted(refuse<int>(ENOSPC));
    return counted(CopyCalls::open(path, flags, mode));
  }
  int rename(const std::string& from, const std::string& to) override { return counted(CopyCalls::rename(from, to)); }
  int unlink(const std::string& path) override { return counted(CopyCalls::unlink(path)); }
  int ftruncate(int fd, off_t size) override { return counted(CopyCalls::ftruncate(fd, size)); }
  int fallocate(int fd, int mode, off_t at, off_t size) override {
    return counted(CopyCalls::fallocate(fd, mode, at, size));
  }
  void now(int64_t& seconds, int32_t& nanoseconds) override {
    seconds = 1787142896;
    nanoseconds = 123456789;
  }

 private:
  template <class T>
  T refuse(int err) {
    ++failures;
    errno = err;
    return -1;
  }
  template <class T>
  T counted(T result) {
    const int err = errno;
    count();
    errno = err;
    return result;
  }
  void count() {
    if (--life == 0) throw Died();
  }
};

struct Scenario {
  const char* name;
  LogOptions options;
  bool torn = false;
  bool splices = true;
  uint64_t room = UINT64_MAX;  ///< bytes until the disk is full; there is room again after a stall or some failures
  bool creates = true;
  bool heals = false;  ///< there is room again when a copier has died
};

/// One container whose supervisor dies and comes back.
class Stage {
 public:
  explicit Stage(const Scenario& scenario) : scenario_(scenario), options_(scenario.options) {
    options_.path = dir_.file("sub/container.log");
    expected_ = {make_text(0), make_text(1)};
    for (size_t i = 0; i < 2; ++i) {
      Pipe pipe = make_pipe();
      REQUIRE(::write(pipe.write.get(), expected_[i].data(), expected_[i].size()) ==
              static_cast<ssize_t>(expected_[i].size()));
      sources_[i] = std::move(pipe.read);
    }
    calls_.torn = scenario.torn;
    calls_.splices = scenario.splices;
    calls_.room = scenario.room;
    calls_.creates = scenario.creates;
    Result<Copier> copier = Copier::make();
    REQUIRE(copier);
    REQUIRE(copier->open_slot(7));
    const Copier::Descriptors fds = copier->descriptors();
    kept_ = {duplicate(fds.journal), duplicate(fds.staging_read), duplicate(fds.staging_write)};
  }

  /// True if it came to the end of both streams within `calls`.
  bool live(int calls) {
    calls_.life = calls;
    try {
      run();
      return true;
    } catch (const Died&) {
      return false;
    }
  }

  void check() {
    calls_.life = INT_MAX;
    const Decoded got = decode_log(LogFile(options_), expected_);
    INFO(scenario_.name);
    CHECK(got.foreign == 0);
    if (options_.max_size != 0 && options_.max_files < 10) {
      // The oldest files are gone; the others follow each other without a gap.
      CHECK(expected_[0].ends_with(got.streams[0]));
      CHECK(expected_[1].ends_with(got.streams[1]));
      CHECK(got.streams[0].size() + got.streams[1].size() > (options_.max_files == 1 ? 100 : 300));
      return;
    }
    CHECK(difference(got.streams[0], expected_[0]) == "");
    CHECK(difference(got.streams[1], expected_[1]) == "");
    if (options_.on_full == OnFull::kBlock) {
      CHECK(got.lost[0] + got.lost[1] == 0);
      CHECK(got.ends == std::array<unsigned, 2>{1, 0});
    }
    lost_ = got.lost[0] + got.lost[1];
  }
  uint64_t lost() const { return lost_; }
  unsigned failures() const { return calls_.failures; }

 private:
  static std::string make_text(unsigned stream) {
    std::string text;
    for (int i = 0; i < 6; ++i) text += cat("stream ", stream, " line ", i, std::string(70, '.'), "\xff\n\n");
    if (stream == 0) text += std::string(350, 'x') + "unfinished";
    return text;
  }
  static sys::Fd duplicate(int fd) {
    sys::Fd out(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    REQUIRE(out);
    return out;
  }

  void run() {
    if (std::exchange(born_, true) && scenario_.heals) {
      calls_.room = UINT64_MAX;
      calls_.creates = true;
    }
    Result<Copier> adopted = Copier::adopt(kept_[0].duplicate(), kept_[1].duplicate(), kept_[2].duplicate(), calls_);
    REQUIRE(adopted);
    LogFile log(options_, calls_);
    const Result<> prepared = log.prepare();
    Result<> recovered = adopted->recover([&log](unsigned slot) { return slot == 7 ? &log : nullptr; });
    if (!recovered) FAIL(recovered.error().text);
    std::array<bool, 2> ended{};
    while (!ended[0] || !ended[1]) {
      for (uint8_t stream = 0; stream < 2; ++stream) {
        const Result<Copier::Moved> moved = adopted->step(StreamId{7, stream}, sources_[stream].get(), log);
        if (!moved) FAIL(moved.error().text);
        if (*moved == Copier::Moved::kEnd) ended[stream] = true;
        if (*moved == Copier::Moved::kStalled || calls_.failures > 3) {
          calls_.room = UINT64_MAX;
          calls_.creates = true;
        }
      }
    }
  }

  Scenario scenario_;
  TempDir dir_;
  LogOptions options_;
  std::array<std::string, 2> expected_;
  std::array<sys::Fd, 2> sources_;
  std::array<sys::Fd, 3> kept_;
  MortalCalls calls_;
  uint64_t lost_ = 0;
  bool born_ = false;
};

LogOptions options(LogDriver driver, uint64_t max_size, unsigned max_files, OnFull on_full) {
  LogOptions out;
  out.driver = driver;
  out.max_size = max_size;
  out.max_files = max_files;
  out.on_full = on_full;
  return out;
}

/// Dies once behind call 1, 2, 3, ... until it lives long enough to end; then again and again in short lives.
void step_through(const Scenario& scenario) {
  int deaths = 0;
  for (int calls = 1;; ++calls) {
    Stage stage(scenario);
    INFO(scenario.name << ": dies once behind call " << calls);
    const bool ended = stage.live(calls);
    if (!ended) {
      REQUIRE(stage.live(INT_MAX));
      ++deaths;
    }
    stage.check();
    if (ended) break;
  }
  CHECK(deaths > 50);
  for (const int calls : {23, 29, 31, 37, 43, 59}) {
    Stage stage(scenario);
    INFO(scenario.name << ": dies each time behind call " << calls);
    int lives = 1;
    while (!stage.live(calls) && lives < 1000) ++lives;
    CHECK(lives > 1);
    CHECK(lives < 1000);
    stage.check();
  }
}

}  // namespace

TEST_CASE("a copier may die behind any system call of a batch") {
  for (const LogDriver driver : {LogDriver::kCri, LogDriver::kJson}) {
    step_through({"plain", options(driver, 0, 4, OnFull::kBlock)});
    step_through({"torn", options(driver, 0, 4, OnFull::kBlock), true});
  }
}

TEST_CASE("a copier may die behind any system call of a rotation") {
  step_through({"rotation", options(LogDriver::kCri, 700, 20, OnFull::kBlock)});
  step_through({"few files", options(LogDriver::kCri, 700, 3, OnFull::kBlock)});
  step_through({"one file", options(LogDriver::kCri, 700, 1, OnFull::kBlock)});
  step_through({"torn rotation", options(LogDriver::kJson, 700, 20, OnFull::kBlock), true});
}

TEST_CASE("a copier may die while the log takes no bytes") {
  step_through({"full", options(LogDriver::kCri, 0, 4, OnFull::kBlock), false, true, 500});
  step_through({"full at once", options(LogDriver::kJson, 0, 4, OnFull::kBlock), false, true, 0});
  const LogOptions rotated = options(LogDriver::kCri, 700, 20, OnFull::kBlock);
  step_through({"full in a rotation", rotated, false, true, 900, false});
  step_through({"full in a rotation until a death", rotated, false, true, 900, false, true});
}

TEST_CASE("a copier that may drop says how much, whenever it dies") {
  const Scenario scenario{"drop", options(LogDriver::kCri, 0, 4, OnFull::kDrop), false, true, 500};
  step_through(scenario);
  step_through({"drop, torn, json", options(LogDriver::kJson, 0, 4, OnFull::kDrop), true, true, 500});
  Stage once(scenario);
  REQUIRE(once.live(INT_MAX));
  once.check();
  CHECK(once.failures() > 0);
  CHECK(once.lost() > 0);
}

TEST_CASE("a terminal that cannot be spliced is read without loss") {
  step_through({"direct", options(LogDriver::kCri, 0, 4, OnFull::kBlock), false, false});
}

}  // namespace gantry::copy_test
