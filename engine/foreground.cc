#include "engine/foreground.h"

#include <sys/wait.h>

#include <array>
#include <csignal>
#include <vector>

#include "engine/spawner.h"
#include "io/scope.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

// How long a terminal's output may go on after the process' end: something it left behind may hold the pty for ever.
constexpr int64_t kDrainMs = 300;

// A process that has not come by then may be kept from it.
constexpr int64_t kUsualLaunchMs = 1'000;

// All but SIGURG (as runc), the stop signals that cannot be caught, and what a fault of our own raises. SIGCHLD is not
// forwarded: it says that there may be an orphan to reap.
constexpr std::array kForwarded{SIGCHLD, SIGHUP,    SIGINT,  SIGQUIT, SIGUSR1,  SIGUSR2, SIGALRM,
                                SIGTERM, SIGCONT,   SIGTSTP, SIGTTIN, SIGTTOU,  SIGXCPU, SIGXFSZ,
                                SIGPIPE, SIGVTALRM, SIGPROF, SIGIO,   SIGWINCH, SIGPWR};

/// Reaps what the kernel has given us as a subreaper, but not the process attended: its status is the ExitSource's.
void reap_orphans(pid_t attended) {
  siginfo_t info{};
  while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0 && info.si_pid != attended)
    ::waitid(P_PID, static_cast<id_t>(info.si_pid), &info, WEXITED | WNOHANG);
}

io::Task<> forward_signals(io::Signals& signals, const sys::Child& process,
                           std::optional<ForegroundTerminal>& terminal) {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    Result<int> signo = co_await signals.next(never);
    if (!signo) co_return;
    if (*signo == SIGCHLD) {
      reap_orphans(process.pid);
    } else if (*signo != SIGWINCH) {
      (void)sys::pidfd_signal(process.pidfd, *signo);
    } else if (terminal) {
      terminal->resize();
    }
  }
}

/// Done when the process is long in coming and somebody wants the end. What was taken is in `kept`.
io::Task<Result<>> end_wanted(io::Loop& loop, io::Signals& signals, std::vector<int>& kept) {
  io::Wake wake = co_await io::sleep_for(loop, std::chrono::milliseconds(kUsualLaunchMs));
  const io::Deadline never = io::Deadline::never();
  while (wake != io::Wake::kCancelled) {
    GANTRY_CO_LET(const int signo, co_await signals.next(never));
    kept.push_back(signo);
    if (signo == SIGINT || signo == SIGTERM || signo == SIGHUP || signo == SIGQUIT) co_return Result<>();
  }
  co_return io::fail_wake(wake, "waiting for a signal");
}

io::Task<> relay_terminal(io::Loop& loop, ForegroundTerminal& terminal) {
  Result<> relayed = co_await terminal.relay(loop);
  if (!relayed && !io::is_cancelled(relayed.error())) log_warning(relayed.error().text);
}

}  // namespace

ForwardedSignals::ForwardedSignals(io::Loop& loop) : signals_(loop, kForwarded) {}

io::Task<Result<sys::Child>> launch_attended(Env& env, LaunchRequest request, LaunchHandler& handler,
                                             ForwardedSignals& forwarded) {
  std::vector<int> kept;
  io::Task<Result<sys::Child>> launching = launch(env, std::move(request), handler);
  io::Task<Result<>> waiting = end_wanted(env.loop, forwarded.signals(), kept);
  auto raced = co_await io::race(env.loop, std::move(launching), std::move(waiting));
  if (!raced.a && raced.b && io::is_cancelled(raced.a.error()))
    co_return std::unexpected(Error{cat("interrupted by signal ", kept.back()), EINTR});
  for (const int signo : kept) (void)std::raise(signo);  // caught again, and forwarded then
  co_return std::move(raced.a);
}

io::Task<Result<int>> attend(Env& env, const sys::Child& process, std::optional<ForegroundTerminal>& terminal,
                             ForwardedSignals& forwarded) {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope signals(env.loop, inherited);
  io::Scope relays(env.loop, inherited);
  signals.spawn(forward_signals(forwarded.signals(), process, terminal));
  if (terminal) relays.spawn(relay_terminal(env.loop, *terminal));
  const io::Deadline never = io::Deadline::never();
  Result<ExitStatus> status = co_await env.exits.wait(process.pid, process.pidfd.get(), never);
  if (terminal) {
    const io::Deadline drain = io::Deadline::in_ms(kDrainMs);
    (void)co_await io::with_deadline(env.loop, relays.join(), drain);
    (void)co_await relays.cancel_and_join();
    terminal->restore();
  }
  (void)co_await signals.cancel_and_join();
  if (!status) co_return forward(std::move(status));
  co_return status->shell();
}

}  // namespace gantry
