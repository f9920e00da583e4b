#include "tests/integration/seam/remote.h"

#include "io/stream.h"
#include "sys/text.h"

namespace gantry::seam {
namespace {

constexpr int64_t kAnswerMs = 10'000;

}  // namespace

io::Task<Result<>> FosterLink::listen() {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    Message message;
    std::vector<sys::Fd> fds;
    const std::span<std::byte> buffer = std::as_writable_bytes(std::span(&message, 1));
    Result<size_t> got = co_await io::recv_msg(loop_, socket_.get(), buffer, fds, never);
    if (!got && io::is_cancelled(got.error())) co_return Result<>();
    Result<> taken = fail("the foster has gone away");
    if (!got) {
      taken = forward(std::move(got));
    } else if (*got == sizeof message) {
      taken = take(message, std::move(fds));
    }
    if (taken) continue;
    give_up(taken.error());
    co_return taken;
  }
}

Result<> FosterLink::take(const Message& message, std::vector<sys::Fd> fds) {
  if (message.kind == Kind::kExit) {
    take_exit(message);
    return {};
  }
  const auto asked = asked_.find(message.serial);
  if (message.kind != Kind::kSpawned || asked == asked_.end()) return fail("the foster answers what nobody asked");
  if (message.err != 0) {
    asked->second->child = fail_errno(message.err, "foster: spawn_launcher");
  } else {
    if (fds.size() != 1) return fail("the foster's answer has no pidfd");
    asked->second->child = sys::Child{message.pid, std::move(fds.front())};
    ++spawned_;
  }
  asked->second->answered.set();
  return {};
}

void FosterLink::take_exit(const Message& message) {
  const ExitStatus status{message.code, message.signal};
  if (const auto waiting = waiting_.find(message.pid); waiting != waiting_.end()) {
    waiting->second->status = status;
    waiting->second->ended.set();
    waiting_.erase(waiting);
    return;
  }
  ended_[message.pid].push_back(status);
}

void FosterLink::give_up(const Error& why) {
  broken_ = why;
  for (auto& [serial, asked] : asked_) {
    asked->child = std::unexpected(why);
    asked->answered.set();
  }
  for (auto& [pid, waiting] : waiting_) {
    waiting->status = std::unexpected(why);
    waiting->ended.set();
  }
  waiting_.clear();
}

io::Task<Result<>> FosterLink::request(const sys::SpawnFds& fds, uint32_t serial) {
  Message message;
  message.kind = Kind::kSpawn;
  message.serial = serial;
  message.has_sync = fds.sync >= 0 ? 1 : 0;
  std::vector<int> numbers(fds.stdio.begin(), fds.stdio.end());
  numbers.push_back(fds.plan);
  if (fds.sync >= 0) numbers.push_back(fds.sync);
  numbers.insert(numbers.end(), fds.slots.begin(), fds.slots.end());
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&message, 1));
  const std::span<const int> passed(numbers);
  const io::Deadline deadline = io::Deadline::in_ms(kAnswerMs);
  Result<> sent = co_await io::send_msg(loop_, socket_.get(), bytes, passed, deadline);
  co_return sent;
}

io::Task<Result<sys::Child>> FosterLink::ask(const sys::SpawnFds& fds) {
  if (broken_) co_return std::unexpected(*broken_);
  const uint32_t serial = ++serial_;
  Asked asked(loop_);
  asked_.emplace(serial, &asked);
  Result<> sent = co_await request(fds, serial);
  io::Wake wake = io::Wake::kReady;
  if (sent) {
    const io::Deadline deadline = io::Deadline::in_ms(kAnswerMs);
    wake = co_await asked.answered.wait(deadline);
  }
  asked_.erase(serial);
  if (!sent) co_return forward(std::move(sent), "foster");
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for the foster");
  co_return std::move(asked.child);
}

/// Shielded: between request and answer there may be a process, and somebody must know it. The answer is near.
io::Task<Result<sys::Child>> FosterLink::spawn(const sys::SpawnFds& fds) {
  io::Task<Result<sys::Child>> asking = ask(fds);
  Result<sys::Child> child = co_await io::shield(std::move(asking));
  co_return child;
}

io::Task<Result<ExitStatus>> FosterLink::wait(pid_t pid, io::Deadline deadline) {
  if (const auto early = ended_.find(pid); early != ended_.end()) {
    const ExitStatus status = early->second.front();
    early->second.pop_front();
    if (early->second.empty()) ended_.erase(early);
    ++early_exits_;
    co_return status;
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

}  // namespace gantry::seam
