#include "io/signal.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "io/readable.h"
#include "sys/fd.h"

namespace gantry::io {

// A signalfd and not uv_signal: two system calls for any number of signals instead of five for each, and a blocked
// signal is kept by the kernel just as often as it should be.
struct Signals::State {
  explicit State(Loop& on) : loop(on) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  ~State() {
    if (!fd) return;
    // What came and nobody took must not act by default when it is let through.
    signalfd_siginfo info;
    while (::read(fd.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    }
    ::sigprocmask(SIG_SETMASK, &former, nullptr);
  }

  void start(std::span<const int> signos) {
    sigset_t wanted;
    ::sigemptyset(&wanted);
    for (const int signo : signos) {
      if (::sigaddset(&wanted, signo) == 0 && signo != SIGKILL && signo != SIGSTOP) continue;
      failure = fail_errno(EINVAL, cat("catching signal ", signo)).error();
      return;
    }
    ::sigprocmask(SIG_BLOCK, &wanted, &former);
    fd = sys::Fd(::signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC));
    if (fd) return;
    failure = fail_errno(errno, "signalfd").error();
    ::sigprocmask(SIG_SETMASK, &former, nullptr);
  }

  Loop& loop;
  sys::Fd fd;
  sigset_t former{};
  std::optional<Error> failure;
};

Signals::Signals(Loop& loop, std::span<const int> signos) : state_(std::make_unique<State>(loop)) {
  state_->start(signos);
}

Signals::~Signals() = default;
Signals::Signals(Signals&&) noexcept = default;

Task<Result<int>> Signals::next(Deadline deadline) {
  return next_of(*state_, deadline);
}

Task<Result<int>> Signals::next_of(State& state, Deadline deadline) {
  if (state.failure) co_return std::unexpected(*state.failure);
  Wake wake = co_await checkpoint(state.loop);
  while (wake == Wake::kReady) {
    signalfd_siginfo info;
    const ssize_t got = ::read(state.fd.get(), &info, sizeof info);
    if (got == static_cast<ssize_t>(sizeof info)) co_return static_cast<int>(info.ssi_signo);
    if (got < 0 && errno != EAGAIN && errno != EINTR) co_return fail_errno(errno, "read signalfd");
    wake = co_await wait_fd(state.loop, state.fd.get(), POLLIN, deadline);
  }
  co_return fail_wake(wake, "waiting for a signal");
}

}  // namespace gantry::io
