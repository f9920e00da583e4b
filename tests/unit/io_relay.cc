// Copying between ends that may belong to a caller.
#include "io/relay.h"

#include <pty.h>
#include <sys/stat.h>
#include <termios.h>

#include "io/scope.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io_support.h"

namespace gantry::io {
namespace {

using std::chrono::milliseconds;
using test::Pair;
using enum Endpoint::Direction;

RelayReport relay(Loop& loop, Endpoint source, Endpoint sink, int64_t ms = 60'000) {
  Relay copier(loop, std::move(source), std::move(sink));
  return loop.run(copier.run(Deadline::in_ms(ms)));
}

std::string slurp(const std::string& path) {
  const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string out(1 << 20, '\0');
  const ssize_t got = ::read(file.get(), out.data(), out.size());
  out.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return out;
}

sys::Fd file_with(const std::string& path, std::string_view text, int flags) {
  const sys::Fd fresh(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
  REQUIRE(::write(fresh.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  return sys::Fd(::open(path.c_str(), flags | O_CLOEXEC));
}

Task<Result<>> feed(Loop& loop, sys::Fd fd, std::string_view text) {
  const Deadline deadline = Deadline::in_ms(60'000);
  Result<> sent = co_await write_all(loop, fd.get(), test::bytes(text), deadline);
  co_return std::move(sent);
}

/// Takes a little at a time, so that the relay's writes are partial.
Task<Result<>> sip(Loop& loop, int fd, std::string& out) {
  const Deadline deadline = Deadline::in_ms(60'000);
  std::vector<std::byte> buffer(3001);
  for (;;) {
    GANTRY_CO_LET(const size_t got, co_await read_some(loop, fd, buffer, deadline));
    if (got == 0) co_return Result<>();
    out += test::text(std::span(buffer).first(got));
    if (out.size() % 16 == 0) co_await sleep_for(loop, milliseconds(1));
  }
}

Task<Result<>> relay_then_end(Relay& copier, RelayReport& report) {
  const Deadline never = Deadline::never();
  report = co_await copier.run(never);
  copier.sink().end_output();
  co_return Result<>();
}

Task<Result<>> pump(Loop& loop, Relay& copier, RelayReport& report, sys::Fd into, int from, const std::string& text,
                    std::string& out) {
  Scope scope(loop);
  scope.spawn(feed(loop, std::move(into), text));
  scope.spawn(relay_then_end(copier, report));
  scope.spawn(sip(loop, from, out));
  Result<> joined = co_await scope.join();
  co_return std::move(joined);
}

TEST_CASE("a relay carries every byte to a slow reader and passes the end on", "[io]") {
  Loop loop;
  const std::string text = test::pattern(500'000);
  const bool borrowed = GENERATE(false, true);
  const bool sockets = GENERATE(false, true);
  Pair in = sockets ? test::make_sockets() : test::make_pipe();
  Pair out = test::make_sockets();
  Relay copier(loop, borrowed ? Endpoint::borrow(in.a.get(), kRead) : Endpoint::own(in.a.duplicate(), kRead),
               Endpoint::own(std::move(out.b), kWrite));
  RelayReport report{};
  std::string got;
  REQUIRE(loop.run(pump(loop, copier, report, std::move(in.b), out.a.get(), text, got)));
  CHECK(got == text);
  CHECK(report.bytes == text.size());
  CHECK(report.end == RelayEnd::kEof);
  CHECK(test::nonblocking(in.a.get()) == !borrowed);
}

struct Pty {
  sys::Fd master;
  sys::Fd slave;
};

Pty make_raw_pty() {
  int master = -1;
  int slave = -1;
  termios raw{};
  ::cfmakeraw(&raw);
  REQUIRE(::openpty(&master, &slave, nullptr, &raw, nullptr) == 0);
  return {sys::Fd(master), sys::Fd(slave)};
}

/// Copies, looking at the caller's flags while it waits, and then closes the caller's descriptor.
Task<Result<>> relay_borrowed(Relay& copier, sys::Fd& callers, RelayReport& report) {
  do {
    const Deadline deadline = Deadline::in_ms(1);
    report = co_await copier.run(deadline);
    if (test::nonblocking(callers.get())) co_return fail("the caller's flags have changed");
  } while (report.end == RelayEnd::kTimeout);
  callers.reset();
  co_return Result<>();
}

Task<Result<>> pump_borrowed(Loop& loop, sys::Fd from, sys::Fd& callers, sys::Fd into, int reader,
                             const std::string& text, std::string& out) {
  const Deadline far = Deadline::in_ms(60'000);
  RelayReport report{};
  Relay copier(loop, Endpoint::own(std::move(from), kRead), Endpoint::borrow(callers.get(), kWrite));
  Scope scope(loop);
  scope.spawn(feed(loop, std::move(into), text));
  scope.spawn(relay_borrowed(copier, callers, report));
  // The copier holds an open pipe of its own until it dies, so the size tells the end.
  while (out.size() < text.size() && !scope.cancelled()) {
    std::array<std::byte, 3001> piece;
    GANTRY_CO_LET(const size_t got, co_await read_some(loop, reader, piece, far));
    out += test::text(std::span(piece).first(got));
    if (out.size() % 16 == 0) co_await sleep_for(loop, milliseconds(1));
  }
  GANTRY_CO_TRY(co_await scope.join());
  if (report.end != RelayEnd::kEof) co_return fail("the relay did not end with its source");
  co_return Result<>();
}

TEST_CASE("a caller's output keeps its flags while the relay waits for it", "[io]") {
  Loop loop;
  const std::string text = test::pattern(400'000);
  const bool sockets = GENERATE(false, true);
  Pair in = test::make_pipe();
  Pair out = sockets ? test::make_sockets() : test::make_pipe();
  std::string got;
  const Result<> result =
      loop.run(pump_borrowed(loop, std::move(in.a), out.b, std::move(in.b), out.a.get(), text, got));
  INFO((result ? std::string() : result.error().text));
  CHECK(result);
  CHECK(got == text);
}

/// A descriptor that cannot be opened again and is no socket: written after poll(2), in pieces.
TEST_CASE("a caller's pty master is written without changing it", "[io]") {
  Loop loop;
  const Pty pty = make_raw_pty();
  const std::string text = test::pattern(1000);
  Pair in = test::make_pipe();
  REQUIRE(::write(in.b.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  in.b.reset();
  const RelayReport report =
      relay(loop, Endpoint::own(std::move(in.a), kRead), Endpoint::borrow(pty.master.get(), kWrite));
  CHECK(report.end == RelayEnd::kEof);
  CHECK(!test::nonblocking(pty.master.get()));
  std::string got;
  while (got.size() < text.size()) {  // the kernel hands it over a little later
    std::array<char, 2000> piece{};
    const ssize_t n = ::read(pty.slave.get(), piece.data(), piece.size());
    REQUIRE(n > 0);
    got.append(piece.data(), static_cast<size_t>(n));
  }
  CHECK(got == text);
}

TEST_CASE("files share their offset with the caller, and /dev/null works at both ends", "[io]") {
  Loop loop;
  const test::Directory directory;
  const std::string text = test::pattern(200'000);
  const sys::Fd source = file_with(directory.path("in"), text, O_RDONLY);
  REQUIRE(::lseek(source.get(), 1000, SEEK_SET) == 1000);
  const sys::Fd sink = file_with(directory.path("out"), "", O_WRONLY);
  const RelayReport report = relay(loop, Endpoint::borrow(source.get(), kRead), Endpoint::borrow(sink.get(), kWrite));
  CHECK(report.end == RelayEnd::kEof);
  CHECK(slurp(directory.path("out")) == text.substr(1000));
  REQUIRE(::write(sink.get(), "more", 4) == 4);
  CHECK(slurp(directory.path("out")) == text.substr(1000) + "more");
  CHECK(!test::nonblocking(sink.get()));
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const sys::Fd again = file_with(directory.path("in"), text, O_RDONLY);
  CHECK(relay(loop, Endpoint::borrow(again.get(), kRead), Endpoint::borrow(null.get(), kWrite)).bytes == text.size());
  const RelayReport nothing = relay(loop, Endpoint::borrow(null.get(), kRead), Endpoint::borrow(sink.get(), kWrite));
  CHECK(nothing.end == RelayEnd::kEof);
  CHECK(nothing.bytes == 0);
}

TEST_CASE("closed ends: the end of the file to read, EBADF to write", "[io]") {
  Loop loop;
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const RelayReport read = relay(loop, Endpoint::borrow(9999, kRead), Endpoint::borrow(null.get(), kWrite));
  CHECK(read.end == RelayEnd::kEof);
  const test::Directory directory;
  const sys::Fd source = file_with(directory.path("in"), "text", O_RDONLY);
  const RelayReport write = relay(loop, Endpoint::borrow(source.get(), kRead), Endpoint::borrow(9999, kWrite));
  CHECK(write.end == RelayEnd::kWriteError);
  REQUIRE(write.error);
  CHECK(write.error->sys_errno == EBADF);
}

TEST_CASE("a reader that went away ends the relay with EPIPE", "[io]") {
  Loop loop;
  const bool borrowed = GENERATE(false, true);
  const bool sockets = GENERATE(false, true);
  Pair in = test::make_pipe();
  REQUIRE(::write(in.b.get(), "x", 1) == 1);
  Pair out = sockets ? test::make_sockets() : test::make_pipe();
  out.a.reset();
  const int number = out.b.get();
  const RelayReport report =
      relay(loop, Endpoint::own(std::move(in.a), kRead),
            borrowed ? Endpoint::borrow(number, kWrite) : Endpoint::own(out.b.duplicate(), kWrite));
  CHECK(report.end == RelayEnd::kWriteError);
  REQUIRE(report.error);
  CHECK(report.error->text == "write: broken pipe");
}

TEST_CASE("a terminal whose other side is gone has ended", "[io]") {
  Loop loop;
  Pty pty = make_raw_pty();
  REQUIRE(::write(pty.slave.get(), "last words", 10) == 10);
  pty.slave.reset();
  Pair out = test::make_pipe();
  const RelayReport report =
      relay(loop, Endpoint::own(std::move(pty.master), kRead), Endpoint::own(std::move(out.b), kWrite));
  CHECK(report.end == RelayEnd::kEof);
  CHECK(report.bytes == 10);
}

TEST_CASE("a caller's terminal is opened again, a pty master is not", "[io]") {
  Loop loop;
  const Pty pty = make_raw_pty();
  const Result<sys::Fd> again = reopen_nonblocking(pty.slave.get());
  REQUIRE(again);
  CHECK(test::nonblocking(again->get()));
  CHECK(!test::nonblocking(pty.slave.get()));
  CHECK(!reopen_nonblocking(pty.master.get()));
  const Pair sockets = test::make_sockets();
  CHECK(!reopen_nonblocking(sockets.a.get()));
  CHECK(!reopen_nonblocking(9999));
  // A borrowed master is read after poll(2), and keeps its flags.
  REQUIRE(::write(pty.slave.get(), "seen", 4) == 4);
  Pair out = test::make_pipe();
  const RelayReport report =
      relay(loop, Endpoint::borrow(pty.master.get(), kRead), Endpoint::own(std::move(out.b), kWrite), 20);
  CHECK(report.end == RelayEnd::kTimeout);
  CHECK(report.bytes == 4);
  CHECK(!test::nonblocking(pty.master.get()));
}

TEST_CASE("a relay that was stopped goes on where it was", "[io]") {
  Loop loop;
  const std::string text = test::pattern(300'000);
  const test::Directory directory;
  const sys::Fd source = file_with(directory.path("in"), text, O_RDONLY);
  Pair out = test::make_pipe();
  Relay copier(loop, Endpoint::borrow(source.get(), kRead), Endpoint::own(std::move(out.b), kWrite));
  std::string got;
  RelayReport report{};
  for (int run = 0; run < 100; ++run) {
    report = loop.run(copier.run(Deadline::in_ms(1)));
    CHECK(copier.held() <= Relay::kBuffer);
    if (report.end != RelayEnd::kTimeout) break;
    std::array<char, 40'000> piece{};
    const ssize_t n = ::read(out.a.get(), piece.data(), piece.size());
    got.append(piece.data(), static_cast<size_t>(n));
  }
  CHECK(report.end == RelayEnd::kEof);
  copier.sink().end_output();
  for (char rest[4096];;) {
    const ssize_t n = ::read(out.a.get(), rest, sizeof rest);
    if (n <= 0) break;
    got.append(rest, static_cast<size_t>(n));
  }
  CHECK(got == text);
}

}  // namespace
}  // namespace gantry::io
