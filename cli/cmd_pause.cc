#include "cli/commands.h"
#include "cli/driver.h"
#include "engine/supervisor/ownership.h"

namespace gantry::cli {

namespace {

Result<int> run_pause(const Call& call) {
  Driver driver(call.globals);
  GANTRY_TRY(driver.loop().run(owned_pause(driver.env(), call.id())));
  return 0;
}

}  // namespace

constinit const Command kPause{
    .name = "pause",
    .summary = "freeze all processes of a container",
    .arguments = "NAME",
    .description = "They keep their memory and descriptors, and go on with `resume`.",
    .flags = {},
    .count = {1, 1},
    .changes_system = true,
    .run = run_pause,
};

}  // namespace gantry::cli
