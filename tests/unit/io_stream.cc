// Bytes, messages and descriptors over descriptors of ours.
#include "io/stream.h"

#include <signal.h>
#include <sys/stat.h>

#include "io/scope.h"
#include "io/timer.h"
#include "io_support.h"

namespace gantry::io {
namespace {

using std::chrono::milliseconds;
using test::Pair;

Task<Result<>> send_text(Loop& loop, int fd, std::string_view text) {
  const Deadline deadline = Deadline::in_ms(60'000);
  return write_all(loop, fd, test::bytes(text), deadline);
}

Task<Result<>> receive_text(Loop& loop, int fd, std::string& out, size_t piece, bool slow) {
  const Deadline deadline = Deadline::in_ms(60'000);
  std::vector<std::byte> buffer(piece);
  for (;;) {
    GANTRY_CO_LET(const size_t got, co_await read_some(loop, fd, buffer, deadline));
    if (got == 0) co_return Result<>();
    out += test::text(std::span(buffer).first(got));
    if (slow && out.size() % 7 == 0) co_await sleep_for(loop, milliseconds(1));
  }
}

Task<Result<>> send_and_close(Loop& loop, sys::Fd& fd, std::string_view text) {
  Result<> sent = co_await send_text(loop, fd.get(), text);
  fd.reset();
  co_return std::move(sent);
}

Task<Result<>> transfer(Loop& loop, Pair& ends, const std::string& text, std::string& out) {
  Scope scope(loop);
  scope.spawn(send_and_close(loop, ends.b, text));
  scope.spawn(receive_text(loop, ends.a.get(), out, 5000, true));
  Result<> joined = co_await scope.join();
  co_return std::move(joined);
}

TEST_CASE("a writer waits for its reader, and every byte arrives", "[io]") {
  Loop loop;
  const std::string text = test::pattern(1'000'000);
  Pair pipe = test::make_pipe();
  std::string out;
  REQUIRE(loop.run(transfer(loop, pipe, text, out)));
  CHECK(out == text);
  Pair sockets = test::make_sockets();
  out.clear();
  REQUIRE(loop.run(transfer(loop, sockets, text, out)));
  CHECK(out == text);
}

Task<Result<>> write_until(Loop& loop, int fd, std::string_view text, Deadline deadline) {
  return write_all(loop, fd, test::bytes(text), deadline);
}

TEST_CASE("reads and writes end at their deadline", "[io]") {
  Loop loop;
  const Pair pipe = test::make_pipe();
  const std::string text = test::pattern(200'000);
  const Result<> sent = loop.run(write_until(loop, pipe.b.get(), text, Deadline::in_ms(2)));
  REQUIRE(!sent);
  CHECK(sent.error().text == "write: timed out");
  const Pair empty = test::make_pipe();
  std::array<std::byte, 8> buffer{};
  const Result<size_t> got = loop.run(read_some(loop, empty.a.get(), buffer, Deadline::in_ms(2)));
  REQUIRE(!got);
  CHECK(is_timeout(got.error()));
}

TEST_CASE("a reader that is gone is EPIPE, not a signal", "[io]") {
  Loop loop;
  Pair pipe = test::make_pipe();
  pipe.a.reset();
  const Result<> sent = loop.run(send_text(loop, pipe.b.get(), "x"));
  REQUIRE(!sent);
  CHECK(sent.error().sys_errno == EPIPE);
  Pair sockets = test::make_sockets(SOCK_SEQPACKET);
  sockets.a.reset();
  const Result<> packet = loop.run(send_msg(loop, sockets.b.get(), test::bytes("x"), {}, Deadline::never()));
  REQUIRE(!packet);
  CHECK(packet.error().sys_errno == EPIPE);
}

struct Received {
  std::string text;
  std::vector<sys::Fd> fds;
};

Task<Result<Received>> receive(Loop& loop, int sock, size_t room) {
  const Deadline deadline = Deadline::in_ms(60'000);
  std::vector<std::byte> buffer(room);
  Received received;
  GANTRY_CO_LET(const size_t got, co_await recv_msg(loop, sock, buffer, received.fds, deadline));
  received.text = test::text(std::span(buffer).first(got));
  co_return std::move(received);
}

Task<Result<>> send(Loop& loop, int sock, std::string_view text, std::span<const int> fds) {
  const Deadline deadline = Deadline::in_ms(60'000);
  return send_msg(loop, sock, test::bytes(text), fds, deadline);
}

bool same_file(int a, int b) {
  struct stat first{};
  struct stat second{};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_ino == second.st_ino;
}

TEST_CASE("descriptors travel with their message", "[io]") {
  Loop loop;
  const Pair pipe = test::make_pipe();
  const std::array sent{pipe.a.get(), pipe.b.get()};
  for (const int type : {SOCK_SEQPACKET, SOCK_STREAM, SOCK_DGRAM}) {
    const Pair sockets = test::make_sockets(type);
    REQUIRE(loop.run(send(loop, sockets.a.get(), "two", sent)));
    const Result<Received> got = loop.run(receive(loop, sockets.b.get(), 100));
    REQUIRE(got);
    CHECK(got->text == "two");
    REQUIRE(got->fds.size() == 2);
    CHECK(same_file(got->fds[0].get(), pipe.a.get()));
    CHECK((::fcntl(got->fds[1].get(), F_GETFD) & FD_CLOEXEC) != 0);
  }
}

TEST_CASE("packets keep their borders, too long ones are refused", "[io]") {
  Loop loop;
  Pair sockets = test::make_sockets(SOCK_SEQPACKET);
  REQUIRE(loop.run(send(loop, sockets.a.get(), "first", {})));
  REQUIRE(loop.run(send(loop, sockets.a.get(), "second", {})));
  REQUIRE(loop.run(send(loop, sockets.a.get(), "third", {})));
  CHECK(loop.run(receive(loop, sockets.b.get(), 100)).value().text == "first");
  const Result<Received> cut = loop.run(receive(loop, sockets.b.get(), 3));
  REQUIRE(!cut);
  CHECK(cut.error().sys_errno == EMSGSIZE);
  CHECK(loop.run(receive(loop, sockets.b.get(), 100)).value().text == "third");
  sockets.a.reset();
  CHECK(loop.run(receive(loop, sockets.b.get(), 100)).value().text.empty());
}

TEST_CASE("as many descriptors as the kernel allows, and not one more", "[io]") {
  Loop loop;
  const Pair sockets = test::make_sockets(SOCK_SEQPACKET);
  std::vector<int> many(kMaxFdsPerMessage, sockets.a.get());
  REQUIRE(loop.run(send(loop, sockets.a.get(), "many", many)));
  CHECK(loop.run(receive(loop, sockets.b.get(), 10)).value().fds.size() == kMaxFdsPerMessage);
  many.push_back(sockets.a.get());
  CHECK(!loop.run(send(loop, sockets.a.get(), "too many", many)));
}

Task<Result<>> many_messages(Loop& loop, int sock, int count) {
  for (int i = 0; i < count; ++i) {
    const std::string text = cat("message ", i);
    GANTRY_CO_TRY(co_await send(loop, sock, text, std::span<const int>()));
  }
  co_return Result<>();
}

Task<Result<>> check_messages(Loop& loop, int sock, int count) {
  for (int i = 0; i < count; ++i) {
    if (i % 100 == 0) co_await sleep_for(loop, milliseconds(1));
    GANTRY_CO_LET(const Received got, co_await receive(loop, sock, 64));
    if (got.text != cat("message ", i)) co_return fail(cat(got.text, " in place of ", i));
  }
  co_return Result<>();
}

Task<Result<>> exchange(Loop& loop, const Pair& sockets, int count) {
  Scope scope(loop);
  scope.spawn(many_messages(loop, sockets.a.get(), count));
  scope.spawn(check_messages(loop, sockets.b.get(), count));
  Result<> joined = co_await scope.join();
  co_return std::move(joined);
}

TEST_CASE("a sender of packets waits for room", "[io]") {
  Loop loop;
  const Pair packets = test::make_sockets(SOCK_SEQPACKET);
  const Result<> result = loop.run(exchange(loop, packets, 2000));
  INFO((result ? std::string() : result.error().text));
  CHECK(result);
}

}  // namespace
}  // namespace gantry::io
