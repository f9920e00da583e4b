#include "engine/spawner.h"

#include <sys/wait.h>

#include <chrono>
#include <csignal>

#include "io/timer.h"
#include "io/watch.h"
#include "sys/proc.h"

namespace gantry {

io::Task<Result<>> Spawner::executed(const sys::SpawnFds& fds, sys::Child& launcher) {
  co_return Result<>();
}

io::Task<Result<sys::Child>> LocalSpawner::spawn(const sys::SpawnFds& fds) {
  co_return sys::begin_launcher(fds);
}

io::Task<Result<>> LocalSpawner::executed(const sys::SpawnFds& fds, sys::Child& launcher) {
  // Only one that was born in a cgroup that is frozen takes longer than the first wait.
  constexpr long kUsualNs = 20'000'000;
  for (long wait_ns = kUsualNs; !sys::has_departed(launcher, wait_ns); wait_ns = 0) {
    const io::Wake wake = co_await io::sleep_for(loop_, std::chrono::milliseconds(10));
    if (wake != io::Wake::kCancelled) continue;
    (void)sys::pidfd_signal(launcher.pidfd, SIGKILL);
    co_return io::fail_wake(wake, "start of gantry-init");
  }
  co_return sys::finish_launcher(fds, launcher);
}

io::Task<Result<ExitStatus>> LocalExits::wait(pid_t pid, int pidfd, io::Deadline deadline) {
  // A launcher has mostly ended by now; the loop need not hear of it.
  siginfo_t info{};
  while (info.si_pid == 0) {
    if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG) < 0)
      co_return fail_errno(errno, "waitid");
    if (info.si_pid != 0) break;
    const io::Wake wake = co_await io::wait_pidfd(loop_, pidfd, deadline);
    if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for a process");
  }
  if (info.si_code == CLD_EXITED) co_return ExitStatus{info.si_status, 0};
  co_return ExitStatus{0, info.si_status};
}

}  // namespace gantry
