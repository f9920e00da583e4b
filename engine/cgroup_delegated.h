// A process that a service manager has put into a cgroup of its own, to make further ones below.
#pragma once

#include <string>

#include "sys/result.h"

namespace gantry {

/// Where such a process goes. No container's cgroup has that name by itself: '@' is not legal in an id.
inline constexpr const char* kOwnSubCgroup = "@supervisor";

/// cgroup2 wants no processes in a cgroup whose children have controllers. If this process is alone in a cgroup that
/// is marked as delegated (systemd's extended attribute "trusted.delegate" or "user.delegate", Delegate= in
/// systemd.resource-control(5)), it moves to a child; containers without an absolute cgroupsPath are then its siblings.
/// Anywhere else nothing happens, and neither without cgroup2 or on a hybrid host. Synchronous, before there are other
/// threads or children.
Result<> enter_own_sub_cgroup();

/// The same for one directory of a cgroup2 tree. True: moved.
Result<bool> enter_sub_cgroup_of(const std::string& dir);

}  // namespace gantry
