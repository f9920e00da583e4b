// The keeper's hands: starting launchers and supervisors, and the holder. Only for keeper*.cc.
#pragma once

#include "sys/init/keeper_table.h"
#include "sys/init/syscalls.h"

namespace gantry::init {

/// RLIMIT_NOFILE.
struct FileLimit {
  uint64_t soft, hard;
};

struct LauncherRequest {
  const int* fds;  ///< stdio, plan, [sync], [cgroup], slots: below kFirstHeld, close-on-exec
  unsigned count;
  bool has_sync, has_cgroup;
  FileLimit files;  ///< what the launcher gets
};

struct LauncherStarted {
  int pid, pidfd;
  bool in_cgroup;
};

/// Starts "gantry-init launch" as a child of ours. Negative errno: nothing was started. Its cost does not depend on how
/// many descriptors are held, unless the launcher is to be born in a cgroup.
long start_launcher(const LauncherRequest& request, LauncherStarted& out);

/// The child's part of the start of a supervisor: does not come back. `socket` becomes kSupervisorSocketFd.
[[noreturn]] void become_supervisor(int socket);

/// Whether there is a service manager (kKeeperNotifyFd) to tell: to be asked before anything is opened.
void open_manager();

/// Tells it, if there is one; never waits. `at`: now, CLOCK_MONOTONIC nanoseconds. sd_notify(3).
void tell_manager(KeeperNotify what, int64_t at);

/// Whoever had the held things before (kKeeperHandoverFd) may let go of them now, or has decided to keep them: then
/// there is a keeper already, or another will come, and this does not come back.
void confirm_handover();

/// Maps the table at kKeeperTableFd; does not come back when it cannot be used.
KeeperTable& map_table();

/// Writes one line to stderr and ends with 2.
[[noreturn]] void refuse(const char* why);

/// The rest of a process that only holds what the table names until a keeper has taken it. Lets go of the clients'
/// socket, of stdio, session and working directory. SIGTERM ends it, and with it everything held.
[[noreturn]] void hold_table(KeeperTable& table);

}  // namespace gantry::init
