// The beginning of a run.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "engine/clock.h"
#include "engine/hooks.h"
#include "engine/load.h"
#include "engine/start.h"
#include "engine/supervisor/limits.h"
#include "engine/supervisor/output_local.h"
#include "engine/supervisor/supervised.h"
#include "io/stream.h"
#include "io/timer.h"
#include "sys/file.h"
#include "sys/local_path.h"
#include "sys/pipe.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kTerminalLimitMs = 10'000;
constexpr int64_t kReapLimitMs = 10'000;
constexpr int64_t kUsualStartMs = 1'000;

/// What init is started with; our copies are closed when the creation is over, or the ends of its streams would never
/// be seen.
struct InitEnds {
  sys::Fd in, out, err, console;
};

/// A run's pipes, and the socket for its terminal; the reading ends go into `out`, `err` and `console`.
Result<InitEnds> make_ends(sys::Fd& out, sys::Fd& err, sys::Fd& console) {
  GANTRY_LET(sys::Pipe output, sys::Pipe::open());
  GANTRY_LET(sys::Pipe errors, sys::Pipe::open());
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return fail_errno(errno, "socketpair");
  console = sys::Fd(pair[0]);
  InitEnds ends;
  ends.console = sys::Fd(pair[1]);
  GANTRY_LET(ends.in, sys::open_file("/dev/null", O_RDONLY));
  ends.out = std::move(output.write);
  ends.err = std::move(errors.write);
  out = std::move(output.read);
  err = std::move(errors.read);
  return ends;
}

}  // namespace

io::Task<Result<>> Supervised::begin_run() {
  const io::Deadline never = io::Deadline::never();
  GANTRY_CO_LET(io::Semaphore::Permit permit, co_await host_.admission.acquire(never));
  // Somebody may have stopped it while it stood in the queue.
  if (definition_.stopped_by_user) co_return fail("stopped before it was started");
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope patience(host_.env.loop, inherited);
  patience.spawn(lend_place(permit));
  host_.suspects.begin(definition_.key);
  io::Task<Result<>> starting = create_and_start();
  io::Task<Result<>> stopping = until_stopped();
  auto raced = co_await io::race(host_.env.loop, std::move(starting), std::move(stopping));
  host_.suspects.end(definition_.key, true);
  (void)co_await patience.cancel_and_join();
  // Who stops it is no shutdown of ours.
  if (!raced.a && raced.b && io::is_cancelled(raced.a.error())) co_return fail("stopped while it was being started");
  co_return std::move(raced.a);
}

io::Task<Result<>> Supervised::until_stopped() {
  const io::Deadline never = io::Deadline::never();
  io::Wake wake = io::Wake::kReady;
  while (wake == io::Wake::kReady && !definition_.stopped_by_user) {
    nudge_.reset();
    wake = co_await nudge_.wait(never);
  }
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for a stop");
  co_return Result<>();
}

/// What takes so long waits for a hook or a mount source, perhaps for ever: the next one may begin.
io::Task<> Supervised::lend_place(io::Semaphore::Permit& permit) {
  const io::Wake wake = co_await io::sleep_for(host_.env.loop, std::chrono::milliseconds(kUsualStartMs));
  if (wake != io::Wake::kCancelled) permit.release();
}

Result<std::unique_ptr<Output>> Supervised::find_output() const {
  if (names_its_log()) {
    auto slow = sys::find_slow_place(log_.path);
    if (!slow) return forward(std::move(slow), cat("log ", log_.path));
    if (*slow) {
      GANTRY_LET(std::shared_ptr<OutputDevice> device, host_.devices.at(**slow));
      return std::make_unique<RemoteOutput>(std::move(device), log_);
    }
  }
  return std::make_unique<LocalOutput>(host_.env.loop, host_.copier, log_);
}

std::optional<uint64_t> Supervised::slow_device() const {
  const auto slow = sys::find_slow_place(log_.path);
  if (!slow || !*slow) return std::nullopt;
  return OutputDevices::key_of(**slow);
}

