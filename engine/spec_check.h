// Judges a parsed Spec against the rules of the runtime-spec and of this runtime, without touching the system.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// First contradiction found (LX-01.., TL-.., MT-.., PR-.., HK-.. rows), with runc's wording where callers match it.
/// What the spec only wants a warning for is appended to `warnings`.
Result<> check_spec(const Spec& spec, std::vector<std::string>& warnings);

/// The part of the checks that concerns a process alone (also for exec).
Result<> check_process(const Process& process, std::vector<std::string>& warnings);

/// Path below /proc/sys of a sysctl in either spelling: "net.ipv4.conf.eth0/1.rp_filter" and
/// "net/ipv4/conf/eth0.1/rp_filter" both give the latter. nullopt for a name that is no path (empty part, "..").
std::optional<std::string> sysctl_path(std::string_view name);

}  // namespace gantry
