// One stream connection between a supervisor and a client, seen from either side: messages that end with a NUL, and
// descriptors. Buffers are bounded by kMaxMessage, and small while nothing is going on.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "engine/supervisor/api.h"
#include "io/loop.h"
#include "sys/fd.h"

namespace gantry {

/// One message, without its NUL, and the descriptors that came with its first byte.
struct Message {
  std::string text;
  std::vector<sys::Fd> fds;
};

/// Owns the socket. One task may receive while another sends. After an error nothing more can be expected of it.
class Connection {
 public:
  Connection(io::Loop& loop, sys::Fd socket) : loop_(&loop), socket_(std::move(socket)) {}

  /// The next message. Errors: ECONNRESET when the peer has hung up between two messages; a half message, one longer
  /// than api::kMaxMessage (with its NUL) or too many descriptors by name; ETIMEDOUT, ECANCELED. What was received of a
  /// message before a timeout is kept. Descriptors that come in the middle of a message are closed.
  ///
  /// A recvmsg(2) may cross the border of two messages, but ends behind the bytes that were sent together with
  /// descriptors (unix(7)): they are given to the message with the last byte, if it begins there. That is exact for
  /// every peer that sends a message with descriptors in a call of its own.
  io::Task<Result<Message>> receive(io::Deadline deadline);

  /// The next message, for which the peer may wait as long as it likes before its first byte; once begun it must be
  /// complete after `limit_ms`.
  io::Task<Result<Message>> receive_whole(int64_t limit_ms);

  /// Sends `text` and a NUL; `fds` are borrowed. EPIPE or ECONNRESET when the peer is gone, EMSGSIZE when it is too
  /// long. After any error a part may have been sent: the connection is then useless.
  io::Task<Result<>> send(std::string text, std::vector<int> fds, io::Deadline deadline);

  /// Waits until the peer has closed the connection altogether. That it has only stopped to send, or sends already
  /// what comes next, does not count.
  io::Task<io::Wake> hung_up();

  /// Whether an error means that the peer, or its whole process, is gone.
  static bool is_closed(const Error& error);

  const sys::Fd& socket() const { return socket_; }

 private:
  /// Descriptors that wait for their message.
  struct Parcel {
    size_t start;  ///< where in buffer_ the message begins
    std::vector<sys::Fd> fds;
  };

  bool take_message(Message& message);
  Result<> file_fds(size_t before, std::vector<sys::Fd> fds);
  io::Task<Result<>> fill(io::Deadline deadline);

  io::Loop* loop_;
  sys::Fd socket_;
  std::string buffer_;
  size_t searched_ = 0;  ///< no NUL before this
  std::deque<Parcel> parcels_;
};

/// The pid, uid and gid of whoever connected (SO_PEERCRED, unix(7)).
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<Peer> peer_of(const sys::Fd& socket);

}  // namespace gantry
