// What the running kernel's seccomp(2) can do, and a filter for this very process. Those of containers are loaded by
// gantry-init, never here.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>

#include "sys/result.h"

namespace gantry::sys {

/// Whether the kernel knows the SECCOMP_FILTER_FLAG_* bits (together). Loads nothing.
bool seccomp_takes_flags(uint32_t flags);

/// Loads a filter for this process, for good; whatever it executes or forks later has it too. Without no_new_privs, so
/// it takes CAP_SYS_ADMIN (seccomp(2)). For processes with one thread.
Result<> load_seccomp_filter(std::span<const sock_filter> program);

}  // namespace gantry::sys
