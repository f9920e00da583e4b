// The seccomp agent: who answers notifications of a container's filter (SA-01..04).
#pragma once

#include <string>

#include "engine/spec.h"
#include "io/loop.h"
#include "io/task.h"
#include "sys/launch.h"
#include "sys/result.h"

namespace gantry {

/// Fetches the listener from the process (fd `number` there, once the filter is loaded) with pidfd_getfd(2) and sends
/// it to the profile's listenerPath with `state` (OCI state JSON); one message, one connection.
io::Task<Result<>> hand_over_listener(io::Loop& loop, const Seccomp& profile, const sys::Child& process, int number,
                                      std::string state);

}  // namespace gantry
