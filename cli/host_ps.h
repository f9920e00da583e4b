// The host's ps(1), which knows more about processes than we want to.
#pragma once

#include <string>
#include <vector>

#include "sys/result.h"

namespace gantry::cli {

/// What `ps ARGS` prints. Blocks until it ends. Its failure reads "exit status N: " and what it printed.
Result<std::string> host_ps(const std::vector<std::string>& args);

}  // namespace gantry::cli
