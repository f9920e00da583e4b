// The client's side of the socket.
#pragma once

#include <string>
#include <vector>

#include "engine/supervisor/api.h"
#include "engine/supervisor/connection.h"
#include "io/loop.h"

namespace gantry {

/// Which supervisor, and how a person would start it.
struct SupervisorAddress {
  std::string socket;
  std::string start_command;  ///< "gantry supervise"
};

/// One connection to a supervisor; one call at a time.
class Client {
 public:
  /// "no supervisor is running at SOCKET: start one with: COMMAND" with ECONNREFUSED when nobody listens there.
  static io::Task<Result<Client>> connect(io::Loop& loop, SupervisorAddress address,
                                          io::Deadline deadline = io::Deadline::in_ms(kConnectMs));

  /// Whether an error of connect() says that.
  static bool is_absent(const Error& error);

  /// Asks and waits for the answer, whose kind belongs to the call. `fds` are borrowed. The supervisor's errors are
  /// returned as it sent them; when the answer does not come, lost() is true afterwards.
  io::Task<Result<api::Reply>> call(api::Call call, std::vector<int> fds, io::Deadline deadline);

  /// The last call got no answer: whether it was carried out is not known.
  bool lost() const { return lost_; }

  /// What came with the last answer.
  std::vector<sys::Fd> take_fds() { return std::move(fds_); }

  static constexpr int64_t kConnectMs = 10'000;

 private:
  Client(Connection connection, std::string socket) : connection_(std::move(connection)), socket_(std::move(socket)) {}
  io::Task<Result<Message>> ask(std::string text, std::vector<int> fds, io::Deadline deadline);

  Connection connection_;
  std::string socket_;
  std::vector<sys::Fd> fds_;
  bool lost_ = false;
};

/// How long a patient call bears the absence of a supervisor.
struct Patience {
  int64_t first_ms = 3'000;   ///< before it was there at all
  int64_t again_ms = 10'000;  ///< when it vanished: killed, replaced
};

/// Connects for itself and calls, and again whenever the supervisor vanishes before it has answered. `fds` are
/// borrowed. What is not the same twice is looked into: an Up that finds its own container counts as done, and so does
/// a Remove that finds none. Not for Signal.
io::Task<Result<api::Reply>> call_patiently(io::Loop& loop, SupervisorAddress address, api::Call call,
                                            std::vector<int> fds, Patience patience);

/// All containers of a supervisor, in as many messages as it takes.
io::Task<Result<std::vector<api::Entry>>> list_supervised(Client& client, io::Deadline deadline);

}  // namespace gantry
