// What the host lets a supervisor have: looked at before a container is made, so that it is refused by the name of the
// limit, and not what already runs that fails.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sys/result.h"

namespace gantry {

/// Limits and what is used of them.
struct LimitsUse {
  struct Cgroup {
    std::string path;  ///< its directory
    uint64_t max = 0, current = 0;
  };
  uint64_t files_max = 0;       ///< RLIMIT_NOFILE; the keeper has the same
  uint64_t files_used = 0;      ///< by this process; 0: unknown (before Linux 6.2)
  uint64_t runs = 0;            ///< containers that run or are being started
  std::vector<Cgroup> cgroups;  ///< the own one and those above it that limit the number of processes
  uint64_t terminals_max = 0, terminals_reserved = 0, terminals_used = 0;  ///< kernel.pty; all zero: unknown
};

/// Descriptors that a run may have open here at the same time: two streams, a pidfd and its log.
inline constexpr uint64_t kFilesPerRun = 4;
/// And in the keeper, under numbers from init::kFirstHeld on: its copies of the first three.
inline constexpr uint64_t kFilesPerHeldRun = 3;
/// What else is needed at times: starts in progress, clients, the definitions' directory.
inline constexpr uint64_t kFilesReserved = 128;
/// Launcher, init and a hook.
inline constexpr uint64_t kProcessesPerStart = 3;

/// Whether one more container can be started. The error names the limit, its value and what to do. Pure.
Result<> check_limits(const LimitsUse& use, bool terminal);

/// What is used now. What cannot be read limits nothing.
LimitsUse look_at_limits(uint64_t runs, bool terminal);

/// Whether the bytes of a config.json ask for a terminal.
bool wants_terminal(const std::string& config);

}  // namespace gantry
