#include "cli/commands.h"
#include "cli/help.h"
#include "cli/output.h"
#include "engine/log.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr int kUnknownTopic = 3;

Result<int> run_help(const Call& call) {
  const std::string& program = call.globals.program;
  const auto& topics = call.options.args;
  if (topics.empty()) {
    GANTRY_TRY(print(program_help(program)));
    return 0;
  }
  const Command* command = find_command(topics.front());
  if (command == nullptr) {
    log_error(cat("No help topic for '", topics.front(), "'\n"));
    return kUnknownTopic;
  }
  if (command->refused) return fail(cat(program, " ", command->name, " is not supported yet"));
  GANTRY_TRY(print(command_help(program, *command)));
  return 0;
}

}  // namespace

constinit const Command kHelp{
    .name = "help",
    .summary = "show all commands, or the help of one",
    .arguments = "[COMMAND]",
    .description = {},
    .flags = {},
    .count = {0, -1},
    .run = run_help,
};

}  // namespace gantry::cli
