#include "cli/commands.h"
#include "cli/driver.h"
#include "engine/supervisor/ownership.h"

namespace gantry::cli {

namespace {

Result<int> run_resume(const Call& call) {
  Driver driver(call.globals);
  GANTRY_TRY(driver.loop().run(owned_resume(driver.env(), call.id())));
  return 0;
}

}  // namespace

constinit const Command kResume{
    .name = "resume",
    .summary = "let a paused container go on",
    .arguments = "NAME",
    .description = "",
    .flags = {},
    .count = {1, 1},
    .changes_system = true,
    .run = run_resume,
};

}  // namespace gantry::cli
