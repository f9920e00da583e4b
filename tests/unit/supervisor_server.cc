// The server with a service that only pretends: order, hang-ups, garbage, crowds.
#include "engine/supervisor/server.h"

#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "io/scope.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io_support.h"
#include "sys/text.h"

namespace gantry {
namespace {

using io::Deadline;

/// Wait never ends unless cancelled; Stop ends only when `go` is set, cancelled or not; the rest at once.
struct FakeService final : Service {
  explicit FakeService(io::Loop& on) : loop(on), cancelled(on), go(on), begun(on), stopped(on) {}

  io::Task<Result<api::Reply>> handle(api::Call call, std::vector<sys::Fd> fds,
                                      std::vector<sys::Fd>& reply_fds) override {
    ++calls;
    begun.set();
    if (std::holds_alternative<api::Wait>(call)) {
      const Deadline never = Deadline::never();
      const io::Wake wake = co_await io::sleep_until(loop, never);
      cancelled.set();
      co_return io::fail_wake(wake, "wait");
    }
    if (std::holds_alternative<api::Stop>(call)) {
      auto work = io::shield(stop());
      co_await std::move(work);
      co_return api::Reply(api::Empty{});
    }
    if (const auto* up = std::get_if<api::Up>(&call)) {
      reply_fds = std::move(fds);
      co_return api::Reply(api::UpReply{up->id, static_cast<int32_t>(reply_fds.size())});
    }
    co_return fail("cannot");
  }
  io::Task<> stop() {
    const Deadline limit = Deadline::in_ms(stop_ms);
    co_await go.wait(limit);
    stopped.set();
  }
  void answered(size_t /*method*/, bool sent) override { sent ? ++delivered : ++undelivered; }

  io::Loop& loop;
  io::Event cancelled, go, begun, stopped;
  int64_t stop_ms = 10'000;
  int calls = 0, delivered = 0, undelivered = 0;
};

/// The server on a socket of its own, and a test body that runs beside it.
struct Hall {
  io::Loop loop;
  io::test::Directory directory;
  std::string path = directory.path("dir/socket");
  FakeService service{loop};
  ServerLimits limits;

  using Body = io::Task<Result<>> (*)(Hall&, Server&);
  io::Task<Result<>> both(Body body) {
    GANTRY_CO_LET(io::Listener listener, co_await listen_at(loop, path));
    Server server(loop, service, std::move(listener), limits);
    auto test = body(*this, server);
    auto serving = server.serve();
    auto raced = co_await io::race(loop, std::move(test), std::move(serving));
    if (!raced.a) co_return raced.a;
    co_return raced.b;
  }
  void run(Body body) {
    const auto result = loop.run(io::with_deadline(loop, both(body), Deadline::in_ms(10'000)));
    INFO((result ? "" : result.error().text));
    CHECK(result);
  }
  io::Task<Result<Connection>> connect() {
    const Deadline deadline = Deadline::in_ms(5000);
    GANTRY_CO_LET(sys::Fd socket, co_await io::connect_unix(loop, path, deadline));
    co_return Connection(loop, std::move(socket));
  }
};

io::Task<Result<>> send(Connection& to, std::string_view text, int fd = -1) {
  std::vector<int> fds;
  if (fd >= 0) fds.push_back(fd);
  return to.send(std::string(text), std::move(fds), Deadline::in_ms(5000));
}

io::Task<Result<Message>> receive(Connection& from) {
  return from.receive(Deadline::in_ms(5000));
}

io::Task<Result<>> send_up(Connection& to, std::string_view id, int fd = -1) {
  return send(to, api::encode_call(api::Up{std::string(id), "/b", "/r", {}, "", ""}), fd);
}

io::Task<Result<>> send_wait(Connection& to) {
  return send(to, api::encode_call(api::Wait{"a"}));
}

io::Task<Result<>> send_stop(Connection& to) {
  return send(to, api::encode_call(api::Stop{"a", std::nullopt}));
}

io::Task<Result<>> expect(Connection& from, std::string_view wanted) {
  const std::string text(wanted);
  GANTRY_CO_LET(const Message got, co_await receive(from));
  if (got.text != text) co_return fail(cat("got ", got.text, " in place of ", text));
  co_return Result<>();
}

TEST_CASE("calls of one connection are answered in their order, with descriptors", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    GANTRY_CO_LET(Connection client, co_await in.connect());
    const std::string status = api::encode_call(api::Status{});
    GANTRY_CO_TRY(co_await send_up(client, "a", client.socket().get()));
    GANTRY_CO_TRY(co_await send(client, status));
    GANTRY_CO_TRY(co_await send_up(client, "b"));
    GANTRY_CO_LET(const Message first, co_await receive(client));
    if (first.text != R"({"parameters":{"id":"a","pid":1}})" || first.fds.size() != 1) co_return fail(first.text);
    GANTRY_CO_TRY(
        co_await expect(client, R"({"error":"gantry.supervisor.Failed","parameters":{"message":"cannot","errno":0}})"));
    GANTRY_CO_TRY(co_await expect(client, R"({"parameters":{"id":"b","pid":0}})"));
    if (in.service.delivered != 3) co_return fail("not told that the answers were sent");
    co_return Result<>();
  });
}

TEST_CASE("who hangs up cancels the handler", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server& server) -> io::Task<Result<>> {
    {
      GANTRY_CO_LET(Connection client, co_await in.connect());
      GANTRY_CO_TRY(co_await send_wait(client));
      const Deadline deadline = Deadline::in_ms(5000);
      co_await in.service.begun.wait(deadline);
      if (server.connections() != 1) co_return fail("not counted");
    }
    const Deadline deadline = Deadline::in_ms(5000);
    const io::Wake wake = co_await in.service.cancelled.wait(deadline);
    co_return wake == io::Wake::kReady ? Result<>() : fail("not cancelled");
  });
  CHECK(hall.service.delivered == 0);
}

TEST_CASE("what is shielded goes on after its client has hung up", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    const Deadline deadline = Deadline::in_ms(5000);
    {
      GANTRY_CO_LET(Connection client, co_await in.connect());
      GANTRY_CO_TRY(co_await send_stop(client));
      co_await in.service.begun.wait(deadline);
    }
    // Another client is served meanwhile.
    GANTRY_CO_LET(Connection other, co_await in.connect());
    GANTRY_CO_TRY(co_await send_up(other, "b"));
    GANTRY_CO_TRY(co_await expect(other, R"({"parameters":{"id":"b","pid":0}})"));
    if (in.service.stopped.is_set()) co_return fail("ended too early");
    in.service.go.set();
    const io::Wake wake = co_await in.service.stopped.wait(deadline);
    co_return wake == io::Wake::kReady ? Result<>() : fail("did not end");
  });
}

