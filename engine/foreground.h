// Attending a process in the foreground: its terminal, the caller's signals, its end (RN-04..07); and what a signal
// does to a command before there is one.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "engine/terminal.h"
#include "engine/verbs.h"
#include "io/scope.h"
#include "io/signal.h"
#include "sys/launch.h"

namespace gantry {

/// Catches what a foreground command forwards; to be made before the process exists, so that no signal is lost.
io::Signals catch_forwarded_signals(io::Loop& loop);

/// Catches what means the end, for a command that has nobody to forward it to. What the caller ignores stays ignored.
io::Signals catch_end_signals(io::Loop& loop);

/// A process that has not come by then may be kept from it: by a hook, a mount source, a cgroup that is frozen.
inline constexpr int64_t kUsualLaunchMs = 1'000;
inline constexpr int64_t kHeedAtOnce = 0;

/// Done when one of `signals` means the end (SIGHUP, SIGINT, SIGQUIT, SIGTERM), `patience_ms` from now at the earliest.
/// All that were taken are in `taken`, that one last.
io::Task<Result<>> end_wanted(io::Loop& loop, io::Signals& signals, int64_t patience_ms, std::vector<int>& taken);

/// The result of work that somebody has cancelled by a signal: "interrupted by signal N", EINTR.
std::unexpected<Error> interrupted_by(int signo);

/// Puts signals back that were not meant for us.
void raise_again(const std::vector<int>& signos);

/// `work`, unless a signal means the end: then it is cancelled, which must undo what it did, and the error is
/// interrupted_by(). Signals that come while it takes no longer than `patience_ms` can be taken from `signals` later.
template <class T>
io::Task<Result<T>> unless_interrupted(io::Loop& loop, io::Signals& signals, int64_t patience_ms,
                                       io::Task<Result<T>> work) {
  std::vector<int> taken;
  io::Task<Result<>> waiting = end_wanted(loop, signals, patience_ms, taken);
  auto raced = co_await io::race(loop, std::move(work), std::move(waiting));
  if (!raced.a && raced.b && io::is_cancelled(raced.a.error())) co_return interrupted_by(taken.back());
  raise_again(taken);
  co_return std::move(raced.a);
}

/// Forwards signals (SIGWINCH resizes), relays the terminal and waits for the end. With a terminal, all that the
/// process has written before its end is on stdout when this returns, and the terminal's mode is restored.
io::Task<Result<int>> attend(Env& env, const sys::Child& process, std::optional<ForegroundTerminal>& terminal,
                             io::Signals& forwarded);

}  // namespace gantry
