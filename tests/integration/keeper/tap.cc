#include "tests/integration/keeper/tap.h"

#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <span>

#include "io/scope.h"
#include "io/stream.h"

namespace gantry::puppet {

Tap::Tap(io::Loop& loop, sys::Fd keeper) : loop_(loop), keeper_(std::move(keeper)) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
    std::perror("puppet: socketpair");
    std::exit(1);
  }
  ours_ = sys::Fd(ends[0]);
  theirs_ = sys::Fd(ends[1]);
}

io::Task<Result<>> Tap::pass(int from, int to, size_t& count) {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    init::KeeperFrame frame{};
    std::vector<sys::Fd> fds;
    const std::span<std::byte> into = std::as_writable_bytes(std::span(&frame, 1));
    GANTRY_CO_LET(const size_t got, co_await io::recv_msg(loop_, from, into, fds, never));
    if (got == 0) co_return fail("the end");
    if (frame.tag == init::KeeperTag::kExited) exits_.push_back(frame);
    std::vector<int> numbers;
    for (const sys::Fd& fd : fds) numbers.push_back(fd.get());
    const std::span<const int> passed(numbers);
    const std::span<const std::byte> bytes(into.first(got));
    GANTRY_CO_TRY(co_await io::send_msg(loop_, to, bytes, passed, never));
    ++count;
  }
}

io::Task<> Tap::run() {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope both(loop_, inherited);
  both.spawn(pass(keeper_.get(), ours_.get(), taken_));
  both.spawn(pass(ours_.get(), keeper_.get(), given_));
  const Result<> ended = co_await both.join();
  static_cast<void>(ended);
  ours_.reset();
}

}  // namespace gantry::puppet
