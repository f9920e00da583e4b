#include "engine/supervisor/keeper_link.h"

#include <poll.h>

#include <chrono>
#include <csignal>

#include "engine/log.h"
#include "io/readable.h"
#include "io/scope.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io/watch.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

using init::KeeperFrame;
using init::KeeperTag;
using init::make_keeper_frame;

constexpr int64_t kAnswerMs = 10'000;
/// Between a message that could not be sent and the end of what the keeper has said.
constexpr int64_t kGoneMs = 1'000;
/// The kernel has no memory for a message now.
constexpr std::chrono::milliseconds kShortagePause(10);
/// Between the end of a process and the keeper's word about it.
constexpr int64_t kGraceMs = 2'000;
/// Between the end of a process and its reaping by somebody else: shorter than the patience of who kills. Before Linux
/// 6.9 nobody is woken by that.
constexpr int64_t kReapLimitMs = 8'000, kReapStepMs = 100;

bool passes(const Error& error) {
  return error.sys_errno != EMFILE && (is_shortage(error) || error.sys_errno == ETOOMANYREFS);
}

Error unknown_end(pid_t pid) {
  return Error{cat("process ", pid, " has ended, but nobody saw how"), ECHILD};
}

}  // namespace

// -- listening

io::Task<Result<>> KeeperLink::listen() {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    KeeperFrame frame{};
    std::vector<sys::Fd> fds;
    const std::span<std::byte> buffer = std::as_writable_bytes(std::span(&frame, 1));
    Result<size_t> got = co_await io::recv_msg(loop_, socket_.get(), buffer, fds, never);
    if (!got && io::is_cancelled(got.error())) co_return Result<>();
    if (!got && passes(got.error())) {
      (void)co_await io::sleep_for(loop_, kShortagePause);
      continue;
    }
    Result<> taken = fail("the keeper is gone");
    if (!got && got.error().sys_errno == EMFILE) {
      // The words came, but not the pidfd: what was started for it ends by itself, as nobody talks to it.
      if (frame.err == 0) frame.err = EMFILE;
      taken = take(frame, std::move(fds));
    } else if (!got) {
      taken = forward(std::move(got), "the keeper is gone");
    } else if (*got > 0) {
      const char* const wrong = init::check_keeper_frame(&frame, *got);
      taken = wrong != nullptr ? Result<>(fail(cat("the keeper says what cannot be understood: ", wrong)))
                               : take(frame, std::move(fds));
    }
    if (taken) continue;
    give_up(taken.error());
    co_return taken;
  }
}

Result<> KeeperLink::take(const KeeperFrame& frame, std::vector<sys::Fd> fds) {
  if (frame.tag == KeeperTag::kExited) {
    take_exit(frame);
    return {};
  }
  if (frame.tag == KeeperTag::kRefused) log_warning(cat("the keeper refuses a frame: ", errno_text(frame.err)));
  const auto asked = asked_.find(frame.serial);
  if (asked == asked_.end()) {
    // Nobody waits any more: whatever was started must not stay.
    if (frame.tag == KeeperTag::kSpawned && fds.size() == 1) (void)sys::pidfd_signal(fds.front(), SIGKILL);
    return {};
  }
  if (frame.tag == KeeperTag::kSpawned && frame.err == 0) forget(frame.pid);
  asked->second->answer = frame;
  asked->second->fds = std::move(fds);
  asked->second->answered.set();
  return {};
}

void KeeperLink::take_exit(const KeeperFrame& frame) {
  std::optional<ExitStatus> status;
  if ((frame.flags & init::kExitUnknown) == 0) status = ExitStatus{frame.code, frame.signal};
  const auto found = waiting_.find(frame.pid);
  if (found == waiting_.end()) return remember(frame.pid, status);
  Waiting& waiting = *found->second;
  waiting.status = status ? Result<ExitStatus>(*status) : std::unexpected(unknown_end(frame.pid));
  waiting.ended.set();
  waiting_.erase(found);
}

void KeeperLink::remember(pid_t pid, std::optional<ExitStatus> status) {
  early_.insert_or_assign(pid, Early{++early_count_, status});
  early_order_.emplace_back(pid, early_count_);
  if (early_order_.size() <= kMaxEarly) return;
  const auto [oldest, number] = early_order_.front();
  early_order_.pop_front();
  if (const auto found = early_.find(oldest); found != early_.end() && found->second.number == number)
    early_.erase(found);
}

void KeeperLink::give_up(const Error& why) {
  broken_ = why;
  for (auto& [serial, asked] : asked_) {
    asked->broken = why;
    asked->answered.set();
  }
  for (auto& [pid, waiting] : waiting_) {
    waiting->status = std::unexpected(why);
    waiting->ended.set();
  }
  waiting_.clear();
  gone_.set();
}

