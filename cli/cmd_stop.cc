#include <array>

#include "cli/commands.h"
#include "cli/supervised.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr int64_t kDefaultSeconds = 10;
constexpr int64_t kMostSeconds = 1'000'000;

constexpr std::array<Flag, 3> kFlags{{
    {"time", "t", Kind::kInt, "SECONDS", "how long to wait before it is killed (default: 10)"},
    kSocketFlag,
    kStateDirFlag,
}};

Result<int> run_stop(const Call& call) {
  const int64_t seconds = call.options.number("time").value_or(kDefaultSeconds);
  if (seconds < 0 || seconds > kMostSeconds)
    return fail(cat("--time ", seconds, ": must be from 0 to ", kMostSeconds, " seconds"));
  const auto grace_seconds = static_cast<unsigned>(seconds);
  return for_each_container(call, [grace_seconds](Env& env, SupervisedPlace place, std::string id) {
    return stop_anyhow(env, std::move(place), std::move(id), grace_seconds);
  });
}

}  // namespace

constinit const Command kStop{
    .name = "stop",
    .summary = "end supervised containers: the stop signal first, then SIGKILL",
    .arguments = "ID...",
    .description =
        "The signal is that of the annotation org.opencontainers.image.stopSignal, or SIGTERM. No restart\n"
        "policy undoes a stop. Works without a supervisor, too.",
    .flags = kFlags,
    .count = {1, -1},
    .changes_system = true,
    .for_supervised = true,
    .run = run_stop,
};

}  // namespace gantry::cli
