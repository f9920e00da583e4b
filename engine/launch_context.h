// What the pure plan builder must be told about this host and this container.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "engine/cgroup.h"
#include "engine/plan_build.h"
#include "sys/mountinfo.h"

namespace gantry {

/// The cgroup part of a context: mode, and where the container's cgroups are in each hierarchy.
void fill_cgroup_context(const CgroupHost& host, const CgroupPaths& paths, PlanContext& context);

/// PlanContext::v2_options for a spec that mounts cgroup2 in a cgroup namespace which may be the host's; else nothing
/// is read. After fill_cgroup_context().
Result<> fill_cgroup2_options(const Spec& spec, PlanContext& context);

/// What the first cgroup2 of the mounts was mounted with, without what is no option of its own ("rw", a label of
/// SELinux's). Pure.
std::vector<std::string> cgroup2_options(const std::vector<sys::MountEntry>& mounts);

/// "NEWNET" -> "/proc/PID/ns/net" for every namespace the spec lists (SD-03).
std::map<std::string, std::string> namespace_paths(const Spec& spec, pid_t pid);

}  // namespace gantry
