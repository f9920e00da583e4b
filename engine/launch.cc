#include "engine/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "io/scope.h"
#include "io/watch.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

// A mount source on a slow network may take its time; a peer that is dead is seen at once through EOF.
constexpr int64_t kSetupLimitMs = 300'000;
// A launcher has nothing to do any more but exit.
constexpr int64_t kReapLimitMs = 10'000;
// What SIGKILL does not end by then is kept by the kernel, in a mount source that does not answer.
constexpr int64_t kKillLimitMs = 3'000;

/// One launch in progress.
struct Launching {
  Env& env;
  LaunchHandler& handler;
  const sys::SpawnFds& fds;
  Dialogue dialogue;
  sys::Child launcher;
  sys::Child process;
  int listener = -1;
};

/// Who is gone cannot be sent to or asked; why it went is in the socket.
io::Task<Result<>> cause_of(Launching& now, Result<> failed) {
  const int why = failed.error().sys_errno;
  if (why != EPIPE && why != ECONNRESET && why != ESRCH) co_return failed;
  const io::Deadline soon = io::Deadline::in_ms(kReapLimitMs);
  Result<SyncEvent> said = co_await now.dialogue.next(now.env.loop, soon);
  if (said) co_return failed;
  co_return forward(std::move(said));
}

io::Task<Result<>> take_init(Launching& now, SyncEvent event) {
  if (event.fds.size() != 1) co_return fail("sync protocol: Born without exactly one pidfd");
  now.process.pid = static_cast<pid_t>(event.arg);
  now.process.pidfd = std::move(event.fds.front());
  Result<> born = now.handler.born(now.process);
  pollfd polled{now.process.pidfd.get(), POLLIN, 0};
  if (born || ::poll(&polled, 1, 0) != 1) co_return born;
  // Of a process that has ended already nothing can be read; what it said before is the reason.
  born = std::unexpected(Error{born.error().text, ESRCH});
  Result<> cause = co_await cause_of(now, std::move(born));
  co_return cause;
}

io::Task<Result<>> commit(Launching& now) {
  Result<> done = co_await now.dialogue.send(now.env.loop, init::Tag::kCommit);
  if (done) done = co_await now.handler.committed(now.process, now.listener);
  if (done) co_return done;
  Result<> cause = co_await cause_of(now, std::move(done));
  co_return cause;
}

io::Task<Result<>> handle(Launching& now, SyncEvent event) {
  io::Loop& loop = now.env.loop;
  switch (event.action) {
    case SyncAction::kTakeInit: {
      Result<> taken = co_await take_init(now, std::move(event));
      co_return taken;
    }
    case SyncAction::kWriteMaps: {
      GANTRY_CO_TRY(now.handler.write_maps(now.process));
      Result<> sent = co_await now.dialogue.send(loop, init::Tag::kGo);
      co_return sent;
    }
    case SyncAction::kRunHooks: {
      const auto point = static_cast<init::HookPoint>(event.arg);
      GANTRY_CO_TRY(co_await now.handler.run_hooks(point, now.process));
      Result<> sent = co_await now.dialogue.send(loop, init::Tag::kGo);
      co_return sent;
    }
    case SyncAction::kNoteListener:
      now.listener = static_cast<int>(event.arg);
      co_return Result<>();
    case SyncAction::kCommit: {
      GANTRY_CO_TRY(co_await now.handler.ready(now.process));
      Result<> done = co_await commit(now);
      co_return done;
    }
    default:
      co_return fail("sync protocol: unexpected event");
  }
}

/// An init that dies is the end, even while its launcher hangs in a mount source and keeps the socket open.
io::Task<> end_with_init(Launching& now) {
  const io::Deadline never = io::Deadline::never();
  const io::Wake wake = co_await io::wait_pidfd(now.env.loop, now.process.pidfd.get(), never);
  if (wake == io::Wake::kReady) now.dialogue.end_input();
}

io::Task<Result<>> converse(Launching& now) {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope watch(now.env.loop, inherited);
  // A Spawner whose parent is another process may not know of the requirement.
  if (now.fds.cgroup_required && now.fds.cgroup >= 0 && !now.launcher.in_cgroup)
    co_return fail_errno(EBUSY, "error adding process to cgroups: clone3");
  // While the kernel executes the launcher. It holds its end of the socket, or we do: nothing can be refused yet.
  Result<> greeted = co_await now.handler.spawned(now.dialogue, now.launcher.in_cgroup);
  const bool ahead = now.handler.commits_ahead();
  if (greeted && ahead) greeted = co_await now.dialogue.send(now.env.loop, init::Tag::kCommit);
  Result<> executed = co_await now.env.spawner.executed(now.fds, now.launcher);
  if (!executed) co_return executed;
  now.dialogue.close_child_end();
  if (!greeted) {
    Result<> cause = co_await cause_of(now, std::move(greeted));
    co_return cause;
  }
  const io::Deadline deadline = io::Deadline::in_ms(kSetupLimitMs);
  // Nobody waits for us then: one turn for all that they say.
  if (ahead) GANTRY_CO_TRY(co_await now.dialogue.ended(now.env.loop, deadline));
  for (;;) {
    GANTRY_CO_LET(SyncEvent event, co_await now.dialogue.next(now.env.loop, deadline));
    if (event.finished) co_return Result<>();
    const bool born = event.action == SyncAction::kTakeInit;
    GANTRY_CO_TRY(co_await handle(now, std::move(event)));
    // A launcher with a Plan that commits ahead has nothing to hang in.
    if (born && !ahead) watch.spawn(end_with_init(now));
  }
}