TEST_CASE("who only stops to send still gets the answer", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    GANTRY_CO_LET(Connection client, co_await in.connect());
    GANTRY_CO_TRY(co_await send_stop(client));
    ::shutdown(client.socket().get(), SHUT_WR);
    const Deadline deadline = Deadline::in_ms(5000);
    co_await in.service.begun.wait(deadline);
    in.service.go.set();
    GANTRY_CO_TRY(co_await expect(client, R"({"parameters":{}})"));
    const Result<Message> end = co_await receive(client);
    co_return !end && Connection::is_closed(end.error()) ? Result<>() : fail("not closed");
  });
}

TEST_CASE("the end of the server cancels its handlers", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    // The client must outlive this body: the connection is kept by the hall.
    static sys::Fd kept;
    GANTRY_CO_LET(Connection client, co_await in.connect());
    GANTRY_CO_TRY(co_await send_wait(client));
    kept = client.socket().duplicate();
    const Deadline deadline = Deadline::in_ms(5000);
    co_await in.service.begun.wait(deadline);
    co_return Result<>();
  });
  CHECK(hall.service.cancelled.is_set());
}

TEST_CASE("what was done while the server ended is still told", "[supervisor]") {
  Hall hall;
  hall.service.stop_ms = 10;
  static sys::Fd kept;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    GANTRY_CO_LET(Connection client, co_await in.connect());
    GANTRY_CO_TRY(co_await send_stop(client));
    kept = client.socket().duplicate();
    const Deadline deadline = Deadline::in_ms(5000);
    co_await in.service.begun.wait(deadline);
    co_return Result<>();
  });
  CHECK(hall.service.stopped.is_set());
  CHECK(hall.service.delivered == 1);
  std::array<std::byte, 100> buffer{};
  const auto got = hall.loop.run(io::read_some(hall.loop, kept.get(), buffer, Deadline::in_ms(1000)));
  CHECK(got.value_or(0) == std::string_view(R"({"parameters":{}})").size() + 1);
  kept.reset();
}

io::Task<Result<>> one_up(Hall& in, int number) {
  GANTRY_CO_LET(Connection client, co_await in.connect());
  const std::string id = cat("c", number);
  GANTRY_CO_TRY(co_await send_up(client, id));
  const std::string wanted = cat(R"({"parameters":{"id":")", id, R"(","pid":0}})");
  Result<> got = co_await expect(client, wanted);
  co_return got;
}

TEST_CASE("two hundred clients at once", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    io::Scope scope(in.loop);
    for (int i = 0; i < 200; ++i) scope.spawn(one_up(in, i));
    Result<> joined = co_await scope.join();
    co_return joined;
  });
  CHECK(hall.service.calls == 200);
}

