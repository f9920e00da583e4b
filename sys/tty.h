// Terminals as termios and ioctls see them.
#pragma once

#include <termios.h>

#include <cstdint>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// The caller's terminal (RN-04): a duplicate of the first of stderr, stdout, stdin that is one, else /dev/tty.
Result<Fd> find_terminal();

/// Puts a terminal into raw mode while it lives and restores the former mode when it dies.
class RawMode {
 public:
  static Result<RawMode> enter(const Fd& terminal);
  RawMode(RawMode&& other) noexcept;
  RawMode& operator=(RawMode&&) = delete;
  ~RawMode();

 private:
  RawMode(Fd terminal, const termios& former) : terminal_(std::move(terminal)), former_(former) {}
  Fd terminal_;
  termios former_;
};

/// TIOCGWINSZ from one, TIOCSWINSZ on the other.
Result<> copy_window_size(const Fd& from, const Fd& to);

/// Clears ONLCR on a pty: the caller's own terminal already turns \n into \r\n.
Result<> clear_onlcr(const Fd& pty);

}  // namespace gantry::sys
