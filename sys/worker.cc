#include "sys/worker.h"

#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "sys/proc.h"

namespace gantry::sys {
namespace {

constexpr size_t kMostKept = 8;
constexpr int kLost = 127;  ///< exit status of one that could not become a worker

void set_handlers() {
  for (int signo = 1; signo < NSIG; ++signo) {
    struct sigaction now{};
    if (::sigaction(signo, nullptr, &now) == 0 && now.sa_handler != SIG_IGN) (void)std::signal(signo, SIG_DFL);
  }
  for (const int signo : {SIGHUP, SIGINT, SIGTERM, SIGPIPE}) (void)std::signal(signo, SIG_IGN);
}

/// Closes everything but stdio and `kept`, which is sorted.
bool keep_only(std::span<const int> kept) {
  unsigned next = STDERR_FILENO + 1;
  for (const int fd : kept) {
    const auto number = static_cast<unsigned>(fd);
    if (number > next && ::close_range(next, number - 1, 0) < 0) return false;
    next = std::max(next, number + 1);
  }
  return ::close_range(next, ~0u, 0) == 0;
}

bool become_worker(const char* name, std::span<const int> kept, pid_t parent) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || ::getppid() != parent) return false;
  (void)::prctl(PR_SET_NAME, name);
  set_handlers();
  return keep_only(kept);
}

}  // namespace

Result<Child> fork_worker(const char* name, std::span<const int> keep, int (*body)(void*), void* argument) {
  std::array<int, kMostKept> kept{};
  if (keep.size() > kept.size()) return fail("worker: too many descriptors");
  std::ranges::copy(keep, kept.begin());
  const std::span<int> sorted(kept.data(), keep.size());
  std::ranges::sort(sorted);
  const pid_t parent = ::getpid();
  // A handler of ours that ran in the child would write to what is the parent's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  const int err = errno;
  if (pid == 0) {
    if (!become_worker(name, sorted, parent)) ::_exit(kLost);
    ::sigprocmask(SIG_SETMASK, &before, nullptr);
    ::_exit(body(argument));
  }
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return fail_errno(err, "fork");
  Child child;
  child.pid = pid;
  auto pidfd = pidfd_open(pid);
  if (!pidfd) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return forward(std::move(pidfd));
  }
  child.pidfd = std::move(*pidfd);
  return child;
}

}  // namespace gantry::sys
