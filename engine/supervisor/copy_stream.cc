#include "engine/supervisor/copy_stream.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>

#include "io/readable.h"
#include "io/timer.h"

namespace gantry {

namespace {

constexpr int64_t kFirstRetryMs = 100;
constexpr int64_t kLastRetryMs = 5000;
constexpr int64_t kQuietMs = 1000;

/// Waits for output, and closes a log that nobody writes to.
io::Task<io::Wake> wait_for_output(io::Loop& loop, int source, LogFile& log) {
  io::Wake wake = io::Wake::kTimeout;
  if (log.is_open()) {
    const io::Deadline quiet = io::Deadline::in_ms(kQuietMs);
    wake = co_await io::wait_fd(loop, source, POLLIN, quiet);
    if (wake != io::Wake::kTimeout) co_return wake;
    log.release();
  }
  const io::Deadline never = io::Deadline::never();
  wake = co_await io::wait_fd(loop, source, POLLIN, never);
  co_return wake;
}

}  // namespace

io::Task<Result<>> copy_stream(io::Loop& loop, Copier& copier, StreamId id, int source, LogFile& log) {
  int64_t retry_ms = kFirstRetryMs;
  for (;;) {
    io::Wake wake = co_await io::yield_now(loop);
    if (wake == io::Wake::kCancelled) co_return Result<>();
    GANTRY_CO_LET(const Copier::Moved moved, copier.step(id, source, log));
    if (moved == Copier::Moved::kEnd) co_return Result<>();
    if (moved == Copier::Moved::kStalled) {
      const io::Deadline later = io::Deadline::in_ms(retry_ms);
      wake = co_await io::sleep_until(loop, later);
      if (wake == io::Wake::kCancelled) co_return Result<>();
      retry_ms = std::min(retry_ms * 2, kLastRetryMs);
      continue;
    }
    retry_ms = kFirstRetryMs;
    if (moved == Copier::Moved::kBytes) continue;
    wake = co_await wait_for_output(loop, source, log);
    if (wake == io::Wake::kCancelled) co_return Result<>();
  }
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
