// Children that go on with the code of this process, for what may have to wait where this process must not.
#pragma once

#include <span>

#include "sys/launch.h"
#include "sys/result.h"

namespace gantry::sys {

/// Forks a child that runs `body(argument)` and ends with what that returns. It is called `name` (15 bytes), has only
/// stdio and the descriptors `keep` (at most 8), under their numbers, no handlers of ours, and ignores SIGHUP, SIGINT,
/// SIGTERM and SIGPIPE: whoever forked it decides. It is killed when this process dies, and reaped by the caller
/// (waitid). It has a copy of all memory, and must neither use nor destroy what it finds there, but for `argument`.
/// For processes with one thread.
Result<Child> fork_worker(const char* name, std::span<const int> keep, int (*body)(void*), void* argument);

}  // namespace gantry::sys
