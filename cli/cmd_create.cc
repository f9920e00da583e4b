#include "cli/commands.h"
#include "cli/create_flags.h"
#include "cli/driver.h"
#include "engine/foreground.h"

namespace gantry::cli {

namespace {

Result<int> run_create(const Call& call) {
  GANTRY_LET(CreateOptions options, create_options(call.options));
  Driver driver(call.globals);
  io::Loop& loop = driver.loop();
  io::Signals signals = catch_end_signals(loop);
  io::Task<Result<>> creating = create(driver.env(), std::move(options));
  GANTRY_TRY(loop.run(unless_interrupted(loop, signals, kHeedAtOnce, std::move(creating))));
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
