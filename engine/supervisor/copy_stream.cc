#include "engine/supervisor/copy_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <utility>

#include "io/readable.h"
#include "io/timer.h"

namespace gantry {

namespace {

constexpr int64_t kFirstRetryMs = 100;
constexpr int64_t kLastRetryMs = 5000;
constexpr int64_t kQuietMs = 1000;
constexpr int64_t kPauseMs = 1;
/// Pipes of streams that write a lot grow to this.
constexpr int kBusyPipe = 1 << 20;

int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// When to let output come together: a container that writes line by line wakes us for each of them, which costs both
/// of us more than the copy. So a stream that does it within kBusyNs gets pauses of a millisecond or two, while its
/// pipe cannot become full meanwhile.
class Pace {
 public:
  /// A wait has ended.
  void woken(uint64_t offset) {
    const int64_t now = now_ns();
    busy_ = now - since_ < kBusyNs;
    since_ = now;
    offset_ = offset;
  }

  /// There is nothing to read at the moment: whether to pause rather than to wait.
  bool pause(uint64_t offset) {
    const int64_t now = now_ns();
    const int64_t passed = now - since_;
    const uint64_t bytes = offset - offset_;
    since_ = now;
    offset_ = offset;
    busy_ = busy_ && bytes > 0 && bytes < kMostPerMs * static_cast<uint64_t>(passed) / 1'000'000 + kMostPerMs / 2;
    return busy_;
  }

 private:
  static constexpr int64_t kBusyNs = 1'000'000;
  static constexpr uint64_t kMostPerMs = kBusyPipe / 4;

  int64_t since_ = 0;
  uint64_t offset_ = 0;
  bool busy_ = false;
};

/// What copying came to.
enum class Rest : uint8_t { kEnd, kQuiet, kCancelled };

Rest cancelled_or(io::Wake wake, Rest other) {
  return wake == io::Wake::kCancelled ? Rest::kCancelled : other;
}

/// Copies until the end of the stream, or until nothing has come for a while: then the log is closed.
[[gnu::noinline]] io::Task<Result<Rest>> copy_until_quiet(io::Loop& loop, Copier& copier, StreamId id, int source,
                                                          LogFile& log) {
  int64_t retry_ms = kFirstRetryMs;
  Pace pace;
  bool grown = false;
  for (;;) {
    io::Wake wake = co_await io::yield_now(loop);
    if (wake == io::Wake::kCancelled) co_return Rest::kCancelled;
    GANTRY_CO_LET(const Copier::Moved moved, copier.step(id, source, log));
    if (moved == Copier::Moved::kEnd) co_return Rest::kEnd;
    if (moved == Copier::Moved::kStalled) {
      const io::Deadline later = io::Deadline::in_ms(retry_ms);
      wake = co_await io::sleep_until(loop, later);
      if (wake == io::Wake::kCancelled) co_return Rest::kCancelled;
      retry_ms = std::min(retry_ms * 2, kLastRetryMs);
      continue;
    }
    retry_ms = kFirstRetryMs;
    if (moved == Copier::Moved::kBytes) continue;
    if (pace.pause(copier.progress(id).offset)) {
      // A terminal refuses, and so may a limit: then pauses are what they are.
      if (!std::exchange(grown, true)) static_cast<void>(::fcntl(source, F_SETPIPE_SZ, kBusyPipe));
      const io::Deadline soon = io::Deadline::in_ms(kPauseMs);
      wake = co_await io::sleep_until(loop, soon);
      if (wake == io::Wake::kCancelled) co_return Rest::kCancelled;
      continue;
    }
    if (!log.is_open()) co_return Rest::kQuiet;
    const io::Deadline quiet = io::Deadline::in_ms(kQuietMs);
    wake = co_await io::wait_fd(loop, source, POLLIN, quiet);
    if (wake != io::Wake::kReady) {
      if (wake == io::Wake::kTimeout) log.release();
      co_return cancelled_or(wake, Rest::kQuiet);
    }
    pace.woken(copier.progress(id).offset);
  }
}

}  // namespace

io::Task<Result<>> copy_stream(io::Loop& loop, Copier& copier, StreamId id, int source, LogFile& log) {
  for (;;) {
    GANTRY_CO_LET(const Rest rest, co_await copy_until_quiet(loop, copier, id, source, log));
    if (rest != Rest::kQuiet) co_return Result<>();
    const io::Deadline never = io::Deadline::never();
    const io::Wake wake = co_await io::wait_fd(loop, source, POLLIN, never);
    if (wake == io::Wake::kCancelled) co_return Result<>();
  }
}

StreamCopy::StreamCopy(io::Scope& scope, Copier& copier, StreamId id, int source, LogFile& log, Failed failed)
    : FdWatch(scope.loop(), source, POLLIN),
      scope_(scope),
      copier_(copier),
      log_(log),
      failed_(failed),
      id_(id),
      source_(source) {}

void StreamCopy::copy_now() {
  stop();
  scope_.spawn(copy());
}

io::Task<> StreamCopy::copy() {
  io::Loop& loop = scope_.loop();
  const Result<Rest> rest = co_await copy_until_quiet(loop, copier_, id_, source_, log_);
  if (!rest && !io::is_cancelled(rest.error())) failed_(rest.error());
  if (rest && *rest == Rest::kQuiet) start();
}

io::Task<Result<bool>> drain_stream(io::Loop& loop, Copier& copier, StreamId id, int source, LogFile& log,
                                    io::Deadline deadline) {
  int left = 0;
  struct stat about{};
  // A terminal does not count what is still on its way through the line discipline; reading does see it.
  const bool known = ::fstat(source, &about) == 0 && S_ISFIFO(about.st_mode) && ::ioctl(source, FIONREAD, &left) == 0;
  const uint64_t target = copier.progress(id).offset + static_cast<uint64_t>(left);
  for (;;) {
    GANTRY_CO_LET(const Copier::Moved moved, copier.step(id, source, log));
    if (moved == Copier::Moved::kEnd || moved == Copier::Moved::kNothing) co_return true;
    if (moved == Copier::Moved::kStalled) {
      if (deadline.expired()) co_return false;
      const io::Deadline soon = io::Deadline::in_ms(kFirstRetryMs).or_sooner(deadline);
      const io::Wake wake = co_await io::sleep_until(loop, soon);
      if (wake == io::Wake::kCancelled) co_return false;
      continue;
    }
    if (!known && deadline.expired()) co_return false;
    if (known && copier.progress(id).offset >= target && !copier.stalled(id.slot)) co_return true;
    const io::Wake wake = co_await io::yield_now(loop);
    if (wake == io::Wake::kCancelled) co_return false;
  }
}

}  // namespace gantry