// -- asking

io::Task<Result<>> KeeperLink::send(KeeperFrame frame, std::vector<int> fds) {
  if (broken_) co_return std::unexpected(*broken_);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&frame, 1));
  const std::span<const int> passed(fds);
  const io::Deadline deadline = io::Deadline::in_ms(kAnswerMs);
  for (;;) {
    Result<> sent = co_await io::send_msg(loop_, socket_.get(), bytes, passed, deadline);
    if (sent) co_return sent;
    if (sent.error().sys_errno == EPIPE || sent.error().sys_errno == ECONNRESET) {
      // What it has said before is still being listened to.
      const io::Deadline soon = io::Deadline::in_ms(kGoneMs);
      (void)co_await gone_.wait(soon);
      co_return forward(std::move(sent), "the keeper is gone");
    }
    if (!passes(sent.error()) || deadline.expired()) co_return forward(std::move(sent), "keeper");
    const io::Wake wake = co_await io::sleep_for(loop_, kShortagePause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "keeper");
  }
}

io::Task<Result<>> KeeperLink::ask(Asked& asked, KeeperFrame frame, std::vector<int> fds) {
  frame.serial = ++serial_ != 0 ? serial_ : ++serial_;
  asked_.emplace(frame.serial, &asked);
  const uint32_t serial = frame.serial;
  Result<> sent = co_await send(frame, std::move(fds));
  io::Wake wake = io::Wake::kReady;
  if (sent) {
    const io::Deadline deadline = io::Deadline::in_ms(kAnswerMs);
    wake = co_await asked.answered.wait(deadline);
  }
  asked_.erase(serial);
  if (!sent) co_return sent;
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for the keeper");
  if (asked.broken) co_return std::unexpected(*asked.broken);
  co_return Result<>();
}

io::Task<Result<sys::Child>> KeeperLink::ask_spawn(const sys::SpawnFds& fds) {
  KeeperFrame frame = make_keeper_frame(KeeperTag::kSpawn);
  std::vector<int> numbers(fds.stdio.begin(), fds.stdio.end());
  numbers.push_back(fds.plan);
  if (fds.sync >= 0) {
    frame.flags |= init::kSpawnSync;
    numbers.push_back(fds.sync);
  }
  if (fds.cgroup >= 0) {
    frame.flags |= init::kSpawnInCgroup;
    numbers.push_back(fds.cgroup);
  }
  numbers.insert(numbers.end(), fds.slots.begin(), fds.slots.end());
  for (const int fd : numbers)
    if (fd < 0) co_return fail_errno(EBADF, "start of gantry-init");
  Asked asked(loop_);
  Result<> done = co_await ask(asked, frame, std::move(numbers));
  if (!done) co_return forward(std::move(done));
  const KeeperFrame& answer = asked.answer;
  if (answer.err != 0) co_return fail_errno(answer.err, "keeper: start of gantry-init");
  if (answer.tag != KeeperTag::kSpawned || asked.fds.size() != 1) co_return fail("the keeper's answer has no pidfd");
  co_return sys::Child{answer.pid, std::move(asked.fds.front()), (answer.flags & init::kSpawnInCgroup) != 0};
}

/// Shielded: between request and answer there may be a process, and somebody must know it.
io::Task<Result<sys::Child>> KeeperLink::spawn(const sys::SpawnFds& fds) {
  io::Task<Result<sys::Child>> asking = ask_spawn(fds);
  Result<sys::Child> child = co_await io::shield(std::move(asking));
  co_return child;
}

io::Task<Result<>> KeeperLink::ask_plain(KeeperFrame frame, std::vector<int> fds, std::string what) {
  Asked asked(loop_);
  Result<> done = co_await ask(asked, frame, std::move(fds));
  if (!done) co_return done;
  if (asked.answer.err != 0) co_return fail_errno(asked.answer.err, what);
  co_return Result<>();
}

io::Task<Result<>> KeeperLink::hold(KeeperHold request) {
  KeeperFrame frame = make_keeper_frame(KeeperTag::kHold);
  frame.slot = request.slot;
  frame.kind = request.kind;
  frame.owner = request.owner;
  frame.pid = request.pid;
  std::vector<int> numbers;
  for (uint32_t i = 0; i < init::kKeeperFds; ++i) {
    if (request.fds[i] < 0) continue;
    frame.mask |= 1u << i;
    numbers.push_back(request.fds[i]);
  }
  io::Task<Result<>> asking = ask_plain(frame, std::move(numbers), cat("keeper: hold in slot ", request.slot));
  Result<> done = co_await io::shield(std::move(asking));
  co_return done;
}

