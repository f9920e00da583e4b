// One connection: borders of messages, descriptors, and peers that misbehave.
#include "engine/supervisor/connection.h"

#include <sys/socket.h>
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
using io::test::Pair;

struct Link {
  io::Loop loop;
  Pair ends = io::test::make_sockets();
  Connection near{loop, std::move(ends.a)};

  Result<Message> receive(int64_t ms = 2000) { return loop.run(near.receive(Deadline::in_ms(ms))); }
  /// What the far side sends in one call.
  void put(std::string_view bytes, std::vector<int> fds = {}) {
    const auto sent = loop.run(io::send_msg(loop, ends.b.get(), io::test::bytes(bytes), fds, Deadline::in_ms(2000)));
    REQUIRE(sent);
  }
  std::string error(int64_t ms = 2000) {
    const auto got = receive(ms);
    return got ? "a message" : got.error().text;
  }
};

ino_t file_of(int fd) {
  struct stat info{};
  REQUIRE(::fstat(fd, &info) == 0);
  return info.st_ino;
}

constexpr std::string_view kTwo("first\0second\0", 13);

TEST_CASE("messages end with a NUL, however they are cut", "[supervisor]") {
  Link link;
  link.put(kTwo);
  CHECK(link.receive().value().text == "first");
  CHECK(link.receive().value().text == "second");
  for (const char c : kTwo) link.put(std::string_view(&c, 1));
  CHECK(link.receive().value().text == "first");
  CHECK(link.receive().value().text == "second");
  link.put(std::string_view("\0", 1));
  CHECK(link.receive().value().text.empty());
}

TEST_CASE("a half message waits for its other half", "[supervisor]") {
  Link link;
  link.put("fir");
  CHECK(link.error(1) == "recvmsg: timed out");
  link.put(std::string_view("st\0", 3));
  CHECK(link.receive().value().text == "first");
  link.put("half");
  link.ends.b.reset();
  const auto cut = link.receive();
  REQUIRE_FALSE(cut);
  CHECK(cut.error().text == "the connection was closed after 4 bytes of a message");
  CHECK(Connection::is_closed(cut.error()));
}

TEST_CASE("a peer that hangs up between two messages", "[supervisor]") {
  Link link;
  link.put(std::string_view("last\0", 5));
  link.ends.b.reset();
  CHECK(link.receive().value().text == "last");
  CHECK(link.error() == "the connection was closed");
}

TEST_CASE("descriptors belong to the message whose first byte carried them", "[supervisor]") {
  Link link;
  const Pair one = io::test::make_pipe();
  const Pair two = io::test::make_pipe();
  link.put(std::string_view("none\0", 5));
  link.put(std::string_view("one\0", 4), {one.a.get()});
  link.put(std::string_view("two\0", 4), {two.a.get(), two.b.get()});
  link.put(std::string_view("none\0", 5));
  CHECK(link.receive().value().fds.empty());
  const Message first = link.receive().value();
  REQUIRE(first.fds.size() == 1);
  CHECK(file_of(first.fds[0].get()) == file_of(one.a.get()));
  const Message second = link.receive().value();
  CHECK(second.text == "two");
  REQUIRE(second.fds.size() == 2);
  CHECK(file_of(second.fds[1].get()) == file_of(two.b.get()));
  CHECK(link.receive().value().fds.empty());
}

TEST_CASE("a half message keeps its descriptors, late ones are closed", "[supervisor]") {
  Link link;
  const Pair pipe = io::test::make_pipe();
  Pair late = io::test::make_pipe();
  link.put("be", {pipe.a.get()});
  CHECK(link.error(1) == "recvmsg: timed out");
  link.put("gi", {late.b.get()});
  CHECK(link.error(1) == "recvmsg: timed out");
  late.b.reset();
  char byte = 0;
  CHECK(::read(late.a.get(), &byte, 1) == 0);  // no other writer has kept it open
  link.put(std::string_view("n\0", 2));
  const Message message = link.receive().value();
  CHECK(message.text == "begin");
  REQUIRE(message.fds.size() == 1);
  CHECK(file_of(message.fds[0].get()) == file_of(pipe.a.get()));
}

