// NOTIFY_SOCKET for containers: a socket of our own in the container, READY relayed to the host's manager (EN-05..09).
#pragma once

#include <string>

#include "io/loop.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

/// The directory below a state directory that is bound to /run/notify; made at create (0755).
inline constexpr const char* kNotifyDir = "notify";
/// What the container's NOTIFY_SOCKET says.
inline constexpr const char* kNotifyEnv = "NOTIFY_SOCKET=/run/notify/notify.sock";

/// Makes <state>/notify.
Result<> make_notify_dir(const sys::Fd& state_dir);

/// Receives from the container's socket and tells the host's manager ($NOTIFY_SOCKET).
class NotifyRelay {
 public:
  /// Binds <state>/notify/notify.sock (0777: any container user may write). The host's address is taken from the
  /// environment of this process; without one nothing is forwarded.
  static Result<NotifyRelay> open(const sys::Fd& state_dir);

  /// Waits for a datagram beginning with READY=, passes it on with MAINPID and a BARRIER (30 s at most). Ends without
  /// an error when the container ends first.
  io::Task<Result<>> forward_ready(io::Loop& loop, pid_t init, int init_pidfd);

 private:
  NotifyRelay(sys::Fd socket, std::string host) : socket_(std::move(socket)), host_(std::move(host)) {}
  sys::Fd socket_;
  std::string host_;  ///< path, or '@' and an abstract name
};

}  // namespace gantry
