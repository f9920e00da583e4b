// The client against a supervisor that is played by the test: absence, loss, patience.
#include "engine/supervisor/client.h"

#include <catch2/catch.hpp>
#include <csignal>

#include "engine/supervisor/server.h"
#include "engine/supervisor/stop_signal.h"
#include "io/scope.h"
#include "io/timer.h"
#include "io_support.h"
#include "sys/text.h"

namespace gantry {
namespace {

using io::Deadline;

/// Hands over the next connection's first message and the connection.
struct Stage {
  io::Loop loop;
  io::test::Directory directory;
  SupervisorAddress address{directory.path("socket"), "gantry supervise"};

  io::Listener listen() { return std::move(loop.run(listen_at(loop, address.socket)).value()); }
};

/// Accepts one connection, reads one call and answers it; an empty answer is to hang up.
io::Task<Result<>> play(Stage& stage, io::Listener& listener, std::string& asked, std::string answer) {
  const Deadline deadline = Deadline::in_ms(5000);
  GANTRY_CO_LET(sys::Fd socket, co_await listener.accept(deadline));
  Connection connection(stage.loop, std::move(socket));
  GANTRY_CO_LET(const Message message, co_await connection.receive(deadline));
  asked = message.text;
  if (answer.empty()) co_return Result<>();
  std::vector<int> none;
  Result<> sent = co_await connection.send(std::move(answer), std::move(none), deadline);
  co_return sent;
}

io::Task<> keep_reply(io::Task<Result<api::Reply>> task, Result<api::Reply>& into) {
  into = co_await std::move(task);
}

io::Task<Result<api::Reply>> ask_once(Stage& stage, api::Call call) {
  GANTRY_CO_LET(Client client, co_await Client::connect(stage.loop, stage.address));
  const Deadline deadline = Deadline::in_ms(5000);
  std::vector<int> none;
  Result<api::Reply> reply = co_await client.call(std::move(call), std::move(none), deadline);
  if (!reply && client.lost() != reply.error().text.starts_with("the supervisor at "))
    co_return fail("lost() is wrong");
  co_return std::move(reply);
}

io::Task<Result<api::Reply>> beside(Stage& stage, io::Task<Result<>> playing, io::Task<Result<api::Reply>> asking) {
  Result<api::Reply> reply;
  io::Scope scope(stage.loop);
  scope.spawn(keep_reply(std::move(asking), reply));
  scope.spawn(std::move(playing));
  const Result<> joined = co_await scope.join();
  if (!joined) co_return std::unexpected(joined.error());
  co_return std::move(reply);
}

TEST_CASE("without a supervisor the error says how to start one", "[supervisor]") {
  Stage stage;
  const std::string text =
      cat("no supervisor is running at ", stage.address.socket, ": start one with: gantry supervise");
  const auto nothing = stage.loop.run(ask_once(stage, api::Status{}));
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().text == text);
  {
    const auto left_behind = stage.listen();
  }
  const auto refused = stage.loop.run(ask_once(stage, api::Status{}));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text == text);
  CHECK(Client::is_absent(refused.error()));
}

TEST_CASE("a call is answered, an error is the supervisor's own", "[supervisor]") {
  Stage stage;
  io::Listener listener = stage.listen();
  std::string asked;
  const std::string yes = api::encode_reply(api::UpReply{"a", 7});
  const api::Call call = api::Up{"a", "/b", "/r", {}, "", ""};
  const auto up = stage.loop.run(beside(stage, play(stage, listener, asked, yes), ask_once(stage, call)));
  REQUIRE(up);
  CHECK(std::get<api::UpReply>(*up).pid == 7);
  CHECK(asked == api::encode_call(call));
  const std::string no = api::encode_error(Error{"container with given ID already exists", EEXIST});
  const auto refused = stage.loop.run(beside(stage, play(stage, listener, asked, no), ask_once(stage, call)));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().text == "container with given ID already exists");
  CHECK(refused.error().sys_errno == EEXIST);
}

