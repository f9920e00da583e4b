// kill -9 of real copiers at random moments, hundreds of times; and the same for a naive copier, which must fail.
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <ctime>

#include "engine/supervisor/log_record.h"
#include "sys/text.h"
#include "tests/unit/copy_support.h"

namespace gantry::copy_test {
namespace {

/// A fork with a sanitizer's shadow memory takes longer than the copy.
#if defined(__SANITIZE_ADDRESS__)
constexpr unsigned kKills = 50;
#elif defined(__has_feature)
constexpr unsigned kKills = __has_feature(address_sanitizer) ? 50 : 500;
#else
constexpr unsigned kKills = 500;
#endif

constexpr size_t kTerminalOutput = size_t{1} << 18U;
constexpr size_t kOutput = size_t{3} << 17U;

/// A child that runs `work` and ends with its result.
template <class F>
pid_t start(F&& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::_exit(work());
  }
  return child;
}

/// The container: writes pieces of all sizes and waits when the pipe is full.
int write_output(int fd, const std::string& output, unsigned seed) {
  std::mt19937 random(seed);
  for (size_t at = 0; at < output.size();) {
    const size_t piece = std::min<size_t>(1 + random() % 9000, output.size() - at);
    const ssize_t count = ::write(fd, output.data() + at, piece);
    if (count <= 0) return 1;
    at += static_cast<size_t>(count);
  }
  return 0;
}

struct Setting {
  LogOptions options;
  int source;
  Copier::Descriptors kept;
};

constexpr int kEnded = 10;

int run_copier(const Setting& setting) {
  Result<Copier> copier = Copier::adopt(sys::Fd(setting.kept.journal), sys::Fd(setting.kept.staging_read),
                                        sys::Fd(setting.kept.staging_write));
  if (!copier) return 1;
  LogFile log(setting.options);
  if (!copier->recover([&log](unsigned) { return &log; })) return 2;
  for (;;) {
    const Result<Copier::Moved> moved = copier->step({3, 0}, setting.source, log);
    if (!moved || *moved == Copier::Moved::kStalled) return 3;
    if (*moved == Copier::Moved::kEnd) return kEnded;
    if (*moved == Copier::Moved::kNothing) {
      pollfd wait{setting.source, POLLIN, 0};
      ::poll(&wait, 1, -1);
    }
  }
}

/// What everybody writes first: read, format, write.
int run_naive(const Setting& setting) {
  LogFile log(setting.options);
  const Result<int> fd = log.descriptor();
  if (!fd) return 1;
  std::vector<char> data(kCopyBatch);
  std::vector<char> out(8 * kMaxRecord);
  for (;;) {
    const ssize_t count = ::read(setting.source, data.data(), data.size());
    if (count <= 0) return kEnded;
    BatchInput input;
    input.driver = setting.options.driver;
    input.data = std::string_view(data.data(), static_cast<size_t>(count));
    BatchFormatter formatter(input);
    while (const size_t size = formatter.fill(out)) {
      for (size_t done = 0; done < size;) {
        const ssize_t written = ::write(*fd, out.data() + done, size - done);
        if (written <= 0) return 1;
        done += static_cast<size_t>(written);
      }
    }
  }
}

/// Kills copier after copier until one reaches the end of the output; says how many it killed.
template <class F>
unsigned kill_until_end(F&& copier, std::mt19937& random) {
  unsigned kills = 0;
  for (;;) {
    const pid_t child = start(copier);
    const timespec life{0, static_cast<long>(random() % 500'000)};
    ::nanosleep(&life, nullptr);
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status)) {
      ++kills;
      continue;
    }
    REQUIRE(WEXITSTATUS(status) == kEnded);
    return kills;
  }
}

struct Round {
  unsigned kills = 0;
  std::string difference;
};

/// A terminal that changes no byte; its master side is the one to read.
Pipe make_terminal() {
  int master = -1;
  int slave = -1;
  REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
  Pipe terminal{sys::Fd(master), sys::Fd(slave)};
  termios raw{};
  REQUIRE(::tcgetattr(slave, &raw) == 0);
  ::cfmakeraw(&raw);
  REQUIRE(::tcsetattr(slave, TCSANOW, &raw) == 0);
  REQUIRE(::fcntl(master, F_SETFL, O_NONBLOCK) == 0);
  return terminal;
}

template <class F>
Round play(F&& run, LogDriver driver, unsigned seed, size_t size, Pipe pipe) {
  TempDir dir(TempDir::Where::kDisk);
  std::mt19937 random(seed);
  const std::string output = make_output(seed, size, seed % 2 == 0);
  const pid_t writer = start([&] {
    pipe.read.reset();
    return write_output(pipe.write.get(), output, seed);
  });
  pipe.write.reset();
  Result<Copier> first = Copier::make();
  REQUIRE(first);
  REQUIRE(first->open_slot(3));
  Setting setting{{}, pipe.read.get(), first->descriptors()};
  setting.options.driver = driver;
  setting.options.path = dir.file("log");
  setting.options.max_size = 128 << 10;
  setting.options.max_files = 100;
  Round round;
  round.kills = kill_until_end([&] { return run(setting); }, random);
  int status = 0;
  REQUIRE(::waitpid(writer, &status, 0) == writer);
  CHECK(status == 0);
  const Decoded got = decode_log(LogFile(setting.options), {output, ""});
  round.difference = difference(got.streams[0], output);
  if (round.difference.empty() && got.foreign + got.lost[0] != 0) round.difference = "foreign lines or losses";
  return round;
}

}  // namespace

TEST_CASE("no byte is lost or doubled by 500 kills") {
  unsigned kills = 0;
  for (unsigned seed = 1; kills < kKills; ++seed) {
    const Round round = play(run_copier, seed % 4 < 2 ? LogDriver::kCri : LogDriver::kJson, seed, kOutput, make_pipe());
    INFO("seed " << seed << ", after " << round.kills << " kills");
    REQUIRE(round.difference == "");
    kills += round.kills;
  }
}

TEST_CASE("nor of what goes through a terminal") {
  unsigned kills = 0;
  for (unsigned seed = 1; kills < kKills / 5; ++seed) {
    const Round round = play(run_copier, LogDriver::kCri, seed, kTerminalOutput, make_terminal());
    INFO("seed " << seed << ", after " << round.kills << " kills");
    REQUIRE(round.difference == "");
    kills += round.kills;
  }
}

TEST_CASE("the same test sees what a naive copier loses") {
  bool seen = false;
  for (unsigned seed = 1; !seen && seed < 50; ++seed)
    seen = !play(run_naive, LogDriver::kCri, seed, kOutput, make_pipe()).difference.empty();
  CHECK(seen);
}

}  // namespace gantry::copy_test
