#include <array>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/supervised.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 4> kFlags{{
    {"force", "f", Kind::kBool, "", "kill the container first if it still runs; a missing one is fine"},
    {"keep-log", "", Kind::kBool, "", "leave its log files where they are"},
    kSocketFlag,
    kStateDirFlag,
}};

class RemoveJobs final : public Jobs {
 public:
  RemoveJobs(Driver& driver, const Call& call, SupervisedPlace place)
      : driver_(driver), call_(call), place_(std::move(place)) {}

  io::Task<> run(size_t index) override {
    const std::string& id = call_.options.args[index];
    SupervisedPlace place = place_for(call_, driver_.env(), id, place_);
    const bool force = call_.options.on("force");
    const bool keep_log = call_.options.on("keep-log");
    const Result<> removed = co_await remove_anyhow(driver_.env(), std::move(place), id, force, keep_log);
    if (removed) co_return;
    log_error(cat(id, ": ", removed.error().text));
    failed_ = true;
  }

  bool failed() const { return failed_; }

 private:
  Driver& driver_;
  const Call& call_;
  SupervisedPlace place_;
  bool failed_ = false;
};

Result<int> run_rm(const Call& call) {
  GANTRY_LET(SupervisedPlace place, supervised_place(call));
  for (const std::string& id : call.options.args)
    if (const std::string refusal = check_id(id); !refusal.empty()) return fail(cat(id, ": ", refusal));
  Driver driver(call.globals);
  RemoveJobs jobs(driver, call, std::move(place));
  driver.loop().run(run_jobs(driver.loop(), jobs, call.options.args.size()));
  return jobs.failed() ? 1 : 0;
}

}  // namespace

constinit const Command kRm{
    .name = "rm",
    .summary = "remove supervised containers with their definitions and logs",
    .arguments = "ID...",
    .description =
        "The log goes with the container, wherever it is, unless --keep-log is given. Works without a\n"
        "supervisor, too.",
    .flags = kFlags,
    .count = {1, -1},
    .changes_system = true,
    .for_supervised = true,
    .run = run_rm,
};

}  // namespace gantry::cli
