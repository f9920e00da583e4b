// Hundreds of real processes on one loop: admitted a few at a time, watched by pidfd, some limited by deadlines, some
// cancelled, all reaped.
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "io/scope.h"
#include "io/signal.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io/watch.h"
#include "io_support.h"

namespace gantry::io {
namespace {

using std::chrono::milliseconds;

/// What a child does before it exits with `code`.
struct Work {
  int sleep_ms = 0;  // less than zero: until somebody kills it
  int write_to = -1;
  size_t write_bytes = 0;
  int code = 0;
};

/// Runs in the child, a copy of the test: system calls only.
[[noreturn]] void child_main(const Work& work) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  char block[512] = {};
  for (size_t left = work.write_bytes; left > 0;) {
    const ssize_t put = ::write(work.write_to, block, left < sizeof block ? left : sizeof block);
    if (put <= 0) break;
    left -= static_cast<size_t>(put);
  }
  const timespec span{work.sleep_ms < 0 ? 60 : 0, work.sleep_ms < 0 ? 0 : work.sleep_ms * 1'000'000L};
  ::nanosleep(&span, nullptr);
  ::syscall(SYS_exit_group, work.code);
  __builtin_unreachable();
}

Result<sys::Fd> start(const Work& work) {
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD | CLONE_CLEAR_SIGHAND;  // the parent's handlers are not for the child
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return fail_errno(errno, "clone3");
  if (pid == 0) {
    // The parent's Signals have blocked what the child is to die of.
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    child_main(work);
  }
  return sys::Fd(pidfd);
}

/// The exit code, or minus the signal.
Result<int> reap(const sys::Fd& pidfd) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED) < 0) return fail_errno(errno, "waitid");
  return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

struct Tally {
  int exited = 0;
  int timed_out = 0;
  int cancelled = 0;
  int running = 0;
  int most = 0;
  size_t bytes = 0;
};

Task<Result<int>> put_down(Loop& loop, const sys::Fd& pidfd, int signo) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signo, nullptr, 0) < 0) co_return fail_errno(errno, "kill");
  const Deadline deadline = Deadline::in_ms(60'000);
  const Wake wake = co_await wait_pidfd(loop, pidfd.get(), deadline);
  if (wake != Wake::kReady) co_return fail_wake(wake, "waiting for a killed child");
  co_return reap(pidfd);
}

/// One child from birth to reaping, as a container will be.
Task<Result<>> tend(Loop& loop, Tally& tally, Work work, int64_t limit_ms) {
  GANTRY_CO_LET(const sys::Fd pidfd, start(work));
  tally.most = std::max(tally.most, ++tally.running);
  const Deadline deadline = limit_ms > 0 ? Deadline::in_ms(limit_ms) : Deadline::never();
  const Wake wake = co_await wait_pidfd(loop, pidfd.get(), deadline);
  int status = 0;
  if (wake == Wake::kReady) {
    GANTRY_CO_LET(status, reap(pidfd));
    ++tally.exited;
  } else {
    const int signo = wake == Wake::kTimeout ? SIGTERM : SIGKILL;
    Task<Result<int>> end = shield(put_down(loop, pidfd, signo));
    GANTRY_CO_LET(status, co_await std::move(end));
    if (status != -signo) co_return fail(cat("a killed child ended with ", status));
    ++(wake == Wake::kTimeout ? tally.timed_out : tally.cancelled);
  }
  --tally.running;
  if (wake == Wake::kReady && status != work.code) co_return fail(cat("exit code ", status, " is not ", work.code));
  co_return Result<>();
}

Task<Result<>> tend_admitted(Loop& loop, Semaphore& gate, Tally& tally, Work work, int64_t limit_ms) {
  const Deadline never = Deadline::never();
  GANTRY_CO_LET(const Semaphore::Permit permit, co_await gate.acquire(never));
  Result<> result = co_await tend(loop, tally, work, limit_ms);
  co_return std::move(result);
}

/// A child whose output is read to its end before it is reaped.
Task<Result<>> tend_talking(Loop& loop, Semaphore& gate, Tally& tally, size_t size) {
  const Deadline deadline = Deadline::in_ms(60'000);
  GANTRY_CO_LET(const Semaphore::Permit permit, co_await gate.acquire(deadline));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) co_return fail_errno(errno, "pipe");
  const sys::Fd from(ends[0]);
  sys::Fd to(ends[1]);
  Work work;
  work.write_to = to.get();
  work.write_bytes = size;
  GANTRY_CO_LET(const sys::Fd pidfd, start(work));
  to.reset();
  std::vector<std::byte> buffer(4096);
  for (;;) {
    GANTRY_CO_LET(const size_t got, co_await read_some(loop, from.get(), buffer, deadline));
    if (got == 0) break;
    tally.bytes += got;
  }
  const Wake wake = co_await wait_pidfd(loop, pidfd.get(), deadline);
  if (wake != Wake::kReady) co_return fail_wake(wake, "talking child");
  GANTRY_CO_TRY(reap(pidfd));
  ++tally.exited;
  co_return Result<>();
}

