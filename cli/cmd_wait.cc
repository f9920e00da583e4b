#include <array>
#include <optional>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/output.h"
#include "cli/supervised.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 1> kFlags{{kSocketFlag}};

/// Prints in the order of the ids, each line as soon as those before it are known.
class WaitJobs final : public Jobs {
 public:
  WaitJobs(Driver& driver, const Call& call, SupervisedPlace place)
      : driver_(driver), call_(call), place_(std::move(place)), lines_(call.options.args.size()) {}

  io::Task<> run(size_t index) override {
    const std::string& id = call_.options.args[index];
    const SupervisedPlace place = place_for(call_, driver_.env(), id, place_);
    api::Call call = api::Wait{id};
    std::vector<int> none;
    const Patience patience;
    const Result<api::Reply> reply =
        co_await call_patiently(driver_.loop(), place.address, std::move(call), std::move(none), patience);
    if (!reply) log_error(cat(id, ": ", reply.error().text));
    const api::Exit exit = reply ? std::get<api::WaitReply>(*reply).exit : api::Exit();
    failed_ = failed_ || !exit.known;
    lines_[index] = exit.known ? cat(exit.shell(), "\n") : "unknown\n";
    print_known();
  }

  bool failed() const { return failed_; }

 private:
  void print_known() {
    for (; printed_ < lines_.size() && lines_[printed_]; ++printed_) {
      const auto printed = print(*lines_[printed_]);
      if (printed) continue;
      log_error(printed.error().text);
      failed_ = true;
    }
  }

  Driver& driver_;
  const Call& call_;
  SupervisedPlace place_;
  std::vector<std::optional<std::string>> lines_;
  size_t printed_ = 0;
  bool failed_ = false;
};

Result<int> run_wait(const Call& call) {
  SupervisedPlace place;
  GANTRY_LET(place.address, supervisor_address(call));
  GANTRY_TRY(check_ids(call));
  Driver driver(call.globals);
  WaitJobs jobs(driver, call, std::move(place));
  driver.loop().run(run_jobs(driver.loop(), jobs, call.options.args.size()));
  return jobs.failed() ? 1 : 0;
}

}  // namespace

constinit const Command kWait{
    .name = "wait",
    .summary = "wait until supervised containers have ended, and print their exit codes",
    .arguments = "ID...",
    .description =
        "One line for each ID in the order given: the exit code, 128 + N when signal N killed it, or\n"
        "\"unknown\" when nobody could find out; the exit status is then 1. A container that is to be\n"
        "restarted has not ended. When the supervisor is replaced meanwhile, the wait goes on.",
    .flags = kFlags,
    .count = {1, -1},
    .for_supervised = true,
    .run = run_wait,
};

}  // namespace gantry::cli