io::Task<Result<FoundLogPlace>> Supervised::find_log() {
  GANTRY_CO_LET(const std::unique_ptr<Output> output, find_output());
  GANTRY_CO_LET(FoundLogPlace found, co_await output->find_place());
  log_place_ = found.place;
  co_return found;
}

io::Task<Result<>> Supervised::refresh_log_place(std::optional<uint64_t> slow) {
  if (log_place_ && log_place_->is_settled()) co_return Result<>();
  const std::optional<uint64_t> mine = slow_device();
  if (mine && mine != slow) co_return Result<>();
  Result<FoundLogPlace> found = co_await find_log();
  if (!found && io::is_timeout(found.error())) co_return forward(std::move(found));
  co_return Result<>();
}

io::Task<Result<>> Supervised::prepare_output() {
  GANTRY_CO_LET(output_, find_output());
  bool found = true;
  const Result<> prepared = co_await output_->prepare(run_->slot, found);
  if (!std::exchange(log_prepared_, true)) found_log_ = found;
  if (!prepared) co_return prepared;
  // Its directories are there now.
  if (names_its_log()) GANTRY_CO_TRY(co_await refresh_log_place(slow_device()));
  co_return Result<>();
}

io::Task<Result<>> Supervised::check_log_answers() {
  if (!names_its_log() || !slow_device()) co_return Result<>();
  Result<FoundLogPlace> found = co_await find_log();
  if (!found && io::is_timeout(found.error())) co_return forward(std::move(found));
  co_return Result<>();
}

io::Task<Result<>> Supervised::remove_log(io::Deadline deadline) {
  GANTRY_CO_LET(const std::unique_ptr<Output> output, find_output());
  Result<> removed = co_await output->remove_log(deadline);
  co_return removed;
}

/// What has been loaded may hold the container's lock: it is gone when this returns.
Result<> Supervised::check_ours() const {
  const Result<Loaded> found = load_container(host_.env, definition_.id);
  if (!found && found.error().sys_errno == ENOENT) return {};
  if (!found) return std::unexpected(found.error());
  if (found->record.supervisor_socket == host_.socket) return {};
  return std::unexpected(Error{"container with given ID already exists", EEXIST});
}

Result<bool> Supervised::is_anothers() const {
  const Result<Loaded> found = load_container(host_.env, definition_.id);
  if (!found && found.error().sys_errno == ENOENT) return false;
  if (!found) return std::unexpected(found.error());
  return found->health == RecordHealth::kGood && found->record.supervisor_socket != host_.socket;
}

/// What an earlier run left, or a creation that was killed. A namesake that is not ours stays.
io::Task<Result<>> Supervised::clear_remains() {
  GANTRY_CO_TRY(check_ours());
  Result<> removed = co_await remove(host_.env, definition_.id, true);
  co_return removed;
}

io::Task<Result<>> Supervised::create_and_start() {
  GANTRY_CO_TRY(co_await clear_remains());
  GANTRY_CO_LET(std::string config, host_.definitions.load_config(definition_.id));
  GANTRY_CO_TRY(admit(config));
  GANTRY_CO_LET(const uint32_t slot, host_.slots.take());
  run_.emplace();
  run_->slot = slot;
  Result<> begun = co_await prepare_output();
  if (begun) begun = co_await create(std::move(config));
  if (begun) co_return begun;
  // Also when we were cancelled: init must not stay without anybody who knows it.
  io::Task<> undo = abandon_run();
  co_await io::shield(std::move(undo));
  co_return begun;
}

/// Refused by name, rather than to fail somewhere in the middle or to let others fail.
Result<> Supervised::admit(const std::string& config) const {
  const bool terminal = wants_terminal(config);
  return check_limits(look_at_limits(host_.slots.count(), terminal), terminal);
}

