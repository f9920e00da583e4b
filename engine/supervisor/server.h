// The supervisor's side of the socket: who may connect, and one task for each connection.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/supervisor/api.h"
#include "engine/supervisor/connection.h"
#include "io/listener.h"
#include "io/scope.h"

namespace gantry {

/// What does the work. One object for all connections.
class Service {
 public:
  virtual ~Service() = default;

  /// Answers one call. Cancelled when the client hangs up meanwhile, or the server ends: what must go on to its end is
  /// shielded in here. `fds` came with the call; `reply_fds` go out with the reply, not with an error.
  virtual io::Task<Result<api::Reply>> handle(api::Call call, std::vector<sys::Fd> fds,
                                              std::vector<sys::Fd>& reply_fds) = 0;

  /// The answer to the call with this index (api::Call) has been handed to the kernel, or could not be sent. Must only
  /// take notes.
  virtual void answered(size_t /*method*/, bool /*sent*/) {}
};

struct ServerLimits {
  size_t connections = 4096;    ///< more are told so and closed
  int64_t receive_ms = 30'000;  ///< for a message once it has begun
  int64_t send_ms = 30'000;     ///< for a client to take an answer
};

/// Makes the listening socket at `path` (absolute), mode 0600, its directory and missing ones above 0700. Replaces a
/// socket that nobody answers on any more. "a supervisor is already running at PATH" with EADDRINUSE; any other file
/// at `path` is left alone, and a directory that others may write to is refused.
io::Task<Result<io::Listener>> listen_at(io::Loop& loop, std::string path, int type = SOCK_STREAM);

/// Takes over a socket that somebody else has made (socket activation, the keeper): it must be a Unix socket of that
/// type that listens.
Result<io::Listener> adopt_listener(io::Loop& loop, sys::Fd socket, int type = SOCK_STREAM);

/// Accepts connections of root and of our own user until it is cancelled. Trouble with one connection ends only that.
class Server {
 public:
  Server(io::Loop& loop, Service& service, io::Listener listener, ServerLimits limits = {})
      : loop_(loop), service_(service), listener_(std::move(listener)), limits_(limits) {}

  /// Returns when cancelled, after all handlers have ended, or when the listening socket fails for good.
  io::Task<Result<>> serve();

  size_t connections() const { return connections_; }
  const sys::Fd& listening_socket() const { return listener_.fd(); }

 private:
  io::Task<Result<>> accept_all(io::Scope& clients);
  io::Task<> attend(sys::Fd socket);
  io::Task<Result<>> converse(Connection& connection);
  io::Task<Result<>> answer(Connection& connection, Message message);
  void tell_turned_away();
  io::Task<> turn_away(sys::Fd socket, Error why);

  io::Loop& loop_;
  Service& service_;
  io::Listener listener_;
  ServerLimits limits_;
  size_t connections_ = 0;
  bool told_full_ = false;
  size_t told_turned_away_ = 0;
};

}  // namespace gantry
