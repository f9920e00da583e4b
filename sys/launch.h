// Starting gantry-init: its image as a sealed memfd, and the clone on shared memory that executes it.
#pragma once

#include <sys/types.h>

#include <array>
#include <memory>
#include <vector>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// The executable image of gantry-init: a sealed memfd or, where the host's policy forbids to execute one, a file on a
/// private read-only tmpfs. Made at the first call and kept for the process; nobody else can write to it, so what
/// /proc/PID/exe of a container shows is never a file of the host (CVE-2019-5736). Main thread only.
Result<const Fd*> init_image();

/// Makes the image and gives it a number of at least `least`, so that lower ones can be arranged for exec_init().
Result<> reserve_init_image(int least);

/// Replaces this process by "gantry-init JOB", without an environment; the image is then open as number `image_at`.
/// Returns only on failure.
Error exec_init(const char* job, int image_at);

/// What a launcher is started with; all are numbers in the caller, borrowed. In the launcher they become 0-2, 3 (sync),
/// 4 (plan), 5... (slots), as sys/init/plan.h says.
struct SpawnFds {
  std::array<int, 3> stdio{0, 1, 2};
  int sync = -1;
  int plan = -1;
  std::vector<int> slots;
  int cgroup = -1;  ///< cgroup2 directory to be born in (CLONE_INTO_CGROUP), not passed on; -1 = the caller's
  bool cgroup_required = false;  ///< an error where that is refused; without it the child is born in the caller's
};

/// Memory of ours that a new process uses until it has executed gantry-init. The end of it waits for that for a
/// second; it is never freed early.
struct Departure;
struct DepartureEnd {
  void operator()(Departure* departure) const;
};

/// A child of this process.
struct Child {
  pid_t pid = 0;
  Fd pidfd;
  bool in_cgroup = false;  ///< born in SpawnFds::cgroup; the kernel may have refused (EBUSY, EAGAIN, ...)
  std::unique_ptr<Departure, DepartureEnd> departure{};  ///< between begin_launcher and finish_launcher
};

/// Starts "gantry-init launch". Returns when it was executed; an error of the child's execve comes back as errno. The
/// cost does not depend on this process' size: memory is shared until the exec (CLONE_VM), no handler of ours ever runs
/// in the child (CLONE_CLEAR_SIGHAND, all signals blocked around the clone), and no fd of ours is touched. The child is
/// reaped by the caller (SIGCHLD, waitid). Main thread only.
Result<Child> spawn_launcher(const SpawnFds& fds);

/// The two halves of spawn_launcher. The kernel takes 80 us to execute gantry-init on another processor; what the
/// caller does in between costs nothing. begin_launcher returns when the child exists; finish_launcher waits until it
/// is gantry-init. `fds` are the same and still open: where the host's policy refuses the image, finish_launcher starts
/// another child with another image. After an error of finish_launcher there is no child.
Result<Child> begin_launcher(const SpawnFds& fds);
Result<> finish_launcher(const SpawnFds& fds, Child& launcher);

/// Waits up to `limit_ns` (below a second) until finish_launcher would not wait. A launcher that was born in a frozen
/// cgroup may take for ever; SIGKILL ends it (in a v1 freezer only when it is thawed, but nothing is born there).
bool has_departed(const Child& launcher, long limit_ns);

}  // namespace gantry::sys
