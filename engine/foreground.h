// Attending a process in the foreground: its terminal, the caller's signals, its end (RN-04..07).
#pragma once

#include <optional>

#include "engine/launch.h"
#include "engine/terminal.h"
#include "engine/verbs.h"
#include "io/signal.h"
#include "sys/launch.h"

namespace gantry {

/// Catches what a foreground command forwards; to be made before the process exists, so that no signal is lost.
class ForwardedSignals {
 public:
  explicit ForwardedSignals(io::Loop& loop);
  io::Signals& signals() { return signals_; }

 private:
  io::Signals signals_;
};

/// launch() for a foreground command. Signals wait for the process; but when it takes long to come (its cgroup is
/// frozen, say), one that means the end ends the launch: EINTR.
io::Task<Result<sys::Child>> launch_attended(Env& env, LaunchRequest request, LaunchHandler& handler,
                                             ForwardedSignals& forwarded);

/// Forwards signals (SIGWINCH resizes), relays the terminal and waits for the end. With a terminal, all that the
/// process has written before its end is on stdout when this returns, and the terminal's mode is restored.
io::Task<Result<int>> attend(Env& env, const sys::Child& process, std::optional<ForegroundTerminal>& terminal,
                             ForwardedSignals& forwarded);

}  // namespace gantry
