#include "cli/commands.h"

#include <array>

#include "cli/command.h"

namespace gantry::cli {

namespace {

constexpr Command refused(std::string_view name, std::string_view summary) {
  Command command;
  command.name = name;
  command.summary = summary;
  command.refused = true;
  return command;
}

constinit const Command kCheckpoint = refused("checkpoint", "save a running container to disk");
constinit const Command kRestore = refused("restore", "bring a saved container back");
constinit const Command kEvents = refused("events", "report resource use and OOM events");

constinit const std::array kCommands{
    &kCreate, &kDelete, &kExec, &kFeatures, &kHelp,       &kKill,    &kList,    &kPause,     &kPs,
    &kResume, &kRun,    &kSpec, &kStart,    &kState,      &kUpdate,  &kVersion, &kSupervise, &kUp,
    &kLogs,   &kWait,   &kStop, &kRm,       &kCheckpoint, &kRestore, &kEvents,
};

constinit const std::array<Flag, 7> kGlobalFlags{{
    {"debug", "", Kind::kBool, "", "log details of what is done"},
    {"log", "", Kind::kText, "FILE", "append log lines to FILE instead of stderr"},
    {"log-format", "", Kind::kText, "FORMAT", "form of log lines: text or json (default: text)"},
    {"root", "", Kind::kText, "DIR", "directory of container state, on a tmpfs (default: /run/gantry)"},
    {"systemd-cgroup", "", Kind::kBool, "", "let systemd make the cgroups; not supported yet"},
    {"rootless", "", Kind::kText, "WHEN", "ignore cgroup permission errors: true, false or auto (default: auto)"},
    {"version", "v", Kind::kBool, "", "print the version"},
}};

}  // namespace

std::span<const Command* const> all_commands() {
  return kCommands;
}

const Command* find_command(std::string_view name) {
  if (name == "h") name = "help";
  for (const Command* command : kCommands)
    if (command->name == name) return command;
  return nullptr;
}

std::span<const Flag> global_flags() {
  return kGlobalFlags;
}

}  // namespace gantry::cli
