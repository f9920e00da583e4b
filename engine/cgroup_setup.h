// The steps that make a fresh cgroup directory able to take processes and limits. Private to engine/cgroup*.cc.
#pragma once

#include <string>
#include <vector>

#include "sys/result.h"

namespace gantry {

/// v1: a cpuset takes no process until it has cpus and mems. Fills `leaf` (and empty ancestors below `mountpoint`, top
/// down) from its parent. Costs one read when the parent is set to hand its own down. A `fresh` leaf is looked at once.
Result<> fill_cpuset(const std::string& mountpoint, const std::string& leaf, bool fresh);

/// v1: fills a parent that was just made, and has it hand its values to all children (cgroup.clone_children).
Result<> prepare_cpuset_parent(const std::string& mountpoint, const std::string& parent);

/// RS-26: enables every controller of the root in cgroup.subtree_control of all ancestors of `leaf`, as far as the
/// kernel allows, and gives those that `leaf` then has. A leaf below a threaded cgroup becomes threaded.
Result<std::vector<std::string>> enable_controllers(const std::string& mountpoint, const std::string& leaf);

}  // namespace gantry
