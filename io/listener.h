// Unix sockets: listening and connecting, with paths of any length.
#pragma once

#include <sys/socket.h>

#include <string>

#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io {

/// A listening socket; accepts for one task at a time. Does not unlink its path: who owns the directory does.
class Listener {
 public:
  /// Binds and listens. The file has `mode` from birth. An existing path is EADDRINUSE. Paths that sockaddr_un cannot
  /// hold (over 107 bytes) go through /proc/self/fd and need /proc; a last component that is itself too long for that
  /// is bound under a short name and renamed.
  static Result<Listener> bind_unix(Loop& loop, const std::string& path, mode_t mode = 0600, int type = SOCK_STREAM);

  /// Takes over a socket that listens already, and makes it O_NONBLOCK.
  Listener(Loop& loop, sys::Fd listening);

  /// The next connection, CLOEXEC and O_NONBLOCK. When the process has no descriptor left the client is turned away
  /// (it sees the end of the file) and the wait goes on; when the system has none, it is left in the queue for a while.
  Task<Result<sys::Fd>> accept(Deadline deadline);

  const sys::Fd& fd() const { return fd_; }
  /// How many clients were turned away because there was no descriptor for them.
  size_t turned_away() const { return turned_away_; }

 private:
  enum class Next { kConnection, kRetry, kWait, kBackOff };
  Next try_accept(Result<sys::Fd>& connection);
  void turn_away();

  Loop* loop_;
  sys::Fd fd_;
  size_t turned_away_ = 0;
  sys::Fd spare_;  ///< closed to be able to accept, and thereby refuse, when there is no number left
};

/// Connects to a Unix socket at a path of any length. The socket is CLOEXEC and O_NONBLOCK. While the listener's queue
/// is full it tries again until the deadline.
Task<Result<sys::Fd>> connect_unix(Loop& loop, std::string path, Deadline deadline, int type = SOCK_STREAM);

}  // namespace gantry::io
