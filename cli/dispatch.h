// From words to a command and to an exit status.
#pragma once

#include <span>
#include <string_view>

namespace gantry::cli {

/// Runs the command that `argv` (argv[0] included) asks for and returns the program's exit status. `inherited_fds` as
/// count_inherited_fds() saw it. Once per process.
int dispatch(std::span<const std::string_view> argv, unsigned inherited_fds);

}  // namespace gantry::cli
