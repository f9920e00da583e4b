// Processes as /proc and pidfds show them. Synchronous and bounded.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// What /proc/PID/stat says about a process.
struct ProcStat {
  char state = 0;           ///< R, S, D, Z, X, ...
  uint64_t start_time = 0;  ///< field 22: clock ticks after boot; with the pid the identity of a process
};

/// Reads /proc/PID/stat. ESRCH or ENOENT when there is no such process.
Result<ProcStat> proc_stat(pid_t pid);

/// pidfd_open(2), CLOEXEC by nature (5.3).
Result<Fd> pidfd_open(pid_t pid);

/// A pidfd of the process with this pid AND start time; ESRCH when the pid is gone, a zombie, or somebody else's now.
Result<Fd> pidfd_open_checked(pid_t pid, uint64_t start_time);

/// pidfd_send_signal(2).
Result<> pidfd_signal(const Fd& pidfd, int signo);

/// pidfd_getfd(2): a copy of the process' fd number `number` (5.6, ptrace permission).
Result<Fd> pidfd_getfd(const Fd& pidfd, int number);

/// How a process ended.
struct PidfdExit {
  int code = 0, signal = 0;
};

/// The end of a process that somebody has reaped, as its pidfd remembers it (PIDFD_GET_INFO with PIDFD_INFO_EXIT, Linux
/// 6.15). nullopt: not ended, not reaped yet, or the kernel does not keep it.
std::optional<PidfdExit> pidfd_exit(int pidfd);

/// Whether the process has ended, reaped or not; false without a descriptor.
bool pidfd_ended(int pidfd);

/// Whether the process has been reaped: it has ended, and pidfd_exit() will not know more later. False while it is a
/// zombie. Any kernel with pidfds tells.
bool pidfd_reaped(int pidfd);

/// Whether /proc/PID/exe is gantry-init as init_image() makes it, by this or another version of us: the process has not
/// yet executed the container's program.
bool runs_init_image(pid_t pid);

/// Writes /proc/PID/{uid_map,gid_map} ("container host size" lines). `deny_setgroups` first, as an unprivileged writer
/// must.
Result<> write_id_maps(pid_t pid, std::string_view uid_lines, std::string_view gid_lines, bool deny_setgroups);

/// The kernel's boot id, one per boot.
Result<std::string> boot_id();

/// PR_SET_CHILD_SUBREAPER.
Result<> become_subreaper();
/// True when the kernel gives us the children of others: as a subreaper, or as process 1.
bool adopts_orphans();

}  // namespace gantry::sys
