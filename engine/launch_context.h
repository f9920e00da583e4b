// What the pure plan builder must be told about this host and this container.
#pragma once

#include <map>
#include <string>

#include "engine/cgroup.h"
#include "engine/plan_build.h"

namespace gantry {

/// The cgroup part of a context: mode, and where the container's cgroups are in each hierarchy.
void fill_cgroup_context(const CgroupHost& host, const CgroupPaths& paths, PlanContext& context);

/// "NEWNET" -> "/proc/PID/ns/net" for every namespace the spec lists (SD-03).
std::map<std::string, std::string> namespace_paths(const Spec& spec, pid_t pid);

}  // namespace gantry
