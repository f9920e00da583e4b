// Waiting for descriptors and signals.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstddef>
#include <set>

#include "io/readable.h"
#include "io/scope.h"
#include "io/signal.h"
#include "io/timer.h"
#include "io_support.h"

namespace gantry::io {
namespace {

using std::chrono::milliseconds;
using test::Pair;

Task<Wake> wait_ms(Loop& loop, int fd, short events, int64_t ms) {
  const Deadline deadline = Deadline::in_ms(ms);
  return wait_fd(loop, fd, events, deadline);
}

TEST_CASE("a descriptor is ready, or not in time", "[io]") {
  Loop loop;
  const Pair pipe = test::make_pipe();
  CHECK(loop.run(wait_ms(loop, pipe.a.get(), POLLIN, 2)) == Wake::kTimeout);
  CHECK(loop.run(wait_ms(loop, pipe.b.get(), POLLOUT, 60'000)) == Wake::kReady);
  REQUIRE(::write(pipe.b.get(), "x", 1) == 1);
  CHECK(loop.run(wait_ms(loop, pipe.a.get(), POLLIN, 60'000)) == Wake::kReady);
}

TEST_CASE("an expired deadline still looks once", "[io]") {
  Loop loop;
  const Pair pipe = test::make_pipe();
  CHECK(loop.run(wait_ms(loop, pipe.a.get(), POLLIN, 0)) == Wake::kTimeout);
  REQUIRE(::write(pipe.b.get(), "x", 1) == 1);
  CHECK(loop.run(wait_ms(loop, pipe.a.get(), POLLIN, 0)) == Wake::kReady);
}

TEST_CASE("hang-ups and errors make a descriptor ready", "[io]") {
  Loop loop;
  Pair pipe = test::make_pipe();
  pipe.b.reset();
  CHECK(loop.run(wait_ms(loop, pipe.a.get(), POLLIN, 60'000)) == Wake::kReady);
  Pair broken = test::make_pipe();
  const std::string much = test::pattern(1 << 20);
  REQUIRE(::fcntl(broken.b.get(), F_SETFL, O_NONBLOCK) == 0);
  REQUIRE(::write(broken.b.get(), much.data(), much.size()) > 0);
  broken.a.reset();
  CHECK(loop.run(wait_ms(loop, broken.b.get(), POLLOUT, 60'000)) == Wake::kReady);
}

TEST_CASE("what epoll does not take counts as ready", "[io]") {
  Loop loop;
  const sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  CHECK(loop.run(wait_ms(loop, null.get(), POLLIN, 60'000)) == Wake::kReady);
  const sys::Fd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  CHECK(loop.run(wait_ms(loop, file.get(), POLLIN, 60'000)) == Wake::kReady);
  CHECK(loop.run(wait_ms(loop, 9999, POLLIN, 60'000)) == Wake::kReady);
}

Task<> note(Task<Wake> wait, std::string& trace, char name) {
  const Wake wake = co_await std::move(wait);
  trace += name;
  trace += wake == Wake::kReady ? '+' : wake == Wake::kTimeout ? 't' : 'c';
}

Task<> both_directions(Loop& loop, int fd, int peer, std::string& trace) {
  Scope scope(loop);
  scope.spawn(note(wait_ms(loop, fd, POLLIN, 60'000), trace, 'r'));
  scope.spawn(note(wait_ms(loop, fd, POLLIN, 60'000), trace, 'R'));
  scope.spawn(note(wait_ms(loop, fd, POLLIN, 1), trace, 't'));
  scope.spawn(note(wait_ms(loop, fd, POLLOUT, 60'000), trace, 'w'));
  co_await sleep_for(loop, milliseconds(5));
  if (::write(peer, "x", 1) != 1) trace += "?";
  co_await scope.join();
}

TEST_CASE("several tasks wait for one descriptor, each for its own events", "[io]") {
  Loop loop;
  const Pair sockets = test::make_sockets();
  std::string trace;
  loop.run(both_directions(loop, sockets.a.get(), sockets.b.get(), trace));
  CHECK(trace == "w+ttr+R+");
}

Task<> lose_one(Loop& loop, int fd, int peer, std::string& trace) {
  Task<Wake> dropped = wait_ms(loop, fd, POLLIN, 60'000);
  dropped.handle().resume();
  Scope scope(loop);
  scope.spawn(note(wait_ms(loop, fd, POLLIN, 60'000), trace, 'k'));
  co_await sleep_for(loop, milliseconds(1));
  dropped.reset();
  if (::write(peer, "x", 1) != 1) trace += "?";
  co_await scope.join();
}

TEST_CASE("destroying one wait leaves the other", "[io]") {
  Loop loop;
  const Pair pipe = test::make_pipe();
  std::string trace;
  loop.run(lose_one(loop, pipe.a.get(), pipe.b.get(), trace));
  CHECK(trace == "k+");
}

Task<> reuse_numbers(Loop& loop, int& ready) {
  for (int i = 0; i < 100; ++i) {
    const sys::Fd counter(::eventfd(i % 2 == 0 ? 1 : 0, EFD_CLOEXEC));
    const Wake wake = co_await wait_ms(loop, counter.get(), POLLIN, i % 2 == 0 ? 60'000 : 0);
    if (wake == Wake::kReady) ++ready;
  }
}

TEST_CASE("a number that is closed and used again is another descriptor", "[io]") {
  Loop loop;
  int ready = 0;
  loop.run(reuse_numbers(loop, ready));
  CHECK(ready == 50);
}

/// From now on the kernel has no memory for anything that is to be waited for.
bool starve_epoll() {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_epoll_ctl, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(code), code};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

class Noted final : public FdWatch {
 public:
  Noted(Loop& loop, int fd, std::string& trace) : FdWatch(loop, fd, POLLIN), trace_(trace) {}

 private:
  void on_ready() override { trace_ += 'W'; }
  std::string& trace_;
};

Task<> wait_without_memory(Loop& loop, int fd, int peer, std::string& trace) {
  Noted watch(loop, fd, trace);
  Scope scope(loop);
  watch.start();
  scope.spawn(note(wait_ms(loop, fd, POLLIN, 60'000), trace, 'r'));
  scope.spawn(note(wait_ms(loop, fd, POLLIN, 25), trace, 'd'));
  co_await sleep_for(loop, milliseconds(40));
  trace += '|';
  if (::write(peer, "x", 1) != 1) trace += '?';
  co_await scope.join();
  co_await sleep_for(loop, milliseconds(15));
}

TEST_CASE("without memory to wait with, nothing is told to be ready that is not", "[io]") {
  const Pair answer = test::make_pipe();
  const pid_t child = ::fork();
  if (child == 0) {
    std::string trace;
    {
      Loop loop;
      const Pair pipe = test::make_pipe();
      (void)loop.run(wait_ms(loop, pipe.a.get(), POLLIN, 1));  // the loop has its own descriptors in place
      trace += starve_epoll() ? '!' : '?';
      loop.run(wait_without_memory(loop, pipe.a.get(), pipe.b.get(), trace));
    }
    const ssize_t told = ::write(answer.b.get(), trace.data(), trace.size());
    ::_exit(told < 0 ? 1 : 0);
  }
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  char text[64] = {};
  REQUIRE(::read(answer.a.get(), text, sizeof text - 1) > 0);
  CHECK((std::string(text) == "!dt|Wr+" || std::string(text) == "!dt|r+W"));
}

Task<Result<int>> next_within(Signals& signals, int64_t ms) {
  const Deadline deadline = Deadline::in_ms(ms);
  return signals.next(deadline);
}

TEST_CASE("signals come one by one, each pending once", "[io]") {
  Loop loop;
  const std::array signos{SIGUSR1, SIGUSR2, SIGWINCH};
  Signals signals(loop, signos);
  for (const int signo : {SIGUSR2, SIGUSR2, SIGWINCH, SIGUSR2, SIGUSR1}) ::raise(signo);
  std::set<int> came;
  for (int count = 0; count < 3; ++count) came.insert(loop.run(next_within(signals, 60'000)).value());
  CHECK(came == std::set<int>{SIGUSR1, SIGUSR2, SIGWINCH});
  const Result<int> none = loop.run(next_within(signals, 2));
  REQUIRE(!none);
  CHECK(is_timeout(none.error()));
  ::raise(SIGUSR1);
  CHECK(loop.run(next_within(signals, 60'000)).value() == SIGUSR1);
}

TEST_CASE("a signal that cannot be caught is an error", "[io]") {
  Loop loop;
  const std::array signos{SIGKILL};
  Signals signals(loop, signos);
  const Result<int> result = loop.run(next_within(signals, 60'000));
  REQUIRE(!result);
  CHECK(result.error().text == "catching signal 9: invalid argument");
}

TEST_CASE("nothing remains of signals when nobody catches them any more", "[io]") {
  struct sigaction action{};
  sigset_t mask;
  {
    Loop loop;
    const std::array signos{SIGUSR1};
    const Signals signals(loop, signos);
    REQUIRE(::sigprocmask(SIG_SETMASK, nullptr, &mask) == 0);
    CHECK(::sigismember(&mask, SIGUSR1) == 1);
    ::raise(SIGUSR1);  // its default action would end this process
    REQUIRE(::sigaction(SIGPIPE, nullptr, &action) == 0);
    CHECK(action.sa_handler != SIG_DFL);
    CHECK(action.sa_handler != SIG_IGN);
  }
  REQUIRE(::sigprocmask(SIG_SETMASK, nullptr, &mask) == 0);
  CHECK(::sigismember(&mask, SIGUSR1) == 0);
  REQUIRE(::sigaction(SIGPIPE, nullptr, &action) == 0);
  CHECK(action.sa_handler == SIG_DFL);
}

}  // namespace
}  // namespace gantry::io
