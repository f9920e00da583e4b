#include "engine/foreground.h"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <span>

#include "engine/spawner.h"
#include "io/scope.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

// How long a terminal's output may go on after the process' end: something it left behind may hold the pty for ever.
constexpr int64_t kDrainMs = 300;

constexpr std::array kMeaningTheEnd{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

// All but SIGURG (as runc), the stop signals that cannot be caught, and what a fault of our own raises. SIGCHLD is not
// forwarded: it says that there may be an orphan to reap, and stands first to be left out where there are none.
constexpr std::array kForwarded{SIGCHLD, SIGHUP,    SIGINT,  SIGQUIT, SIGUSR1,  SIGUSR2, SIGALRM,
                                SIGTERM, SIGCONT,   SIGTSTP, SIGTTIN, SIGTTOU,  SIGXCPU, SIGXFSZ,
                                SIGPIPE, SIGVTALRM, SIGPROF, SIGIO,   SIGWINCH, SIGPWR};

std::span<const int> signals_to_catch() {
  static_assert(kForwarded.front() == SIGCHLD);
  return std::span(kForwarded).subspan(sys::adopts_orphans() ? 0 : 1);
}

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

io::Task<> relay_terminal(io::Loop& loop, ForegroundTerminal& terminal) {
  Result<> relayed = co_await terminal.relay(loop);
  if (!relayed && !io::is_cancelled(relayed.error())) log_warning(relayed.error().text);
}

}  // namespace

io::Signals catch_forwarded_signals(io::Loop& loop) {
  return {loop, signals_to_catch()};
}

io::Signals catch_end_signals(io::Loop& loop) {
  std::vector<int> wanted;
  for (const int signo : kMeaningTheEnd) {
    struct sigaction now{};
    if (::sigaction(signo, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) wanted.push_back(signo);
  }
  return {loop, wanted};
}

io::Task<Result<>> end_wanted(io::Loop& loop, io::Signals& signals, int64_t patience_ms, std::vector<int>& taken) {
  io::Wake wake = io::Wake::kReady;
  if (patience_ms > 0) wake = co_await io::sleep_for(loop, std::chrono::milliseconds(patience_ms));
  const io::Deadline never = io::Deadline::never();
  while (wake != io::Wake::kCancelled) {
    GANTRY_CO_LET(const int signo, co_await signals.next(never));
    taken.push_back(signo);
    if (std::ranges::find(kMeaningTheEnd, signo) != kMeaningTheEnd.end()) co_return Result<>();
  }
  co_return io::fail_wake(wake, "waiting for a signal");
}

std::unexpected<Error> interrupted_by(int signo) {
  return std::unexpected(Error{cat("interrupted by signal ", signo), EINTR});
}

void raise_again(const std::vector<int>& signos) {
  for (const int signo : signos) (void)std::raise(signo);  // caught again
}

io::Task<Result<int>> attend(Env& env, const sys::Child& process, std::optional<ForegroundTerminal>& terminal,
                             io::Signals& forwarded) {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope signals(env.loop, inherited);
  io::Scope relays(env.loop, inherited);
  signals.spawn(forward_signals(forwarded, process, terminal));
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