/// How the process ended, for a failure that came without words.
std::string obituary(const ExitStatus& status) {
  if (status.signal != 0) return cat("init was killed by signal ", status.signal);
  return cat("init exited with status ", status.code);
}

io::Task<Result<>> reap_launcher(Launching& now, int64_t limit_ms) {
  const io::Deadline deadline = io::Deadline::in_ms(limit_ms);
  Result<ExitStatus> status = co_await now.env.exits.wait(now.launcher.pid, now.launcher.pidfd.get(), deadline);
  if (!status) co_return forward(std::move(status), "launcher");
  co_return Result<>();
}

/// Without an init the launcher may hang in something uninterruptible; with one it leaves by itself.
io::Task<> end_launcher(Launching& now) {
  if (!now.launcher.pidfd) co_return;  // it could not be executed
  (void)sys::pidfd_signal(now.launcher.pidfd, SIGKILL);
  Result<> reaped = co_await reap_launcher(now, kKillLimitMs);
  if (!reaped) log_warning(reaped.error().text);
}

io::Task<Error> abandon(Launching& now, Error why) {
  const bool silent = why.sys_errno == ECONNRESET;
  const bool unborn = !now.process.pidfd;
  if (unborn) {
    // Nothing is born any more once the launcher is dead; what was born before is in the socket.
    co_await end_launcher(now);
    std::optional<sys::Child> unheard = co_await now.dialogue.unheard_birth(now.env.loop);
    if (unheard) now.process = std::move(*unheard);
  }
  now.dialogue.hang_up();
  if (now.process.pidfd) {
    (void)sys::pidfd_signal(now.process.pidfd, SIGKILL);
    const io::Deadline deadline = io::Deadline::in_ms(kKillLimitMs);
    Result<ExitStatus> status = co_await now.env.exits.wait(now.process.pid, now.process.pidfd.get(), deadline);
    if (silent && status) why.text.append(": ").append(obituary(*status));
  }
  if (!unborn) co_await end_launcher(now);
  co_return why;
}

}  // namespace

io::Task<Result<>> LaunchHandler::spawned(Dialogue& dialogue, bool in_cgroup) {
  co_return Result<>();
}
Result<> LaunchHandler::born(const sys::Child& process) {
  return {};
}
Result<> LaunchHandler::write_maps(const sys::Child& process) {
  return fail("sync protocol: MapsPlease without a user namespace");
}
io::Task<Result<>> LaunchHandler::run_hooks(init::HookPoint point, const sys::Child& process) {
  co_return fail("sync protocol: HooksPlease without hooks");
}
io::Task<Result<>> LaunchHandler::ready(const sys::Child& process) {
  co_return Result<>();
}
io::Task<Result<>> LaunchHandler::committed(const sys::Child& process, int listener) {
  co_return Result<>();
}

io::Task<Result<sys::Child>> launch(Env& env, LaunchRequest request, LaunchHandler& handler) {
  GANTRY_CO_LET(const sys::Fd plan, memfd_with("gantry-plan", request.plan));
  GANTRY_CO_LET(Dialogue dialogue, Dialogue::open(std::move(request.plan)));
  sys::SpawnFds fds;
  fds.stdio = request.stdio;
  fds.sync = dialogue.child_end();
  fds.plan = plan.get();
  fds.slots = std::move(request.slots);
  fds.cgroup = request.cgroup;
  fds.cgroup_required = request.cgroup_required;
  GANTRY_CO_LET(sys::Child launcher, co_await env.spawner.spawn(fds));
  Launching now{env, handler, fds, std::move(dialogue), std::move(launcher), sys::Child(), -1};
  Result<> talked = co_await converse(now);
  if (!talked) {
    // Also when we were cancelled: what was started must not stay.
    io::Task<Error> undone = abandon(now, std::move(talked).error());
    Error why = co_await io::shield(std::move(undone));
    co_return std::unexpected(std::move(why));
  }
  io::Task<Result<>> reaping = reap_launcher(now, kReapLimitMs);
  Result<> reaped = co_await io::shield(std::move(reaping));
  if (!reaped) co_return forward(std::move(reaped));
  co_return std::move(now.process);
}

Result<sys::Fd> memfd_with(const char* name, std::string_view bytes) {
  // MFD_NOEXEC_SEAL would be right but needs 6.3; without a flag 6.3+ kernels only complain in the log.
  sys::Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "memfd_create");
  GANTRY_TRY(sys::write_all(fd, bytes));
  if (::lseek(fd.get(), 0, SEEK_SET) < 0) return fail_errno(errno, "lseek");
  return fd;
}

}  // namespace gantry
