#include "cli/commands.h"
#include "cli/create_flags.h"
#include "cli/driver.h"

namespace gantry::cli {

namespace {

Result<int> run_create(const Call& call) {
  GANTRY_LET(CreateOptions options, create_options(call.options));
  Driver driver(call.globals);
  GANTRY_TRY(driver.loop().run(create(driver.env(), std::move(options))));
  return 0;
}

}  // namespace

constinit const Command kCreate{
    .name = "create",
    .summary = "make a container without starting its program",
    .arguments = "NAME",
    .description =
        "Sets everything up that config.json asks for. The program itself waits for `start`.\n"
        "NAME must be unused; it is what all other commands take.",
    .flags = kCreateFlags,
    .count = {1, 1},
    .errors = ErrorStyle::kProgram,
    .changes_system = true,
    .run = run_create,
};

}  // namespace gantry::cli
