// A run that a former supervisor began, and the end of any.
#include <chrono>

#include "engine/clock.h"
#include "engine/load.h"
#include "engine/log.h"
#include "engine/supervisor/output_local.h"
#include "engine/supervisor/supervised.h"
#include "engine/supervisor/supervisor.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::chrono::milliseconds kLookAgain(100);

}  // namespace

void Supervised::take_over(HeldRun kept) {
  run_.emplace();
  run_->slot = kept.slot;
  run_->pid = kept.pid;
  run_->foreign = kept.foreign;
  run_->pidfd = std::move(kept.pidfd);
  run_->out = std::move(kept.out);
  run_->err = std::move(kept.err);
  run_->exit = kept.exit;
  output_->copy(run_->slot, run_->out, run_->err);
}

LogFile* Supervised::resume_output(const HeldRun& kept) {
  if (kept.device_slot != 0) {
    const std::shared_ptr<OutputDevice> device = host_.devices.adopted(kept.device_slot);
    const auto slow = sys::find_slow_place(log_.path);
    if (slow && *slow && OutputDevices::key_of(**slow) == device->name().key)
      device->rename(OutputDevices::text_of(**slow));
    auto remote = std::make_unique<RemoteOutput>(device, log_);
    remote->resume(kept.slot, kept.out, kept.err);
    output_ = std::move(remote);
    return nullptr;
  }
  auto output = std::make_unique<LocalOutput>(host_.env.loop, host_.copier, log_);
  LogFile* const log = &output->log();
  output_ = std::move(output);
  return log;
}

std::optional<KeptSlot> Supervised::kept() const {
  if (!run_ || !run_->pidfd) return std::nullopt;
  KeptSlot kept;
  kept.slot = run_->slot;
  kept.kind = output_->held_kind();
  kept.owner = definition_.owner();
  kept.pid = run_->pid;
  kept.fds[kHeldOut] = run_->out.get();
  kept.fds[kHeldErr] = run_->err.get();
  kept.fds[init::kHeldPidfd] = run_->pidfd.get();
  return kept;
}

/// Whether the program has begun. While exec.fifo has a name it has not, and neither has an init that still runs
/// gantry's own image: its supervisor died between unlinking the fifo and writing into it. An error: it cannot be told
/// now.
Result<bool> Supervised::was_started() const {
  const Result<Loaded> found = load_container(host_.env, definition_.id);
  if (!found && is_shortage(found.error())) return std::unexpected(found.error());
  if (!found || found->health != RecordHealth::kGood || found->record.phase != Phase::kCommitted) return false;
  if (found->record.pid != run_->pid || found->record.supervised_run != definition_.owner()) return false;
  if (found->dir.has_start_fifo()) return false;
  return !found->pidfd || !sys::runs_init_image(run_->pid);
}

/// What does not look started is killed: that must not happen to one that could not be looked at.
io::Task<Result<bool>> Supervised::find_started() {
  for (bool told = false;; told = true) {
    const Result<bool> started = was_started();
    if (started) co_return *started;
    if (!told) log_warning(cat("container ", definition_.id, ": ", started.error().text));
    const io::Wake wake = co_await io::sleep_for(host_.env.loop, kLookAgain);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, cat("looking at ", definition_.id));
  }
}

io::Task<Result<>> Supervised::resume_run(HeldRun kept) {
  take_over(std::move(kept));
  GANTRY_CO_LET(const bool started, co_await find_started());
  if (started) co_return Result<>();
  io::Task<> undo = abandon_run();
  co_await io::shield(std::move(undo));
  // It may have been stopped meanwhile, or put in quarantine for what it does to supervisors.
  GANTRY_CO_TRY(co_await back_off());
  if (definition_.ended()) co_return Result<>();
  Result<> begun = co_await begin_run();
  co_return begun;
}

/// The keeper tells every supervisor of the end of each child of its that it holds: as long as there is a keeper,
/// nobody has to watch the process, too.
[[gnu::noinline]] io::Task<Result<ExitStatus>> Supervised::await_process() {
  const io::Deadline never = io::Deadline::never();
  const bool is_child = !run_->foreign && (host_.table.slot(run_->slot).flags & init::kSlotForeign) == 0;
  if (is_child && run_->pidfd && !sys::pidfd_ended(run_->pidfd.get()) && !host_.keeper.gone().is_set()) {
    host_.keeper.forget(run_->pid);  // what is remembered under the number of a living process is another's
    Result<ExitStatus> told = co_await host_.keeper.wait(run_->pid, never);
    if (told || io::is_cancelled(told.error()) || !host_.keeper.gone().is_set()) co_return told;
  }
  io::Task<Result<ExitStatus>> waiting = is_child
                                             ? host_.env.exits.wait(run_->pid, run_->pidfd.get(), never)
                                             : wait_for_stranger(host_.env.loop, run_->pid, run_->pidfd.get(), never);
  Result<ExitStatus> ended = co_await std::move(waiting);
  co_return ended;
}

[[gnu::noinline]] io::Task<Result<api::Exit>> Supervised::await_exit() {
  std::optional<ExitStatus> status;
  int64_t time = 0;
  if (run_->exit) {
    status = run_->exit->status;
    time = run_->exit->time_ns;
  } else {
    Result<ExitStatus> ended = co_await await_process();
    if (!ended && io::is_cancelled(ended.error())) co_return forward(std::move(ended));
    if (ended) status = *ended;
    if (!ended) log_warning(cat("container ", definition_.id, ": exit status unknown: ", ended.error().text));
  }
  api::Exit exit;
  exit.at = utc_text(time != 0 ? time : realtime_ns());
  exit.known = status.has_value();
  if (status) {
    exit.code = status->code;
    exit.signal = status->signal;
  }
  co_return exit;
}

}  // namespace gantry
