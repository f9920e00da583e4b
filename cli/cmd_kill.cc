#include <array>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/values.h"
#include "engine/supervisor/ownership.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 1> kFlags{{
    {"all", "a", Kind::kBool, "", "signal every process of the container; a stopped one is fine"},
}};

Result<int> run_kill(const Call& call) {
  const auto& args = call.options.args;
  const auto signo = parse_signal(args.size() > 1 ? args[1] : "");
  Driver driver(call.globals);
  if (!signo) return std::unexpected(unless_absent(driver, call.id(), signo.error()));
  GANTRY_TRY(driver.loop().run(owned_kill(driver.env(), call.id(), *signo, call.options.on("all"))));
  return 0;
}

}  // namespace

constinit const Command kKill{
    .name = "kill",
    .summary = "send a signal to a container's first process",
    .arguments = "NAME [SIGNAL]",
    .description = "SIGNAL is a number or a name: 9, KILL, SIGKILL, RTMIN+3. The default is SIGTERM.",
    .flags = kFlags,
    .count = {1, 2},
    .changes_system = true,
    .run = run_kill,
};

}  // namespace gantry::cli
