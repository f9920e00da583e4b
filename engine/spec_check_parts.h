// The parts of check_spec, one function for each file of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// Everything about a process; `place` ("config.json: process") stands in front of errors that are our own.
Result<> check_process_at(const Process& process, std::string_view place, std::vector<std::string>& warnings);

/// MT-02, MT-05, MT-12, MT-13, MT-18 and what else can be told without looking at the file system.
Result<> check_mounts(const Spec& spec);

/// HK-11: without a mount namespace the container is a chroot in the runtime's own, and nothing may be mounted in that.
Result<> check_host_mounts(const Spec& spec);

/// LX-01, LX-03, LX-05, LX-06, PR-21: namespaces, id maps, time offsets, and what needs one of them.
Result<> check_namespaces(const Spec& spec);

/// LX-13.
Result<> check_sysctls(const Spec& spec);

/// SC-02, SC-05, SC-09, SC-11.
Result<> check_seccomp_profile(const Seccomp& profile);

/// HK-01.
Result<> check_hooks(const Hooks& hooks);

/// One side of an id map: sizes, ranges, overlaps, the kernel's limit. `place` names the list.
Result<> check_id_map(const std::vector<IdMapping>& map, std::string_view place);

/// Absolute path with "." and ".." resolved as text, without a trailing slash; "/" for the root. No file is looked at.
std::string lexical_path(std::string_view path);

}  // namespace gantry
