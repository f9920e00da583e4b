// The caller's terminal in the foreground: raw mode, size, and the copying between it and the container's pty (RN-04).
#pragma once

#include <optional>

#include "io/loop.h"
#include "io/relay.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/result.h"
#include "sys/tty.h"

namespace gantry {

/// CR-08: who receives the pty must be clear before anything is made.
Result<> check_terminal_rule(bool terminal, bool console_socket, bool foreground);

/// Receives the pty over a socket pair of its own and relays until the container's side is closed.
class ForegroundTerminal {
 public:
  /// Finds the caller's terminal: "open /dev/tty: no such device or address" without one.
  static Result<ForegroundTerminal> open();

  /// What init sends the pty's master to; closed by attach().
  int child_end() const { return child_.get(); }

  /// Takes the master out of the socket, gives it the terminal's size, clears ONLCR, enters raw mode.
  io::Task<Result<>> attach(io::Loop& loop);

  /// Copies stdin to the pty and the pty to stdout; ends when the pty's other side is closed and all its output
  /// written.
  io::Task<Result<>> relay(io::Loop& loop);

  /// SIGWINCH.
  void resize();

  /// Back to the former mode. Also done by the destructor.
  void restore() { raw_.reset(); }

 private:
  ForegroundTerminal(sys::Fd terminal, sys::Fd ours, sys::Fd child)
      : terminal_(std::move(terminal)), ours_(std::move(ours)), child_(std::move(child)) {}

  sys::Fd terminal_, ours_, child_, master_;
  std::optional<sys::RawMode> raw_;
};

}  // namespace gantry
