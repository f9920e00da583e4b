#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "io/flush.h"
#include "io/scope.h"

namespace {
int plain_flushes = 0;
}

/// In front of libc's: what is flushed in this way keeps the loop waiting.
extern "C" int fsync(int fd) {
  ++plain_flushes;
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

namespace gantry::io {
namespace {

/// On no disk, which may be busy for seconds: the queue is the same.
sys::Fd scratch_file() {
  sys::Fd fd(::memfd_create("gantry-flush", MFD_CLOEXEC));
  REQUIRE(fd);
  REQUIRE(::write(fd.get(), "x", 1) == 1);
  return fd;
}

Task<Result<>> flush_some(Flusher& flusher, int files) {
  std::vector<sys::Fd> fds;
  for (int i = 0; i < files; ++i) fds.push_back(scratch_file());
  Result<> done = co_await flusher.flush(std::move(fds));
  co_return done;
}

Task<Result<>> flush_many(Loop& loop, Flusher& flusher) {
  Scope scope(loop);
  for (int i = 0; i < 40; ++i) scope.spawn(flush_some(flusher, 15));
  Result<> joined = co_await scope.join();
  co_return joined;
}

TEST_CASE("many flushes at once all come back, more than the kernel takes in one go") {
  Loop loop;
  Flusher flusher(loop);
  plain_flushes = 0;
  CHECK(loop.run(flush_many(loop, flusher)));
  CHECK(plain_flushes == 0);
}

TEST_CASE("what cannot be flushed is an error, and the next flush works") {
  Loop loop;
  Flusher flusher(loop);
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  std::vector<sys::Fd> pipe_ends;
  pipe_ends.emplace_back(ends[0]);
  pipe_ends.emplace_back(ends[1]);
  const auto refused = loop.run(flusher.flush(std::move(pipe_ends)));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().sys_errno == EINVAL);
  CHECK(loop.run(flush_some(flusher, 1)));
}

}  // namespace
}  // namespace gantry::io