io::Task<Result<>> KeeperLink::release(uint32_t slot) {
  KeeperFrame frame = make_keeper_frame(KeeperTag::kRelease);
  frame.slot = slot;
  io::Task<Result<>> asking = ask_plain(frame, std::vector<int>(), cat("keeper: release of slot ", slot));
  Result<> done = co_await io::shield(std::move(asking));
  co_return done;
}

io::Task<Result<>> KeeperLink::notify(init::KeeperNotify what) {
  KeeperFrame frame = make_keeper_frame(KeeperTag::kNotify);
  frame.kind = static_cast<uint32_t>(what);
  Result<> sent = co_await send(frame, std::vector<int>());
  co_return sent;
}

io::Task<Result<>> KeeperLink::beat(std::chrono::nanoseconds patience) {
  KeeperFrame frame = make_keeper_frame(KeeperTag::kNotify);
  frame.kind = static_cast<uint32_t>(init::KeeperNotify::kWatchdog);
  frame.time = patience.count();
  Result<> sent = co_await send(frame, std::vector<int>());
  co_return sent;
}

io::Task<Result<>> KeeperLink::leave() {
  Result<> sent = co_await send(make_keeper_frame(KeeperTag::kLeave), std::vector<int>());
  co_return sent;
}

// -- exits

io::Task<Result<ExitStatus>> KeeperLink::wait(pid_t pid, io::Deadline deadline) {
  if (const auto early = early_.find(pid); early != early_.end()) {
    const std::optional<ExitStatus> status = early->second.status;
    early_.erase(early);
    if (!status) co_return std::unexpected(unknown_end(pid));
    co_return *status;
  }
  if (broken_) co_return std::unexpected(*broken_);
  Waiting waiting(loop_);
  if (!waiting_.emplace(pid, &waiting).second) co_return fail(cat("two wait for the exit of ", pid));
  const io::Wake wake = co_await waiting.ended.wait(deadline);
  const auto mine = waiting_.find(pid);
  if (mine != waiting_.end() && mine->second == &waiting) waiting_.erase(mine);
  // An exit that came in the same turn as the end of the wait is not lost.
  if (wake != io::Wake::kReady && !waiting.ended.is_set()) co_return io::fail_wake(wake, "waiting for a process");
  co_return std::move(waiting.status);
}

namespace {

/// Done when the process has ended and the keeper has had time to tell.
io::Task<Result<>> overdue(io::Loop& loop, int pidfd) {
  const io::Deadline never = io::Deadline::never();
  io::Wake wake = co_await io::wait_pidfd(loop, pidfd, never);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for a process");
  const std::chrono::milliseconds grace(kGraceMs);
  wake = co_await io::sleep_for(loop, grace);
  if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for a process");
  co_return Result<>();
}

}  // namespace

io::Task<Result<ExitStatus>> wait_for_stranger(io::Loop& loop, pid_t pid, int pidfd, io::Deadline deadline) {
  io::Wake wake = co_await io::wait_pidfd(loop, pidfd, deadline);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for a process");
  const io::Deadline limit = io::Deadline::in_ms(kReapLimitMs);
  for (;;) {
    if (const auto kept = sys::pidfd_exit(pidfd)) co_return ExitStatus{kept->code, kept->signal};
    if (limit.expired() || sys::pidfd_reaped(pidfd)) co_return std::unexpected(unknown_end(pid));
    const io::Deadline step = io::Deadline::in_ms(kReapStepMs);
    // Nothing but the hang-up, which cannot be asked for: the process was reaped.
    wake = co_await io::wait_fd(loop, pidfd, POLLPRI, step);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for a process");
  }
}

io::Task<Result<ExitStatus>> KeeperExits::wait(pid_t pid, int pidfd, io::Deadline deadline) {
  if (pidfd < 0) {
    Result<ExitStatus> told = co_await link_.wait(pid, deadline);
    co_return told;
  }
  // What is remembered under the number of a living process belongs to another one.
  if (!sys::pidfd_ended(pidfd)) link_.forget(pid);
  io::Task<Result<ExitStatus>> telling = link_.wait(pid, deadline);
  io::Task<Result<>> waiting = overdue(loop_, pidfd);
  auto raced = co_await io::race(loop_, std::move(telling), std::move(waiting));
  if (raced.a) co_return std::move(raced.a);
  // The keeper is gone, or the process was never its child: it belonged to the keeper before.
  if (!raced.b && (!link_.gone().is_set() || io::is_cancelled(raced.a.error()))) co_return std::move(raced.a);
  Result<ExitStatus> seen = co_await wait_for_stranger(loop_, pid, pidfd, deadline);
  co_return seen;
}

}  // namespace gantry