io::Task<Result<>> Supervised::create(std::string config) {
  CreateRequest request;
  SupervisedCreation& given = request.supervised.emplace();
  given.config = std::move(config);
  GANTRY_CO_LET(InitEnds ends, make_ends(run_->out, run_->err, console_));
  given.rootfs = definition_.rootfs;
  given.netns = definition_.netns;
  given.cgroups_path = definition_.cgroups_path;
  given.cgroup_parent = host_.cgroup_parent;
  given.stdio = {ends.in.get(), ends.out.get(), ends.err.get()};
  given.console = ends.console.get();
  given.supervisor_socket = host_.socket;
  given.state_dir = host_.definitions.path();
  given.run = definition_.owner();
  request.options.id = definition_.id;
  request.options.bundle = definition_.bundle;
  request.guard = this;
  definition_.started_ns = monotonic_ns();
  GANTRY_CO_LET(Created created, co_await create_container(host_.env, std::move(request)));
  ends = InitEnds();
  console_.reset();
  run_->pid = created.init.pid;
  run_->pidfd = std::move(created.init.pidfd);
  output_->copy(run_->slot, run_->out, run_->err);
  Result<> started = co_await start_created(std::move(created));
  co_return started;
}

io::Task<Result<>> Supervised::secure(const sys::Child& init, bool terminal) {
  if (terminal) {
    std::vector<sys::Fd> fds;
    std::array<std::byte, 4096> name;
    const io::Deadline deadline = io::Deadline::in_ms(kTerminalLimitMs);
    const std::span<std::byte> into(name);
    GANTRY_CO_TRY(co_await io::recv_msg(host_.env.loop, console_.get(), into, fds, deadline));
    if (fds.size() != 1) co_return fail("the container's init sent no terminal");
    run_->out = std::move(fds.front());
    run_->err.reset();
  }
  KeeperHold hold;
  hold.slot = run_->slot;
  hold.kind = output_->held_kind();
  hold.owner = definition_.owner();
  hold.pid = init.pid;
  hold.fds[kHeldOut] = run_->out.get();
  hold.fds[kHeldErr] = run_->err.get();
  hold.fds[init::kHeldPidfd] = init.pidfd.get();
  Result<> held = co_await host_.keeper.hold(hold);
  co_return held;
}

io::Task<Result<>> Supervised::start_created(Created created) {
  GANTRY_CO_LET(sys::Fd status, release_init(created.dir));
  GANTRY_CO_TRY(co_await await_program(host_.env.loop, std::move(status)));
  Result<> hooked = co_await run_poststart(host_.env, created.spec.hooks, created.record, run_->pidfd);
  co_return hooked;
}

/// Undoes a run that did not begin, from whatever it has come to.
io::Task<> Supervised::abandon_run() {
  console_.reset();
  if (run_->pidfd && !run_->exit) {
    (void)sys::pidfd_signal(run_->pidfd, SIGKILL);
    const io::Deadline deadline = io::Deadline::in_ms(kReapLimitMs);
    (void)co_await host_.env.exits.wait(run_->pid, run_->pidfd.get(), deadline);
  }
  if (output_) co_await output_->stop();
  // Somebody else may have been first to make one of this name.
  Result<> removed = check_ours();
  if (removed) removed = co_await remove(host_.env, definition_.id, true);
  if (!removed) log_warning(cat("container ", definition_.id, ": ", removed.error().text));
  Result<> released = co_await release_run();
  if (!released) log_warning(released.error().text);
}

/// Gives back what the run had; its output is all in the log.
io::Task<Result<>> Supervised::release_run() {
  const uint32_t slot = run_->slot;
  if (output_) output_->close();
  output_.reset();
  run_.reset();
  Result<> released = co_await host_.keeper.release(slot);
  // Without a keeper its slot is not passed on to the next one.
  if (host_.keeper.gone().is_set()) released = Result<>();
  // What the keeper still holds is no place for another run: the next supervisor releases it.
  if (released) host_.slots.give_back(slot);
  co_return released;
}

}  // namespace gantry
