#include "cli/commands.h"
#include "cli/driver.h"

namespace gantry::cli {

namespace {

Result<int> run_start(const Call& call) {
  Driver driver(call.globals);
  GANTRY_TRY(driver.loop().run(start(driver.env(), call.id())));
  return 0;
}

}  // namespace

constinit const Command kStart{
    .name = "start",
    .summary = "start the program of a created container",
    .arguments = "NAME",
    .description = "Returns when the program runs, or says why it does not.",
    .flags = {},
    .count = {1, 1},
    .changes_system = true,
    .run = run_start,
};

}  // namespace gantry::cli
