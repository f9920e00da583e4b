// Waiting for descriptors.
#pragma once

#include <poll.h>

#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io {

/// Waits until `fd` has one of `events` (POLLIN, POLLOUT, POLLPRI, POLLRDHUP), or hangs up or fails: the next call on
/// it tells which. Files without poll (regular files, /dev/null) and bad descriptors are always ready. An expired
/// deadline still looks once. Several tasks may wait for one fd. The fd must stay open until the task is done or
/// destroyed.
///
/// Sets O_NONBLOCK on the open file description (uv does): pass only descriptors of ours. A descriptor that came from a
/// caller goes through an Endpoint (endpoint.h).
Task<Wake> wait_fd(Loop& loop, int fd, short events, Deadline deadline);

}  // namespace gantry::io
