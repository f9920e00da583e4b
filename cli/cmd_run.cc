#include <array>

#include "cli/commands.h"
#include "cli/create_flags.h"
#include "cli/driver.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 3> kOwnFlags{{
    {"detach", "d", Kind::kBool, "", "return as soon as the program runs"},
    {"keep", "", Kind::kBool, "", "do not delete the container when its program ends"},
    {"no-subreaper", "", Kind::kBool, "", "do not adopt and reap processes that the container leaves behind"},
}};
constexpr auto kFlags = join(kCreateFlags, kOwnFlags);

Result<int> run_run(const Call& call) {
  RunOptions options;
  GANTRY_LET(options.create, create_options(call.options));
  options.detach = call.options.on("detach");
  options.keep = call.options.on("keep");
  options.no_subreaper = call.options.on("no-subreaper");
  Driver driver(call.globals);
  return driver.loop().run(run(driver.env(), std::move(options)));
}

}  // namespace

constinit const Command kRun{
    .name = "run",
    .summary = "create and start a container, wait for it and delete it",
    .arguments = "NAME",
    .description =
        "Passes signals and the terminal on to the container's program, and exits with its status\n"
        "(128 + N when signal N killed it).",
    .flags = kFlags,
    .count = {1, 1},
    .errors = ErrorStyle::kProgram,
    .changes_system = true,
    .run = run_run,
};

}  // namespace gantry::cli