io::Task<> keep(io::Task<Result<Message>> task, Result<Message>& into) {
  into = co_await std::move(task);
}

/// One side sends while the other receives; what was received.
io::Task<Result<Message>> exchange(Link& link, io::Task<Result<>> sending) {
  Result<Message> got;
  io::Scope scope(link.loop);
  scope.spawn(keep(link.near.receive(Deadline::in_ms(5000)), got));
  scope.spawn(std::move(sending));
  const Result<> sent = co_await scope.join();
  if (!sent) co_return std::unexpected(sent.error());
  co_return std::move(got);
}

io::Task<Result<>> send_raw(Link& link, std::string bytes) {
  const Deadline deadline = Deadline::in_ms(5000);
  const auto data = io::test::bytes(bytes);
  const std::span<const int> none;
  Result<> sent = co_await io::send_msg(link.loop, link.ends.b.get(), data, none, deadline);
  co_return sent;
}

TEST_CASE("a message longer than the longest is refused", "[supervisor]") {
  Link link;
  const auto got = link.loop.run(exchange(link, send_raw(link, io::test::pattern(api::kMaxMessage))));
  REQUIRE_FALSE(got);
  CHECK(got.error().sys_errno == EMSGSIZE);
}

TEST_CASE("the longest message arrives whole", "[supervisor]") {
  Link link;
  Connection far(link.loop, std::move(link.ends.b));
  const std::string text = io::test::pattern(api::kMaxMessage - 1);
  const Pair pipe = io::test::make_pipe();
  const Deadline deadline = Deadline::in_ms(5000);
  const auto got = link.loop.run(exchange(link, far.send(text, {pipe.a.get()}, deadline)));
  REQUIRE(got);
  CHECK(got->text == text);
  CHECK(got->fds.size() == 1);
  const auto refused = link.loop.run(far.send(text + "x", {}, deadline));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().sys_errno == EMSGSIZE);
}

TEST_CASE("a peer that does not read ends the send at its deadline", "[supervisor]") {
  Link link;
  const std::string text = io::test::pattern(api::kMaxMessage - 1);
  const auto sent = link.loop.run(link.near.send(text, {}, Deadline::in_ms(5)));
  REQUIRE_FALSE(sent);
  CHECK(sent.error().sys_errno == ETIMEDOUT);
}

TEST_CASE("a begun message has a limit, the silence before it has none", "[supervisor]") {
  Link link;
  link.put("beg");
  const auto begun = link.loop.run(link.near.receive_whole(5));
  REQUIRE_FALSE(begun);
  CHECK(begun.error().sys_errno == ETIMEDOUT);
  Link other;
  const auto silent = other.loop.run(io::with_deadline(other.loop, other.near.receive_whole(1), Deadline::in_ms(20)));
  REQUIRE_FALSE(silent);
  CHECK(silent.error().text.ends_with("timed out"));
}

bool sees_hangup(Link& link) {
  const auto wake = link.loop.run(io::with_deadline(link.loop, link.near.hung_up(), Deadline::in_ms(20)));
  return wake && *wake == io::Wake::kReady;
}

TEST_CASE("only a peer that is gone has hung up", "[supervisor]") {
  Link link;
  CHECK_FALSE(sees_hangup(link));
  link.put("more");
  CHECK_FALSE(sees_hangup(link));
  REQUIRE(::shutdown(link.ends.b.get(), SHUT_WR) == 0);
  CHECK_FALSE(sees_hangup(link));
  link.ends.b.reset();
  CHECK(sees_hangup(link));
}

TEST_CASE("the peer is who connected", "[supervisor]") {
  const Pair ends = io::test::make_sockets();
  const auto peer = peer_of(ends.a);
  REQUIRE(peer);
  CHECK(peer->pid == ::getpid());
  CHECK(peer->uid == ::geteuid());
  CHECK_FALSE(peer_of(sys::Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC))));
}

}  // namespace
}  // namespace gantry
