// One end of a byte stream that may belong to somebody else.
#pragma once

#include <cstddef>
#include <span>

#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io {

/// A descriptor of our own for the same file, with an open file description of its own that is O_NONBLOCK, so that the
/// caller's (shared with his shell, perhaps) stays as it is. For pipes and terminals, opened again through
/// /proc/self/fd with the same access mode. A regular file is only duplicated: it never blocks, and its offset must
/// stay shared. Fails for what cannot be opened again: sockets, pty masters (/dev/ptmx would make another pty),
/// anonymous inodes, no permission, no /proc.
Result<sys::Fd> reopen_nonblocking(int fd);

/// Reads or writes without ever blocking the loop and without ever changing a flag of a descriptor that is not ours.
class Endpoint {
 public:
  enum class Direction { kRead, kWrite };

  /// A descriptor of ours, which becomes O_NONBLOCK. Works for pty masters, pipes, sockets, regular files.
  static Endpoint own(sys::Fd fd, Direction direction);

  /// A caller's descriptor, such as stdin: reopened if possible, else used with MSG_DONTWAIT (sockets) or after poll(2)
  /// (in small pieces; if another process takes the bytes in between, kernels before 6.4 make us wait for the next).
  /// Must stay open. A closed one reads as the end of the file and fails to write with EBADF.
  static Endpoint borrow(int fd, Direction direction);

  /// What a call transferred: `count` bytes, or the errno; EAGAIN when it would have to wait. A terminal whose other
  /// side is gone (EIO) reads as the end of the file.
  struct Moved {
    size_t count;
    int err;
  };
  Moved try_read(std::span<std::byte> into);
  Moved try_write(std::span<const std::byte> from);

  /// Waits until a try is worth while.
  Task<Wake> ready(Loop& loop, Deadline deadline);

  /// Says "no more" to whoever reads from the other side, if the descriptor is ours: a socket is shut down for writing,
  /// anything else is closed (so not for a pty master). A caller's stays open.
  void end_output();

  int number() const { return own_ ? own_.get() : fd_; }

 private:
  enum class Kind { kOurs, kSocket, kGuarded };
  Endpoint(int fd, Direction direction) : fd_(fd), direction_(direction) {}
  bool guarded_ready() const;
  void watch();

  int fd_;
  Direction direction_;
  Kind kind_ = Kind::kOurs;
  bool terminal_ = false;
  bool always_ready_ = false;
  size_t piece_ = 0;  ///< most that a guarded write may take without blocking
  sys::Fd own_;
  sys::Fd epoll_;  ///< watches a descriptor that is not ours: uv would make the descriptor itself non-blocking
};

}  // namespace gantry::io
