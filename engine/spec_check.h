// Judges a parsed Spec against the rules of the runtime-spec and of this runtime, without touching the system.
#pragma once

#include <string>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// First contradiction found (LX-01.., TL-.., MT-.., PR-.., HK-.. rows), with runc's wording where callers match it.
/// What the spec only wants a warning for is appended to `warnings`.
Result<> check_spec(const Spec& spec, std::vector<std::string>& warnings);

/// The part of the checks that concerns a process alone (also for exec).
Result<> check_process(const Process& process, std::vector<std::string>& warnings);

}  // namespace gantry
