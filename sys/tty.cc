#include "sys/tty.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sys/file.h"

namespace gantry::sys {

Result<Fd> find_terminal() {
  for (const int fd : {STDERR_FILENO, STDOUT_FILENO, STDIN_FILENO}) {
    if (::isatty(fd) == 0) continue;
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy) return fail_errno(errno, "dup");
    return copy;
  }
  return open_file("/dev/tty", O_RDWR | O_NOCTTY);
}

Result<RawMode> RawMode::enter(const Fd& terminal) {
  termios former;
  if (::tcgetattr(terminal.get(), &former) < 0) return fail_errno(errno, "tcgetattr");
  termios raw = former;
  ::cfmakeraw(&raw);
  // Output processing stays: what others write to this terminal meanwhile should still look right.
  raw.c_oflag = former.c_oflag;
  if (::tcsetattr(terminal.get(), TCSANOW, &raw) < 0) return fail_errno(errno, "tcsetattr");
  Fd copy = terminal.duplicate();
  if (!copy) return fail_errno(errno, "dup");
  return RawMode(std::move(copy), former);
}

RawMode::RawMode(RawMode&& other) noexcept : terminal_(std::move(other.terminal_)), former_(other.former_) {}

RawMode::~RawMode() {
  if (terminal_) ::tcsetattr(terminal_.get(), TCSANOW, &former_);
}

Result<> copy_window_size(const Fd& from, const Fd& to) {
  winsize size{};
  if (::ioctl(from.get(), TIOCGWINSZ, &size) < 0) return fail_errno(errno, "TIOCGWINSZ");
  if (::ioctl(to.get(), TIOCSWINSZ, &size) < 0) return fail_errno(errno, "TIOCSWINSZ");
  return {};
}

Result<> clear_onlcr(const Fd& pty) {
  termios mode;
  if (::tcgetattr(pty.get(), &mode) < 0) return fail_errno(errno, "tcgetattr");
  mode.c_oflag &= ~static_cast<tcflag_t>(ONLCR);
  if (::tcsetattr(pty.get(), TCSANOW, &mode) < 0) return fail_errno(errno, "tcsetattr");
  return {};
}

}  // namespace gantry::sys
