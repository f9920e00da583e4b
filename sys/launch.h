// Starting gantry-init: its image as a sealed memfd, and the vfork-style clone that executes it.
#pragma once

#include <sys/types.h>

#include <array>
#include <vector>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// The executable image of gantry-init: a sealed memfd or, where the host's policy forbids to execute one, a file on a
/// private read-only tmpfs. Made at the first call and kept for the process; nobody else can write to it, so what
/// /proc/PID/exe of a container shows is never a file of the host (CVE-2019-5736). Main thread only.
Result<const Fd*> init_image();

/// What a launcher is started with; all are numbers in the caller, borrowed. In the launcher they become 0-2, 3 (sync),
/// 4 (plan), 5... (slots), as sys/init/plan.h says.
struct SpawnFds {
  std::array<int, 3> stdio{0, 1, 2};
  int sync = -1;
  int plan = -1;
  std::vector<int> slots;
  int cgroup = -1;  ///< cgroup2 directory to be born in (CLONE_INTO_CGROUP), not passed on; -1 = the caller's
};

/// A child of this process.
struct Child {
  pid_t pid = 0;
  Fd pidfd;
  bool in_cgroup = false;  ///< born in SpawnFds::cgroup; the kernel may have refused (EBUSY, EAGAIN, ...)
};

/// Starts "gantry-init launch". Returns when it was executed; an error of the child's execve comes back as errno. The
/// cost does not depend on this process' size: memory is shared until the exec (CLONE_VM|CLONE_VFORK), no handler of
/// ours ever runs in the child (CLONE_CLEAR_SIGHAND, all signals blocked around the clone), and no fd of ours is
/// touched. The child is reaped by the caller (SIGCHLD, waitid). Main thread only.
Result<Child> spawn_launcher(const SpawnFds& fds);

}  // namespace gantry::sys