TEST_CASE("a supervisor that goes away before it answers is named", "[supervisor]") {
  Stage stage;
  io::Listener listener = stage.listen();
  std::string asked;
  const auto lost = stage.loop.run(beside(stage, play(stage, listener, asked, ""), ask_once(stage, api::Status{})));
  REQUIRE_FALSE(lost);
  CHECK(lost.error().text == cat("the supervisor at ", stage.address.socket,
                                 " went away before it answered Status: the connection was closed"));
}

/// Dies in the middle of the first call, comes back on a new socket and answers the second.
io::Task<Result<>> die_once(Stage& stage, std::string answer, int& calls) {
  const std::string path = stage.address.socket;
  std::string asked;
  {
    GANTRY_CO_LET(io::Listener first, co_await listen_at(stage.loop, path));
    GANTRY_CO_TRY(co_await play(stage, first, asked, ""));
    ++calls;
  }
  co_await io::sleep_for(stage.loop, std::chrono::milliseconds(30));
  GANTRY_CO_LET(io::Listener second, co_await listen_at(stage.loop, path));
  GANTRY_CO_TRY(co_await play(stage, second, asked, answer));
  ++calls;
  co_return Result<>();
}

TEST_CASE("who waits patiently asks the next supervisor", "[supervisor]") {
  Stage stage;
  int calls = 0;
  const std::string answer = api::encode_reply(api::WaitReply{"a", {true, 3, 0, ""}});
  // Nobody is there when it begins.
  auto asking = call_patiently(stage.loop, stage.address, api::Wait{"a"}, {}, {2000, 2000});
  const auto reply = stage.loop.run(beside(stage, die_once(stage, answer, calls), std::move(asking)));
  INFO((reply ? "" : reply.error().text));
  REQUIRE(reply);
  CHECK(std::get<api::WaitReply>(*reply).exit.code == 3);
  CHECK(calls == 2);
}

TEST_CASE("patience has an end", "[supervisor]") {
  Stage stage;
  const auto reply = stage.loop.run(call_patiently(stage.loop, stage.address, api::Wait{"a"}, {}, {40, 1000}));
  REQUIRE_FALSE(reply);
  CHECK(Client::is_absent(reply.error()));
}

TEST_CASE("a removal whose answer was lost is done when the container is gone", "[supervisor]") {
  Stage stage;
  int calls = 0;
  const std::string answer = api::encode_error(Error{"container does not exist", ENOENT});
  auto asking = call_patiently(stage.loop, stage.address, api::Remove{"a", false, false}, {}, {2000, 2000});
  CHECK(stage.loop.run(beside(stage, die_once(stage, answer, calls), std::move(asking))));
  CHECK(calls == 2);
  io::Listener listener = stage.listen();
  std::string asked;
  auto again = call_patiently(stage.loop, stage.address, api::Remove{"a", false, false}, {}, {2000, 2000});
  CHECK_FALSE(stage.loop.run(beside(stage, play(stage, listener, asked, answer), std::move(again))));
}

TEST_CASE("the stop signal is the annotation's", "[supervisor]") {
  const auto of = [](std::string text) {
    ContainerRecord record;
    record.annotations["org.opencontainers.image.stopSignal"] = std::move(text);
    return stop_signal(record);
  };
  CHECK(stop_signal(ContainerRecord()) == SIGTERM);
  CHECK(of("SIGINT") == SIGINT);
  CHECK(of("QUIT") == SIGQUIT);
  CHECK(of("9") == SIGKILL);
  CHECK(of("SIGRTMIN+3") == SIGRTMIN + 3);
  CHECK(of("RTMAX-1") == SIGRTMAX - 1);
  for (const char* nonsense : {"", "SIG", "0", "-1", "65", "SIGRTMIN+999", "RTMIN-1", "TERMX", "RTMAX+1"})
    CHECK(of(nonsense) == SIGTERM);
}

}  // namespace
}  // namespace gantry
