// Bytes to Spec. Total functions without files or globals: what they get may be hostile.
#pragma once

#include <string_view>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// Parses a whole config.json. Errors name the place in JSON terms ("config.json: mounts[3].options[1]: ...") but for
/// runc's literal texts. Unknown keys are ignored, known but unsupported ones refused by name.
Result<Spec> parse_spec(std::string_view json);

/// Parses a bare OCI process object (`exec --process FILE`).
Result<Process> parse_process(std::string_view json);

/// Parses a bare LinuxResources object (`update --resources`).
Result<Resources> parse_resources(std::string_view json);

}  // namespace gantry
