// The flags before the command: checks, defaults, and the log they set up.
#pragma once

#include <string>
#include <string_view>

#include "cli/command.h"

namespace gantry::cli {

/// Lexically cleaned absolute path: no ".", "..", double or trailing slashes. `current` is absolute.
std::string clean_path(std::string_view path, std::string_view current);

/// Completes `globals` (argv0, program and inherited_fds are set) from the parsed flags and the environment, and opens
/// the log. Errors up to here go to stderr as text (CL-12).
Result<> set_up_globals(const Parsed& flags, Globals& globals);

/// What a command that changes the system demands: root, and drivers that exist (GF-05, GF-06).
Result<> check_can_change_system(const Globals& globals, const Command& command);

}  // namespace gantry::cli
