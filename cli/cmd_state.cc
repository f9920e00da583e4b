#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/output.h"

namespace gantry::cli {

namespace {

Result<int> run_state(const Call& call) {
  Driver driver(call.globals);
  GANTRY_LET(const ContainerView view, state(driver.env(), call.id()));
  GANTRY_TRY(print(state_json(view)));
  return 0;
}

}  // namespace

constinit const Command kState{
    .name = "state",
    .summary = "print a container's state as JSON",
    .arguments = "NAME",
    .description = {},
    .flags = {},
    .count = {1, 1},
    .run = run_state,
};

}  // namespace gantry::cli
