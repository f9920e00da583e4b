#include "engine/supervisor/server.h"

#include <unistd.h>

#include "engine/log.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kAcceptPauseMs = 100;
constexpr int64_t kFarewellMs = 1000;

/// "" when whoever is at the other end may give orders here.
std::string refusal_of(const sys::Fd& socket) {
  const auto peer = peer_of(socket);
  if (!peer) return peer.error().text;
  if (peer->uid == 0 || peer->uid == ::geteuid()) return {};
  return cat("uid ", peer->uid, " may not use this supervisor: only root and uid ", ::geteuid(), " may");
}

/// Counts a connection while it lives.
class Counted {
 public:
  explicit Counted(size_t& count) : count_(count) { ++count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --count_; }

 private:
  size_t& count_;
};

std::vector<int> numbers(const std::vector<sys::Fd>& fds) {
  std::vector<int> out;
  out.reserve(fds.size());
  for (const sys::Fd& fd : fds) out.push_back(fd.get());
  return out;
}

}  // namespace

io::Task<Result<>> Server::serve() {
  io::CancelSource* const cancel = co_await io::inherited_cancel();
  io::Scope clients(loop_, cancel);
  Result<> ended = co_await accept_all(clients);
  auto joined = io::shield(clients.cancel_and_join());
  (void)co_await std::move(joined);
  if (!ended && io::is_cancelled(ended.error())) co_return Result<>();
  co_return ended;
}

io::Task<Result<>> Server::accept_all(io::Scope& clients) {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    Result<sys::Fd> socket = co_await listener_.accept(never);
    if (!socket && io::is_cancelled(socket.error())) co_return forward(std::move(socket));
    if (!socket) {
      const int err = socket.error().sys_errno;
      log_warning(cat("supervisor socket: ", socket.error().text));
      if (err == EBADF || err == EINVAL || err == ENOTSOCK) co_return forward(std::move(socket));
      const io::Deadline pause = io::Deadline::in_ms(kAcceptPauseMs);
      const io::Wake wake = co_await io::sleep_until(loop_, pause);
      if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "accept");
      continue;
    }
    tell_turned_away();
    Error refusal{refusal_of(*socket), EPERM};
    const bool full = clients.active() >= limits_.connections;
    if (full && !told_full_)
      log_warning(cat("supervisor socket: ", clients.active(), " connections: no more are taken"));
    told_full_ = full;
    if (refusal.text.empty() && full)
      refusal = {cat("the supervisor has ", clients.active(), " connections already: try again"), EAGAIN};
    if (clients.active() >= 2 * limits_.connections) continue;  // even farewells are bounded
    clients.spawn(refusal.text.empty() ? attend(std::move(*socket))
                                       : turn_away(std::move(*socket), std::move(refusal)));
  }
}

void Server::tell_turned_away() {
  const size_t now = listener_.turned_away();
  if (now != told_turned_away_)
    log_warning(cat("supervisor socket: ", now - told_turned_away_,
                    " clients were turned away: no file descriptor was left (see ulimit -n)"));
  told_turned_away_ = now;
}

io::Task<> Server::turn_away(sys::Fd socket, Error why) {
  Connection connection(loop_, std::move(socket));
  const io::Deadline deadline = io::Deadline::in_ms(kFarewellMs);
  std::string text = api::encode_error(why);
  std::vector<int> none;
  (void)co_await connection.send(std::move(text), std::move(none), deadline);
}

io::Task<> Server::attend(sys::Fd socket) {
  const Counted counted(connections_);
  Connection connection(loop_, std::move(socket));
  const Result<> ended = co_await converse(connection);
  if (ended || io::is_cancelled(ended.error()) || Connection::is_closed(ended.error())) co_return;
  log_debug(cat("supervisor socket: connection closed: ", ended.error().text));
  const io::Deadline deadline = io::Deadline::in_ms(kFarewellMs);
  std::string text = api::encode_error(ended.error());
  std::vector<int> none;
  if (io::is_timeout(ended.error())) co_return;  // perhaps in the middle of an answer
  (void)co_await connection.send(std::move(text), std::move(none), deadline);
}

io::Task<Result<>> Server::converse(Connection& connection) {
  for (;;) {
    GANTRY_CO_LET(Message message, co_await connection.receive_whole(limits_.receive_ms));
    GANTRY_CO_TRY(co_await answer(connection, std::move(message)));
  }
}

io::Task<Result<>> Server::answer(Connection& connection, Message message) {
  Result<api::Call> call = api::decode_call(message.text);
  message.text = {};
  std::vector<sys::Fd> reply_fds;
  std::string text;
  std::optional<size_t> method;
  bool done = false;
  if (call) {
    method = call->index();
    auto handled = service_.handle(std::move(*call), std::move(message.fds), reply_fds);
    auto gone = connection.hung_up();
    auto raced = co_await io::race(loop_, std::move(handled), std::move(gone));
    done = raced.a.has_value();
    if (!done) reply_fds.clear();
    text = raced.a ? api::encode_reply(*raced.a) : api::encode_error(raced.a.error());
  } else {
    text = api::encode_error(call.error());
  }
  message.fds.clear();
  std::vector<int> fds = numbers(reply_fds);
  io::CancelSource* const cancel = co_await io::inherited_cancel();
  const bool ending = cancel != nullptr && cancel->cancelled();
  const io::Deadline deadline = io::Deadline::in_ms(ending ? kFarewellMs : limits_.send_ms);
  auto sending = connection.send(std::move(text), std::move(fds), deadline);
  // What was done to its end although this server ends is still to be told.
  if (ending && done) sending = io::shield(std::move(sending));
  Result<> sent = co_await std::move(sending);
  if (method) service_.answered(*method, sent.has_value());
  co_return sent;
}

}  // namespace gantry
