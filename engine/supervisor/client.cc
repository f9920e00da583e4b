#include "engine/supervisor/client.h"

#include <algorithm>

#include "io/listener.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::chrono::milliseconds kRetryPause(20);

/// A call that kills the supervisor whenever it is asked is not asked for ever.
constexpr int kMostLosses = 10;

constexpr int64_t kFirstStartMs = 60'000;
constexpr std::chrono::milliseconds kLookPause(100);

}  // namespace

bool Client::is_absent(const Error& error) {
  return error.sys_errno == ECONNREFUSED;
}

io::Task<Result<Client>> Client::connect(io::Loop& loop, SupervisorAddress address, io::Deadline deadline) {
  Result<sys::Fd> socket = co_await io::connect_unix(loop, address.socket, deadline);
  if (!socket && (socket.error().sys_errno == ECONNREFUSED || socket.error().sys_errno == ENOENT)) {
    // One errno for both: a supervisor's own answer may well be ENOENT.
    co_return std::unexpected(
        Error{cat("no supervisor is running at ", address.socket, ": start one with: ", address.start_command),
              ECONNREFUSED});
  }
  if (!socket) co_return forward(std::move(socket), "supervisor");
  Connection connection(loop, std::move(*socket));
  co_return Client(std::move(connection), std::move(address.socket));
}

io::Task<Result<Message>> Client::ask(std::string text, std::vector<int> fds, io::Deadline deadline) {
  const Result<> sent = co_await connection_.send(std::move(text), std::move(fds), deadline);
  // Who turns us away says why before it closes: that is to be read even when it takes nothing any more.
  if (!sent && !Connection::is_closed(sent.error())) co_return std::unexpected(sent.error());
  Result<Message> message = co_await connection_.receive(deadline);
  co_return std::move(message);
}

io::Task<Result<api::Reply>> Client::call(api::Call call, std::vector<int> fds, io::Deadline deadline) {
  const size_t expected = api::reply_index(call);
  const std::string method(api::method_name(call));
  std::string text = api::encode_call(call);
  lost_ = false;
  fds_.clear();
  Result<Message> message = co_await ask(std::move(text), std::move(fds), deadline);
  if (!message) {
    if (io::is_cancelled(message.error()) || message.error().sys_errno == EMSGSIZE)
      co_return forward(std::move(message));
    lost_ = true;
    if (io::is_timeout(message.error()))
      co_return std::unexpected(
          Error{cat("the supervisor at ", socket_, " does not answer: ", method, " timed out"), ETIMEDOUT});
    co_return std::unexpected(
        Error{cat("the supervisor at ", socket_, " went away before it answered ", method, ": ", message.error().text),
              message.error().sys_errno});
  }
  fds_ = std::move(message->fds);
  co_return api::decode_reply(message->text, expected);
}

io::Task<Result<std::vector<api::Entry>>> list_supervised(Client& client, io::Deadline deadline) {
  std::vector<api::Entry> all;
  std::string after;
  for (;;) {
    api::Call call = api::List{after};
    std::vector<int> none;
    GANTRY_CO_LET(api::Reply reply, co_await client.call(std::move(call), std::move(none), deadline));
    auto& part = std::get<api::ListReply>(reply);
    const bool more = part.more && !part.containers.empty();
    for (api::Entry& entry : part.containers) all.push_back(std::move(entry));
    if (!more) co_return std::move(all);
    // Whoever sends the same entries again would keep us here for ever.
    if (all.back().id <= after) co_return fail(cat("the supervisor's list goes back to ", all.back().id));
    after = all.back().id;
  }
}

namespace {

/// The container of an Up whose answer was lost, once its first run has begun or is over. `otherwise`: the error when
/// there is none of this bundle.
io::Task<Result<api::Reply>> await_own(io::Loop& loop, Client& client, api::Up up, Error otherwise) {
  const io::Deadline deadline = io::Deadline::in_ms(kFirstStartMs);
  for (;;) {
    GANTRY_CO_LET(const std::vector<api::Entry> entries, co_await list_supervised(client, deadline));
    const auto mine = std::ranges::find(entries, up.id, &api::Entry::id);
    if (mine == entries.end() || mine->bundle != up.bundle) co_return std::unexpected(std::move(otherwise));
    const bool begun = mine->pid != 0 || mine->exit || mine->status == "stopped";
    if (begun || deadline.expired()) co_return api::Reply(api::UpReply{mine->id, mine->pid});
    const io::Wake wake = co_await io::sleep_for(loop, kLookPause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for the container's start");
  }
}

/// What a call means that was asked again because its first answer was lost.
io::Task<Result<api::Reply>> judge_again(io::Loop& loop, Client& client, const api::Call& call,
                                         Result<api::Reply> reply) {
  if (reply) co_return std::move(reply);
  const int err = reply.error().sys_errno;
  if (std::holds_alternative<api::Remove>(call) && err == ENOENT) co_return api::Reply(api::Empty{});
  const auto* up = std::get_if<api::Up>(&call);
  if (up == nullptr || err != EEXIST) co_return std::move(reply);
  Error error = std::move(reply).error();
  Result<api::Reply> own = co_await await_own(loop, client, *up, std::move(error));
  co_return std::move(own);
}

}  // namespace

io::Task<Result<api::Reply>> call_patiently(io::Loop& loop, SupervisorAddress address, api::Call call,
                                            std::vector<int> fds, Patience patience) {
  const bool may_last = std::holds_alternative<api::Wait>(call);
  const io::Deadline never = io::Deadline::never();
  io::Deadline give_up = io::Deadline::in_ms(patience.first_ms);
  int losses = 0;
  for (;;) {
    const io::Deadline connect_by = io::Deadline::in_ms(Client::kConnectMs);
    Result<Client> client = co_await Client::connect(loop, address, connect_by);
    if (client) {
      Result<api::Reply> reply = co_await client->call(call, fds, never);
      if (!client->lost() && losses > 0) reply = co_await judge_again(loop, *client, call, std::move(reply));
      if (client->lost()) {
        give_up = io::Deadline::in_ms(patience.again_ms);
        if (++losses > kMostLosses && !may_last) co_return std::move(reply);
      } else if (reply || reply.error().sys_errno != EAGAIN || give_up.expired()) {
        co_return std::move(reply);
      }
    } else if (!Client::is_absent(client.error()) || give_up.expired()) {
      co_return forward(std::move(client));
    }
    const io::Wake wake = co_await io::sleep_for(loop, kRetryPause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for the supervisor");
  }
}

}  // namespace gantry
