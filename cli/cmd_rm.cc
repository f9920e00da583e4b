#include <array>

#include "cli/commands.h"
#include "cli/supervised.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 4> kFlags{{
    {"force", "f", Kind::kBool, "", "kill the container first if it still runs; a missing one is fine"},
    {"keep-log", "", Kind::kBool, "", "leave its log files where they are"},
    kSocketFlag,
    kStateDirFlag,
}};

Result<int> run_rm(const Call& call) {
  const bool force = call.options.on("force");
  const bool keep_log = call.options.on("keep-log");
  return for_each_container(call, [force, keep_log](Env& env, SupervisedPlace place, std::string id) {
    return remove_anyhow(env, std::move(place), std::move(id), force, keep_log);
  });
}

}  // namespace

constinit const Command kRm{
    .name = "rm",
    .summary = "remove supervised containers with their definitions and logs",
    .arguments = "ID...",
    .description =
        "The log goes with the container, wherever it is, unless --keep-log is given. Works without a\n"
        "supervisor, too.",
    .flags = kFlags,
    .count = {1, -1},
    .changes_system = true,
    .for_supervised = true,
    .run = run_rm,
};

}  // namespace gantry::cli
