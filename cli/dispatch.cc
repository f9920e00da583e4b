#include "cli/dispatch.h"

#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/globals.h"
#include "cli/help.h"
#include "cli/output.h"
#include "cli/version.h"
#include "engine/log.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr int kFailure = 1;
constexpr int kExecFailure = 255;
constexpr int kUnknownCommand = 3;

int show(std::string_view text) {
  const auto printed = print(text);
  if (printed) return 0;
  log_error(printed.error().text);
  return kFailure;
}

int report(const std::string& text, int status = kFailure) {
  log_error(text);
  return status;
}

int report_usage(std::string_view introduction, std::string_view help, const std::string& error) {
  // The help is a courtesy here: a closed stdout must not hide the error.
  [[maybe_unused]] const auto printed = print(cat(introduction, "\n\n", help));
  return report(error);
}

int report_failure(const Call& call, const std::string& error) {
  switch (call.command.errors) {
    case ErrorStyle::kPlain:
      return report(error);
    case ErrorStyle::kProgram:
      return report(cat(call.globals.program, " ", call.command.name, " failed: ", error));
    case ErrorStyle::kExec:
      return report(cat("exec failed: ", error), kExecFailure);
  }
  return kFailure;
}

Result<int> checked_run(const Call& call) {
  if (call.command.changes_system) GANTRY_TRY(check_can_change_system(call.globals, call.command));
  return call.command.run(call);
}

int run_command(const Globals& globals, const Command& command, std::span<const std::string_view> words) {
  if (command.refused) return report(cat(globals.program, " ", command.name, " is not supported yet"));
  const auto help = [&] { return command_help(globals.program, command); };
  auto options = parse_options(command.flags, words, command.order);
  if (!options) return report_usage(cat("Incorrect Usage: ", options.error().text), help(), options.error().text);
  if (options->help) return show(help());
  const std::string miscount = check_arg_count(globals.argv0, command.name, command.count, options->args.size());
  if (!miscount.empty()) return report_usage("Incorrect Usage.", help(), miscount);
  const Call call{globals, command, *options};
  const auto status = checked_run(call);
  return status ? *status : report_failure(call, status.error().text);
}

}  // namespace

int dispatch(std::span<const std::string_view> argv, unsigned inherited_fds) {
  Globals globals;
  if (!argv.empty()) globals.argv0 = argv[0];
  globals.program = globals.argv0.substr(globals.argv0.find_last_of('/') + 1);
  if (globals.program.empty()) globals.program = "gantry";
  globals.inherited_fds = inherited_fds;

  auto flags = parse_options(global_flags(), argv.subspan(argv.empty() ? 0 : 1), Order::kBeforeArgs);
  if (!flags)
    return report_usage(cat("Incorrect Usage. ", flags.error().text), program_help(globals.program),
                        flags.error().text);
  if (flags->help) return show(program_help(globals.program));
  if (flags->on("version")) return show(version_text(globals.program));
  if (const auto ready = set_up_globals(*flags, globals); !ready) return report(ready.error().text);

  const std::vector<std::string_view> words(flags->args.begin(), flags->args.end());
  if (words.empty()) return show(program_help(globals.program));
  const Command* command = find_command(words[0]);
  if (command == nullptr) return report(cat("No help topic for '", words[0], "'\n"), kUnknownCommand);
  return run_command(globals, *command, std::span(words).subspan(1));
}

}  // namespace gantry::cli
