// Help texts, laid out from the option tables.
#pragma once

#include <string>
#include <string_view>

#include "cli/command.h"

namespace gantry::cli {

/// Help of the program: NAME, USAGE, VERSION, COMMANDS, GLOBAL OPTIONS.
std::string program_help(std::string_view program);

/// Help of one command. Its first lines are "NAME:" and "   PROGRAM CMD - summary" (CL-05).
std::string command_help(std::string_view program, const Command& command);

}  // namespace gantry::cli
