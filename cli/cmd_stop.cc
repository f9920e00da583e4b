#include <array>

#include "cli/commands.h"
#include "cli/driver.h"
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

class StopJobs final : public Jobs {
 public:
  StopJobs(Driver& driver, const Call& call, SupervisedPlace place, unsigned grace_seconds)
      : driver_(driver), call_(call), place_(std::move(place)), grace_seconds_(grace_seconds) {}

  io::Task<> run(size_t index) override {
    const std::string& id = call_.options.args[index];
    SupervisedPlace place = place_for(call_, driver_.env(), id, place_);
    const Result<> stopped = co_await stop_anyhow(driver_.env(), std::move(place), id, grace_seconds_);
    if (stopped) co_return;
    log_error(cat(id, ": ", stopped.error().text));
    failed_ = true;
  }

  bool failed() const { return failed_; }

 private:
  Driver& driver_;
  const Call& call_;
  SupervisedPlace place_;
  unsigned grace_seconds_;
  bool failed_ = false;
};

Result<int> run_stop(const Call& call) {
  const int64_t seconds = call.options.number("time").value_or(kDefaultSeconds);
  if (seconds < 0 || seconds > kMostSeconds)
    return fail(cat("--time ", seconds, ": must be from 0 to ", kMostSeconds, " seconds"));
  GANTRY_LET(SupervisedPlace place, supervised_place(call));
  for (const std::string& id : call.options.args)
    if (const std::string refusal = check_id(id); !refusal.empty()) return fail(cat(id, ": ", refusal));
  Driver driver(call.globals);
  StopJobs jobs(driver, call, std::move(place), static_cast<unsigned>(seconds));
  driver.loop().run(run_jobs(driver.loop(), jobs, call.options.args.size()));
  return jobs.failed() ? 1 : 0;
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
