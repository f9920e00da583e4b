// Waiting for processes.
#pragma once

#include "io/loop.h"

namespace gantry::io {

/// Waits until the process of `pidfd` has exited (pidfd_open(2): the pidfd turns readable); does not reap. A pidfd
/// whose process was reaped counts as exited. Afterwards the pidfd is O_NONBLOCK: waitid(P_PIDFD) then says EAGAIN
/// instead of waiting (waitid(2), Linux 5.10).
Task<Wake> wait_pidfd(Loop& loop, int pidfd, Deadline deadline);

}  // namespace gantry::io
