#include "cli/supervised.h"

#include <unistd.h>

#include <algorithm>

#include "cli/driver.h"
#include "engine/supervisor/paths.h"
#include "io/scope.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

io::Task<> work(Jobs& jobs, size_t& next, size_t count) {
  while (next < count) {
    const size_t mine = next++;
    co_await jobs.run(mine);
  }
}

}  // namespace

Result<SupervisorAddress> supervisor_address(const Call& call) {
  const Globals& globals = call.globals;
  SupervisorAddress address;
  address.socket = default_socket(globals.root);
  address.start_command = globals.program;
  if (globals.root_explicit) address.start_command += cat(" --root ", globals.root);
  address.start_command += " supervise";
  if (call.options.given("socket")) {
    const std::string& given = call.options.text("socket");
    if (given.empty()) return fail("--socket: the path is empty");
    GANTRY_LET(address.socket, sys::absolute_path(given));
    address.start_command += cat(" --socket ", address.socket);
  }
  return address;
}

Result<std::string> state_dir(const Call& call) {
  if (!call.options.given("state-dir")) return std::string(kDefaultStateDir);
  const std::string& given = call.options.text("state-dir");
  if (given.empty()) return fail("--state-dir: the path is empty");
  return sys::absolute_path(given);
}

Result<> check_ids(const Call& call) {
  for (const std::string& id : call.options.args)
    if (const std::string refusal = check_id(id); !refusal.empty()) return fail(cat(id, ": ", refusal));
  return {};
}

SupervisedPlace place_for(const Call& call, const Env& env, const std::string& id, const SupervisedPlace& place) {
  return call.options.given("socket") ? place : place_of(env.store, id, place);
}

io::Task<> run_jobs(io::Loop& loop, Jobs& jobs, size_t count) {
  size_t next = 0;
  io::CancelSource* const cancel = co_await io::inherited_cancel();
  io::Scope scope(loop, cancel);
  for (size_t i = 0; i < std::min(count, kMostAtOnce); ++i) scope.spawn(work(jobs, next, count));
  (void)co_await scope.join();
}

namespace {

class ContainerJobs final : public Jobs {
 public:
  ContainerJobs(Driver& driver, const Call& call, SupervisedPlace place, const ContainerAction& action)
      : driver_(driver), call_(call), place_(std::move(place)), action_(action) {}

  io::Task<> run(size_t index) override {
    const std::string& id = call_.options.args[index];
    SupervisedPlace place = place_for(call_, driver_.env(), id, place_);
    const Result<> done = co_await action_(driver_.env(), std::move(place), id);
    if (done) co_return;
    log_error(cat(id, ": ", done.error().text));
    failed_ = true;
  }

  bool failed() const { return failed_; }

 private:
  Driver& driver_;
  const Call& call_;
  SupervisedPlace place_;
  const ContainerAction& action_;
  bool failed_ = false;
};

}  // namespace

Result<int> for_each_container(const Call& call, const ContainerAction& action) {
  SupervisedPlace place;
  GANTRY_LET(place.address, supervisor_address(call));
  GANTRY_LET(place.state_dir, state_dir(call));
  GANTRY_TRY(check_ids(call));
  Driver driver(call.globals);
  ContainerJobs jobs(driver, call, std::move(place), action);
  driver.loop().run(run_jobs(driver.loop(), jobs, call.options.args.size()));
  return jobs.failed() ? 1 : 0;
}

Progress::Progress(std::string word, size_t total)
    : word_(std::move(word)), total_(total), terminal_(total > 1 && ::isatty(STDERR_FILENO) == 1) {}

void Progress::show(std::string_view text) {
  // Only decoration: that it cannot be shown is no failure.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

void Progress::clear() {
  if (shown_) show("\r\033[K");
  shown_ = false;
}

void Progress::step() {
  ++done_;
  if (!terminal_) return;
  show(cat("\r", word_, " ", done_, "/", total_));
  shown_ = true;
}

}  // namespace gantry::cli
