#include "engine/supervisor/copy_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <optional>
#include <utility>

#include "engine/supervisor/copy_pace.h"
#include "io/readable.h"
#include "io/timer.h"

namespace gantry {

namespace {

constexpr int64_t kFirstRetryMs = 100;
constexpr int64_t kLastRetryMs = 5000;
constexpr int64_t kQuietMs = 1000;
constexpr int64_t kPauseMs = 1;
constexpr int kUsualPipe = 64 << 10;
constexpr int kBusyPipe = 1 << 20;

int64_t now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// The pipe of a stream, larger as long as there is much to copy.
class Room {
 public:
  explicit Room(int source) : source_(source) {}
  Room(const Room&) = delete;
  Room& operator=(const Room&) = delete;
  ~Room() {
    if (usual_ > 0) static_cast<void>(::fcntl(source_, F_SETPIPE_SZ, usual_));
  }

  /// A terminal refuses, and so may a limit: then it stays as it is.
  void grow() {
    if (std::exchange(tried_, true)) return;
    const int usual = ::fcntl(source_, F_GETPIPE_SZ);
    if (usual > kUsualPipe) bytes_ = static_cast<uint64_t>(usual);
    if (usual <= 0 || usual >= kBusyPipe || ::fcntl(source_, F_SETPIPE_SZ, kBusyPipe) < kBusyPipe) return;
    usual_ = usual;
    bytes_ = kBusyPipe;
  }
  uint64_t bytes() const { return bytes_; }

 private:
  int source_;
  int usual_ = 0;  ///< to go back to
  uint64_t bytes_ = kUsualPipe;
  bool tried_ = false;
};

/// Counts a stream that writes as fast as it is read.
class Flood {
 public:
  explicit Flood(Copier& copier) : copier_(copier) {}
  Flood(const Flood&) = delete;
  Flood& operator=(const Flood&) = delete;
  ~Flood() { set(false); }

  void set(bool flooding) {
    if (flooding_ == flooding) return;
    flooding_ = flooding;
    copier_.floods() += flooding ? 1U : -1U;
  }

 private:
  Copier& copier_;
  bool flooding_ = false;
};

/// What a pipe holds; nothing for what is no pipe.
std::optional<uint64_t> bytes_in_pipe(int fd) {
  struct stat about{};
  int bytes = 0;
  if (::fstat(fd, &about) != 0 || !S_ISFIFO(about.st_mode) || ::ioctl(fd, FIONREAD, &bytes) != 0) return std::nullopt;
  return static_cast<uint64_t>(bytes);
}

/// What copying came to.
enum class Rest : uint8_t { kEnd, kQuiet, kCancelled };

Rest cancelled_or(io::Wake wake, Rest other) {
  return wake == io::Wake::kCancelled ? Rest::kCancelled : other;
}

/// The server behind an open file has gone: by its name it may be found again.
bool is_cut_off(const Error& why) {
  return why.sys_errno == ENOTCONN || why.sys_errno == ESTALE || why.sys_errno == ECONNABORTED;
}

/// Copies until the end of the stream, or until nothing has come for a while: then the log is closed.
[[gnu::noinline]] io::Task<Result<Rest>> copy_until_quiet(io::Loop& loop, Copier& copier, StreamId id, int source,
                                                          LogFile& log) {
  int64_t retry_ms = kFirstRetryMs;
  uint64_t offset = copier.progress(id).offset;
  Room room(source);
  CopyPace pace(offset);
  Flood flood(copier);
  for (;;) {
    io::Wake wake = co_await io::yield_now(loop);
    if (wake == io::Wake::kCancelled) co_return Rest::kCancelled;
    GANTRY_CO_LET(const Copier::Moved moved, copier.step(id, source, log));
    if (moved == Copier::Moved::kEnd) co_return Rest::kEnd;
    if (moved == Copier::Moved::kStalled) {
      flood.set(false);
      if (is_cut_off(copier.stall())) log.release();
      const io::Deadline later = io::Deadline::in_ms(retry_ms);
      wake = co_await io::sleep_until(loop, later);
      if (wake == io::Wake::kCancelled) co_return Rest::kCancelled;
      retry_ms = std::min(retry_ms * 2, kLastRetryMs);
      continue;
    }
    retry_ms = kFirstRetryMs;
    const uint64_t before = std::exchange(offset, copier.progress(id).offset);
    flood.set(offset - before >= kSmallBatch);
    if (offset - before >= kSmallBatch) {
      room.grow();
      continue;
    }
    if (pace.busy(now_ns(), offset)) room.grow();
    if (pace.pause(room.bytes())) {
      const io::Deadline soon = io::Deadline::in_ms(kPauseMs);
      wake = co_await io::sleep_until(loop, soon);
      if (wake == io::Wake::kCancelled) co_return Rest::kCancelled;
      continue;
    }
    if (moved == Copier::Moved::kBytes) continue;
    if (!log.is_open()) co_return Rest::kQuiet;
    const io::Deadline quiet = io::Deadline::in_ms(kQuietMs);
    wake = co_await io::wait_fd(loop, source, POLLIN, quiet);
    if (wake != io::Wake::kReady) {
      if (wake == io::Wake::kTimeout) log.release();
      co_return cancelled_or(wake, Rest::kQuiet);
    }
    pace.woken(now_ns(), offset);
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
  // A terminal does not count what is still on its way through the line discipline; reading does see it.
  const bool counts = bytes_in_pipe(source).has_value();
  std::optional<uint64_t> target;
  for (;;) {
    // A batch that waits for the log is in no offset yet: not before that is written.
    if (counts && !target && !copier.stalled(id.slot))
      target = copier.progress(id).offset + bytes_in_pipe(source).value_or(0);
    GANTRY_CO_LET(const Copier::Moved moved, copier.step(id, source, log));
    if (moved == Copier::Moved::kEnd || moved == Copier::Moved::kNothing) co_return true;
    if (moved == Copier::Moved::kStalled) {
      if (deadline.expired()) co_return false;
      const io::Deadline soon = io::Deadline::in_ms(kFirstRetryMs).or_sooner(deadline);
      const io::Wake wake = co_await io::sleep_until(loop, soon);
      if (wake == io::Wake::kCancelled) co_return false;
      continue;
    }
    if (!counts && deadline.expired()) co_return false;
    if (target && copier.progress(id).offset >= *target && !copier.stalled(id.slot)) co_return true;
    const io::Wake wake = co_await io::yield_now(loop);
    if (wake == io::Wake::kCancelled) co_return false;
  }
}

}  // namespace gantry
