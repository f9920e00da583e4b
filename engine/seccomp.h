// Compiles linux.seccomp to the BPF program that init loads.
//
// libseccomp translates the rules; in front of its program stands a stub of ours that answers ENOSYS for system calls
// newer than the profile (SC-08). Nothing here touches the running process' own filters.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// Ready for seccomp(SECCOMP_SET_MODE_FILTER).
struct CompiledSeccomp {
  std::vector<sock_filter> bpf;
  uint32_t flags = 0;     ///< SECCOMP_FILTER_FLAG_*, SECCOMP_FILTER_FLAG_NEW_LISTENER included when `listener`
  bool listener = false;  ///< a rule notifies: the load gives a listener fd for listenerPath
};

/// Whether a rule asks an agent.
bool seccomp_notifies(const Seccomp& profile);

/// SECCOMP_FILTER_FLAG_* for loading the profile, as in CompiledSeccomp.
Result<uint32_t> seccomp_flag_bits(const Seccomp& profile);

/// Names and versions of everything that decides what compile_seccomp() makes of a profile.
std::string seccomp_compiler();

/// Checks and compiles. About 15 ms for a profile of 400 calls: see seccomp_cache.h. Names libseccomp does not know are
/// left out (SC-05).
Result<CompiledSeccomp> compile_seccomp(const Seccomp& profile);

/// What SC-* accepts, for `features`.
std::vector<std::string> known_seccomp_actions();
std::vector<std::string> known_seccomp_operators();
std::vector<std::string> known_seccomp_architectures();
std::vector<std::string> known_seccomp_flags();
std::vector<std::string> supported_seccomp_flags();  ///< of these, what the running kernel takes

}  // namespace gantry