constexpr int kQuick = 160;
constexpr int kSlow = 120;
constexpr int kStuck = 60;
constexpr int kTalking = 40;
constexpr int kEndless = 60;
constexpr int kAdmitted = 48;
static_assert(kQuick + kSlow + kStuck + kTalking + kEndless >= 400);

Task<Result<>> mixed_crowd(Loop& loop, Semaphore& gate, Tally& tally) {
  Scope crowd(loop);
  for (int i = 0; i < kQuick; ++i) {
    Work work;
    work.code = i % 100;
    crowd.spawn(tend_admitted(loop, gate, tally, work, 60'000));
  }
  for (int i = 0; i < kSlow; ++i) {
    Work work;
    work.sleep_ms = 1 + i % 5;
    work.code = 7;
    crowd.spawn(tend_admitted(loop, gate, tally, work, 60'000));
  }
  for (int i = 0; i < kStuck; ++i) {
    Work work;
    work.sleep_ms = -1;
    crowd.spawn(tend_admitted(loop, gate, tally, work, 1 + i % 10));
  }
  for (int i = 0; i < kTalking; ++i) crowd.spawn(tend_talking(loop, gate, tally, 100'000));
  Result<> joined = co_await crowd.join();
  co_return std::move(joined);
}

Task<Result<>> endless_crowd(Loop& loop, Tally& tally) {
  Scope crowd(loop);
  for (int i = 0; i < kEndless; ++i) {
    Work work;
    work.sleep_ms = -1;
    crowd.spawn(tend(loop, tally, work, 0));
  }
  while (tally.running < kEndless) {
    const Wake wake = co_await sleep_for(loop, milliseconds(1));
    if (wake != Wake::kTimeout || crowd.active() < kEndless) break;
  }
  Result<> joined = co_await crowd.cancel_and_join();
  co_return std::move(joined);
}

Task<Result<>> both_crowds(Loop& loop, Semaphore& gate, Tally& mixed, Tally& endless) {
  Scope all(loop);
  all.spawn(mixed_crowd(loop, gate, mixed));
  all.spawn(endless_crowd(loop, endless));
  Result<> joined = co_await all.join();
  co_return std::move(joined);
}

TEST_CASE("hundreds of children on one loop: exits, deadlines, cancellation, and none left behind", "[io]") {
  Loop loop;
  const std::array terms{SIGTERM};
  Signals signals(loop, terms);
  Semaphore gate(loop, kAdmitted);
  Tally mixed;
  Tally endless;
  const Result<> result = loop.run(both_crowds(loop, gate, mixed, endless));
  INFO((result ? std::string() : result.error().text));
  REQUIRE(result);
  CHECK(mixed.exited == kQuick + kSlow + kTalking);
  CHECK(mixed.timed_out == kStuck);
  CHECK(mixed.cancelled == 0);
  CHECK(mixed.bytes == size_t{kTalking} * 100'000);
  CHECK(mixed.running == 0);
  CHECK(mixed.most <= kAdmitted);
  CHECK(mixed.most > 1);
  CHECK(gate.free() == kAdmitted);
  CHECK(endless.cancelled == kEndless);
  CHECK(endless.running == 0);
  // Every SIGTERM went to a child.
  CHECK(is_timeout(loop.run(signals.next(Deadline::in_ms(1))).error()));
  siginfo_t info{};
  CHECK(::waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE("a pidfd reports an exit that was before the wait, and stays so after reaping", "[io]") {
  Loop loop;
  const Result<sys::Fd> child = start(Work{});
  REQUIRE(child);
  CHECK(loop.run(wait_pidfd(loop, child->get(), Deadline::in_ms(60'000))) == Wake::kReady);
  CHECK(loop.run(wait_pidfd(loop, child->get(), Deadline::never())) == Wake::kReady);
  CHECK(reap(*child).value() == 0);
  CHECK(loop.run(wait_pidfd(loop, child->get(), Deadline::never())) == Wake::kReady);
}

}  // namespace
}  // namespace gantry::io