TEST_CASE("garbage is answered and hurts nobody else", "[supervisor]") {
  Hall hall;
  hall.limits.receive_ms = 20;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    GANTRY_CO_LET(Connection bystander, co_await in.connect());
    GANTRY_CO_LET(Connection garbage, co_await in.connect());
    GANTRY_CO_TRY(co_await send(garbage, "}{"));
    GANTRY_CO_LET(const Message complaint, co_await receive(garbage));
    const auto decoded = api::decode_reply(complaint.text, 0);
    if (decoded || !decoded.error().text.starts_with("call: line 1")) co_return fail(complaint.text);
    // The borders of messages are intact: the connection goes on.
    GANTRY_CO_TRY(co_await send_up(garbage, "a"));
    GANTRY_CO_TRY(co_await expect(garbage, R"({"parameters":{"id":"a","pid":0}})"));

    GANTRY_CO_LET(const Connection half, co_await in.connect());
    const Deadline deadline = Deadline::in_ms(5000);
    const std::string_view part = "{\"method";
    const auto bytes = io::test::bytes(part);
    const std::span<const int> none;
    GANTRY_CO_TRY(co_await io::send_msg(in.loop, half.socket().get(), bytes, none, deadline));
    std::array<std::byte, 100> rest;
    GANTRY_CO_LET(const size_t end, co_await io::read_some(in.loop, half.socket().get(), rest, deadline));
    if (end != 0) co_return fail("a half message is kept for ever");

    GANTRY_CO_TRY(co_await send_up(bystander, "b"));
    Result<> fine = co_await expect(bystander, R"({"parameters":{"id":"b","pid":0}})");
    co_return fine;
  });
}

TEST_CASE("a message without an end is refused by name", "[supervisor]") {
  Hall hall;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    GANTRY_CO_LET(Connection flood, co_await in.connect());
    const std::string text = io::test::pattern(api::kMaxMessage);
    const auto bytes = io::test::bytes(text);
    const std::span<const int> none;
    const Deadline deadline = Deadline::in_ms(5000);
    GANTRY_CO_TRY(co_await io::send_msg(in.loop, flood.socket().get(), bytes, none, deadline));
    GANTRY_CO_LET(const Message complaint, co_await receive(flood));
    const auto decoded = api::decode_reply(complaint.text, 0);
    co_return !decoded && decoded.error().text.starts_with("message longer than") ? Result<>() : fail(complaint.text);
  });
}

TEST_CASE("more connections than the limit are told so", "[supervisor]") {
  Hall hall;
  hall.limits.connections = 2;
  hall.run([](Hall& in, Server&) -> io::Task<Result<>> {
    GANTRY_CO_LET(Connection one, co_await in.connect());
    {
      GANTRY_CO_LET(const Connection two, co_await in.connect());
      GANTRY_CO_LET(Connection three, co_await in.connect());
      GANTRY_CO_LET(const Message refusal, co_await receive(three));
      const auto decoded = api::decode_reply(refusal.text, 0);
      if (decoded || decoded.error().text != "the supervisor has 2 connections already: try again")
        co_return fail(refusal.text);
    }
    GANTRY_CO_TRY(co_await send_up(one, "a"));
    GANTRY_CO_TRY(co_await expect(one, R"({"parameters":{"id":"a","pid":0}})"));
    GANTRY_CO_LET(Connection four, co_await in.connect());
    GANTRY_CO_TRY(co_await send_up(four, "b"));
    Result<> served = co_await expect(four, R"({"parameters":{"id":"b","pid":0}})");
    co_return served;
  });
}

std::string listen_error(io::Loop& loop, const std::string& path) {
  const auto listener = loop.run(listen_at(loop, path));
  return listener ? "" : listener.error().text;
}

TEST_CASE("the socket is private, and a stale one is replaced", "[supervisor]") {
  io::Loop loop;
  const io::test::Directory directory;
  const std::string path = directory.path("a/b/socket");
  {
    const auto listener = loop.run(listen_at(loop, path));
    REQUIRE(listener);
    struct stat info{};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    REQUIRE(::stat(directory.path("a/b").c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
    CHECK(listen_error(loop, path) == cat("a supervisor is already running at ", path));
  }
  CHECK(listen_error(loop, path).empty());
}

TEST_CASE("what is not a stale socket stays", "[supervisor]") {
  io::Loop loop;
  const io::test::Directory directory;
  const std::string path = directory.path("file");
  {
    const sys::Fd file(::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  CHECK(listen_error(loop, path) == cat("socket ", path, ": a file that is no socket is in the way"));
  CHECK(::access(path.c_str(), F_OK) == 0);
  CHECK(listen_error(loop, "relative") == "socket \"relative\": must be an absolute path");
  REQUIRE(::mkdir(directory.path("open").c_str(), 0700) == 0);
  REQUIRE(::chmod(directory.path("open").c_str(), 0777) == 0);
  CHECK(listen_error(loop, directory.path("open/socket")).find("others can put a socket there") != std::string::npos);
}

TEST_CASE("a socket path may be longer than an address", "[supervisor]") {
  io::Loop loop;
  const io::test::Directory directory;
  const std::string path = directory.path(cat(std::string(100, 'x'), "/", std::string(100, 'y'), "/socket"));
  CHECK(listen_error(loop, path).empty());
}

TEST_CASE("only a listening stream socket is adopted", "[supervisor]") {
  io::Loop loop;
  const io::test::Directory directory;
  auto listener = loop.run(listen_at(loop, directory.path("socket")));
  REQUIRE(listener);
  CHECK(adopt_listener(loop, listener->fd().duplicate()));
  CHECK_FALSE(adopt_listener(loop, std::move(io::test::make_sockets().a)));
  CHECK_FALSE(adopt_listener(loop, std::move(io::test::make_pipe().a)));
}

}  // namespace
}  // namespace gantry
