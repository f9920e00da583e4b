// What a command is: its texts, its option table, and the function behind it. Each cmd_<verb>.cc defines one.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "cli/options.h"
#include "sys/result.h"

namespace gantry::cli {

/// The flags before the command, after checks and defaults (GF-01 to GF-06).
struct Globals {
  std::string argv0;    ///< as given, for CL-07
  std::string program;  ///< its base name
  std::string root;     ///< absolute
  bool root_explicit = false;
  bool systemd_cgroup = false;
  bool debug = false;
  std::string rootless = "auto";  ///< as given
  unsigned inherited_fds = 0;     ///< descriptors 3, 4, ... that the caller left open (--preserve-fds)
};

struct Command;

/// One call of a command.
struct Call {
  const Globals& globals;
  const Command& command;
  const Parsed& options;

  const std::string& id() const { return options.args.front(); }
};

/// How a command's errors are introduced (CL-11) and what it exits with (CL-10).
enum class ErrorStyle : uint8_t {
  kPlain,    ///< the bare text, 1
  kProgram,  ///< "PROGRAM COMMAND failed: ", 1
  kExec,     ///< "exec failed: ", 255
};

struct Command {
  std::string_view name;
  std::string_view summary;      ///< one line for lists
  std::string_view arguments;    ///< for USAGE, behind the name
  std::string_view description;  ///< lines for DESCRIPTION, without indent
  std::span<const Flag> flags;
  ArgCount count;
  Order order = Order::kAnywhere;
  ErrorStyle errors = ErrorStyle::kPlain;
  bool changes_system = false;  ///< needs root until rootless containers are supported
  bool for_supervised = false;  ///< for containers of a supervisor: listed apart
  bool refused = false;         ///< known from runc, not supported yet: refused by name, even its help
  /// Does the work. The value is the exit status. Runs in the main thread, once per process.
  Result<int> (*run)(const Call& call) = nullptr;
};

/// All commands in the order of the help; refused ones at the end.
std::span<const Command* const> all_commands();

/// By name ("h" is "help"); nullptr when unknown.
const Command* find_command(std::string_view name);

/// The flags before the command.
std::span<const Flag> global_flags();

}  // namespace gantry::cli
