#include <array>

#include "cli/commands.h"
#include "cli/driver.h"
#include "engine/supervisor/ownership.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 1> kFlags{{
    {"force", "f", Kind::kBool, "", "kill the container first if it still runs; a missing one is fine"},
}};

Result<int> run_delete(const Call& call) {
  Driver driver(call.globals);
  GANTRY_TRY(driver.loop().run(owned_remove(driver.env(), call.id(), call.options.on("force"))));
  return 0;
}

}  // namespace

constinit const Command kDelete{
    .name = "delete",
    .summary = "remove a stopped container",
    .arguments = "NAME",
    .description = "Removes cgroups, mounts and state, also what a create that was interrupted left behind.",
    .flags = kFlags,
    .count = {1, 1},
    .changes_system = true,
    .run = run_delete,
};

}  // namespace gantry::cli
