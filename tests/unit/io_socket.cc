// Unix sockets at paths of any length, and listening when descriptors run out.
#include <sys/resource.h>
#include <sys/stat.h>

#include <vector>

#include "io/listener.h"
#include "io/scope.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io_support.h"

namespace gantry::io {
namespace {

using std::chrono::milliseconds;

Task<Result<>> greet(Loop& loop, Listener& listener) {
  const Deadline deadline = Deadline::in_ms(60'000);
  GANTRY_CO_LET(const sys::Fd client, co_await listener.accept(deadline));
  const std::string text = "hello";
  GANTRY_CO_TRY(co_await write_all(loop, client.get(), test::bytes(text), deadline));
  co_return Result<>();
}

Task<Result<>> expect_greeting(Loop& loop, std::string path) {
  const Deadline deadline = Deadline::in_ms(60'000);
  GANTRY_CO_LET(const sys::Fd server, co_await connect_unix(loop, path, deadline));
  std::array<std::byte, 16> buffer{};
  GANTRY_CO_LET(const size_t got, co_await read_some(loop, server.get(), buffer, deadline));
  if (test::text(std::span(buffer).first(got)) != "hello") co_return fail("no greeting");
  co_return Result<>();
}

Task<Result<>> talk(Loop& loop, Listener& listener, std::string path) {
  Scope scope(loop);
  scope.spawn(greet(loop, listener));
  scope.spawn(expect_greeting(loop, std::move(path)));
  Result<> joined = co_await scope.join();
  co_return std::move(joined);
}

TEST_CASE("sockets at paths that sockaddr_un cannot hold", "[io]") {
  Loop loop;
  const test::Directory directory;
  const size_t prefix = directory.path("").size();
  std::vector<std::string> paths;
  for (const size_t length : {size_t{60}, size_t{106}, size_t{107}, size_t{108}, size_t{109}, size_t{200}}) {
    paths.push_back(directory.path(std::string(length - prefix, 's')));
    REQUIRE(paths.back().size() == length);
  }
  paths.push_back(directory.path(std::string(255, 'n')));  // NAME_MAX
  const std::string deep = directory.path(std::string(200, 'd'));
  REQUIRE(::mkdir(deep.c_str(), 0700) == 0);
  paths.push_back(cat(deep, "/short"));
  for (const std::string& path : paths) {
    INFO(path.size());
    Result<Listener> listener = Listener::bind_unix(loop, path);
    INFO((listener ? std::string() : listener.error().text));
    REQUIRE(listener);
    struct stat info{};
    REQUIRE(::lstat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    CHECK(S_ISSOCK(info.st_mode));
    const Result<> talked = loop.run(talk(loop, *listener, path));
    INFO((talked ? std::string() : talked.error().text));
    CHECK(talked);
    const Result<Listener> again = Listener::bind_unix(loop, path);
    REQUIRE(!again);
    CHECK(again.error().sys_errno == EADDRINUSE);
  }
}

TEST_CASE("paths that cannot be sockets are refused by name", "[io]") {
  Loop loop;
  const test::Directory directory;
  CHECK(!Listener::bind_unix(loop, ""));
  CHECK(!Listener::bind_unix(loop, std::string("a\0b", 3)));
  CHECK(!Listener::bind_unix(loop, directory.path("")));
  const std::string absent = directory.path("absent/socket");
  const Result<Listener> bound = Listener::bind_unix(loop, absent);
  REQUIRE(!bound);
  CHECK(bound.error().text == cat("bind ", absent, ": no such file or directory"));
  const std::string far = directory.path(cat("absent/", std::string(150, 'x')));
  CHECK(Listener::bind_unix(loop, far).error().sys_errno == ENOENT);
  for (const std::string& path : {absent, far}) {
    const Result<sys::Fd> connected = loop.run(connect_unix(loop, path, Deadline::never()));
    REQUIRE(!connected);
    CHECK(connected.error().text == cat("connect ", path, ": no such file or directory"));
  }
}

TEST_CASE("accept and connect end at their deadline", "[io]") {
  Loop loop;
  const test::Directory directory;
  const std::string path = directory.path("socket");
  Result<Listener> listener = Listener::bind_unix(loop, path);
  REQUIRE(listener);
  CHECK(is_timeout(loop.run(listener->accept(Deadline::in_ms(2))).error()));
  REQUIRE(::listen(listener->fd().get(), 0) == 0);
  const Result<sys::Fd> queued = loop.run(connect_unix(loop, path, Deadline::in_ms(100)));
  REQUIRE(queued);
  const Result<sys::Fd> refused = loop.run(connect_unix(loop, path, Deadline::in_ms(5)));
  REQUIRE(!refused);
  CHECK(refused.error().text == cat("connect ", path, ": timed out"));
}

/// Lowers the limit of open files to what is open now.
class NoMoreFiles {
 public:
  NoMoreFiles() {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const sys::Fd next(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    rlimit low = before_;
    low.rlim_cur = static_cast<rlim_t>(next.get());
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &low) == 0);
  }
  ~NoMoreFiles() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

TEST_CASE("a listener without descriptors turns clients away and goes on", "[io]") {
  Loop loop;
  const test::Directory directory;
  const std::string path = directory.path("socket");
  Result<Listener> listener = Listener::bind_unix(loop, path);
  REQUIRE(listener);
  const Result<sys::Fd> unlucky = loop.run(connect_unix(loop, path, Deadline::in_ms(60'000)));
  REQUIRE(unlucky);
  {
    const NoMoreFiles limit;
    CHECK(is_timeout(loop.run(listener->accept(Deadline::in_ms(5))).error()));
  }
  CHECK(listener->turned_away() == 1);
  std::array<std::byte, 1> buffer{};
  CHECK(loop.run(read_some(loop, unlucky->get(), buffer, Deadline::in_ms(60'000))).value_or(9) == 0);
  CHECK(loop.run(talk(loop, *listener, path)));
}

}  // namespace
}  // namespace gantry::io
