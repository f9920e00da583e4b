// What the running kernel's seccomp(2) can do. Filters are loaded by gantry-init, never here.
#pragma once

#include <cstdint>

namespace gantry::sys {

/// Whether the kernel knows the SECCOMP_FILTER_FLAG_* bits (together). Loads nothing.
bool seccomp_takes_flags(uint32_t flags);

}  // namespace gantry::sys
