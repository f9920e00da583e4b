#include "cli/help.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "cli/version.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

using Rows = std::vector<std::pair<std::string, std::string>>;

void append_rows(std::string& out, const Rows& rows) {
  size_t width = 0;
  for (const auto& row : rows) width = std::max(width, row.first.size());
  for (const auto& [left, right] : rows)
    out += cat("   ", left, std::string(width - left.size() + 2, ' '), right, "\n");
}

std::string flag_forms(const Flag& flag) {
  const std::string value = flag.value_name.empty() ? "" : cat(" ", flag.value_name);
  std::string forms = cat("--", flag.name, value);
  if (!flag.alias.empty()) forms += cat(", -", flag.alias, value);
  return forms;
}

void append_options(std::string& out, std::string_view title, std::span<const Flag> flags) {
  Rows rows;
  for (const Flag& flag : flags)
    if (!flag.hidden) rows.emplace_back(flag_forms(flag), flag.help);
  rows.emplace_back("--help, -h", "show help");
  out += cat("\n", title, ":\n");
  append_rows(out, rows);
}

void append_indented(std::string& out, std::string_view lines) {
  for (const std::string_view line : split(lines, '\n')) out += line.empty() ? "\n" : cat("   ", line, "\n");
}

Rows command_rows(bool for_supervised) {
  Rows rows;
  for (const Command* command : all_commands()) {
    if (command->refused || command->for_supervised != for_supervised) continue;
    rows.emplace_back(command->name == "help" ? "help, h" : command->name, command->summary);
  }
  return rows;
}

}  // namespace

std::string program_help(std::string_view program) {
  std::string out = cat("NAME:\n   ", program, " - Open Container Initiative runtime\n\nUSAGE:\n   ", program,
                        " [global options] command [command options] [arguments...]\n\nDESCRIPTION:\n");
  append_indented(out,
                  "Runs a container from a bundle: a directory with a config.json and a root file system.\n"
                  "Takes the command line of runc, so podman, containerd, docker and CRI-O can call it as their\n"
                  "runtime.\n");
  out +=
      cat("   # ", program, " spec                     write a config.json to start from\n   # ", program,
          " run --bundle DIR NAME    run it and wait for it\n\nVERSION:\n   ", version_of(program), "\n\nCOMMANDS:\n");
  append_rows(out, command_rows(false));
  out += "\nCOMMANDS FOR SUPERVISED CONTAINERS:\n";
  append_rows(out, command_rows(true));
  append_options(out, "GLOBAL OPTIONS", global_flags());
  return out;
}

std::string command_help(std::string_view program, const Command& command) {
  std::string out = cat("NAME:\n   ", program, " ", command.name, " - ", command.summary, "\n\nUSAGE:\n   ", program,
                        " ", command.name, command.flags.empty() ? "" : " [options]",
                        command.arguments.empty() ? "" : " ", command.arguments, "\n");
  if (!command.description.empty()) {
    out += "\nDESCRIPTION:\n";
    append_indented(out, command.description);
  }
  append_options(out, "OPTIONS", command.flags);
  return out;
}

}  // namespace gantry::cli
