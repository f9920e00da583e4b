#include "engine/supervisor/supervised.h"

#include <csignal>
#include <utility>

#include "engine/clock.h"
#include "engine/load.h"
#include "engine/log.h"
#include "engine/supervisor/stop_signal.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kDeathLimitMs = 10'000;
constexpr int64_t kRecordMs = 2'000;
constexpr int64_t kFinishAgainMs = 100;
constexpr int64_t kSaveAgainMs = 1'000;

}  // namespace

Supervised::Supervised(SupervisorHost& host, Definition definition, LogOptions log)
    : host_(host),
      definition_(std::move(definition)),
      log_(std::move(log)),
      begun_(host.env.loop),
      running_(host.env.loop),
      idle_(host.env.loop),
      ended_(host.env.loop),
      settled_(host.env.loop),
      nudge_(host.env.loop),
      removal_over_(host.env.loop) {}

Supervised::~Supervised() = default;

Result<std::unique_ptr<Supervised>> Supervised::make(SupervisorHost& host, Definition definition) {
  GANTRY_LET(LogOptions log, parse_log_options(definition.log));
  if (log.path.empty()) log.path = host.definitions.dir_of(definition.id) + "/container.log";
  return std::unique_ptr<Supervised>(new Supervised(host, std::move(definition), std::move(log)));
}

io::Task<> Supervised::live(std::unique_ptr<HeldRun> kept, bool fresh) {
  bool again = kept != nullptr || !definition_.ended();
  if (definition_.ended()) tell_end();  // what is left to do is only about its output
  while (again) {
    Result<bool> running = co_await enter_run(std::move(kept), fresh);
    const bool runs = running && *running;
    Result<> ran = running ? Result<>() : forward(std::move(running));
    if (runs) {
      Result<api::Exit> exit = co_await await_exit();
      if (!exit) co_return;
      ran = co_await leave_run(*std::move(exit));
    }
    if (!ran && io::is_cancelled(ran.error())) co_return;
    if (!ran) log_warning(cat("container ", definition_.id, ": ", ran.error().text));
    fresh = false;
    again = !first_error_ && !definition_.ended();
    if (!host_.closing) continue;
    settled_.set();
    co_return;
  }
  tell_end();
  settled_.set();
}

void Supervised::tell_end() {
  begun_.set();
  running_.set();
  idle_.set();
  ended_.set();
}

// The parts of a run are never inlined: the compiler would put their frames into that of live(), which is there for
// every container that does nothing.

/// The beginning of a run, or from where a former supervisor left it. True: it is in progress. False: nothing is, and
/// what there was is over. An error is that of a cancelled supervisor, or something to be told.
[[gnu::noinline]] io::Task<Result<bool>> Supervised::enter_run(std::unique_ptr<HeldRun> kept, bool fresh) {
  if (kept && (definition_.ended() || kept->run != definition_.run)) {
    // Its end is on record already; what may be left is output.
    take_over(std::move(*kept));
    GANTRY_CO_TRY(co_await bring_home());
    co_return false;
  }
  Result<> begun;
  if (kept) {
    begun = co_await resume_run(std::move(*kept));
  } else if (fresh && host_.keeper.gone().is_set()) {
    begun = fail(kNoKeeper);  // somebody waits for it
  } else {
    GANTRY_CO_TRY(co_await back_off());
    if (!definition_.ended()) begun = co_await begin_run();
  }
  if (!begun && io::is_cancelled(begun.error())) co_return forward(std::move(begun));
  if (definition_.ended()) co_return false;  // stopped during the back-off
  if (begun) {
    begun_.set();
    idle_.reset();
    running_.set();
    co_return true;
  }
  if (fresh) {
    first_error_ = begun.error();
    co_return false;
  }
  // No failure of the container: the next keeper will start it.
  if (host_.keeper.gone().is_set()) co_return forward(std::move(begun));
  if (definition_.stopped_by_user) {
    GANTRY_CO_TRY(co_await skip_run());
    co_return false;
  }
  api::Exit exit;
  exit.at = utc_text(realtime_ns());
  GANTRY_CO_TRY(co_await finish_run(std::move(exit), false));
  if (run_) GANTRY_CO_TRY(co_await bring_home());
  co_return forward(std::move(begun));
}

/// The end of a run goes on record, and its output into the log.
[[gnu::noinline]] io::Task<Result<>> Supervised::leave_run(api::Exit exit) {
  running_.reset();
  idle_.set();
  // Who is told of the end finds the last words in the log, unless the log takes nothing: the end is told then, too.
  (void)co_await output_->drain();
  GANTRY_CO_TRY(co_await finish_run(std::move(exit), true));
  if (run_) GANTRY_CO_TRY(co_await bring_home());
  co_return Result<>();
}

/// The end goes on record, together with whether another run is due; only then the keeper may forget it.
io::Task<Result<>> Supervised::finish_run(api::Exit exit, bool begun) {
  const bool again = definition_.end_run(std::move(exit), begun, monotonic_ns());
  GANTRY_CO_TRY(co_await save());
  if (!again) ended_.set();
  co_return Result<>();
}

Result<> Supervised::save_once() {
  flushed_ = false;
  ++saves_;
  return host_.definitions.save(definition_);
}

/// What a power cut takes is an older record, not the container.
io::Task<> Supervised::flush_record() {
  const Result<> durable = co_await make_durable();
  if (!durable) log_warning(cat("container ", definition_.id, ": its definition: ", durable.error().text));
}

/// Tries until it is done: an end that is not on record would be lost together with this process.
io::Task<Result<>> Supervised::save() {
  for (bool told = false;; told = true) {
    const Result<> saved = save_once();
    // A run's end is told first, and then flushed on its way home.
    if (saved && !run_) co_await flush_record();
    if (saved || unrecorded_) co_return Result<>();
    if (!told) log_warning(cat("container ", definition_.id, ": its definition cannot be saved: ", saved.error().text));
    const io::Wake wake = co_await io::sleep_for(host_.env.loop, std::chrono::milliseconds(kSaveAgainMs));
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "saving a definition");
  }
}

/// Waits as long as the failures before deserve, and for ever when there is no keeper: the next one comes with another
/// supervisor. What is stopped meanwhile has ended.
io::Task<Result<>> Supervised::back_off() {
  io::Deadline deadline = io::Deadline::in_ms(definition_.back_off_ms());
  for (;;) {
    const bool orphaned = host_.keeper.gone().is_set();
    if (definition_.stopped_by_user || (!orphaned && deadline.expired())) break;
    if (orphaned) deadline = io::Deadline::never();
    nudge_.reset();
    const io::Wake wake = co_await nudge_.wait(deadline);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "back-off");
  }
  if (!definition_.stopped_by_user && !definition_.quarantined) co_return Result<>();
  Result<> skipped = co_await skip_run();
  co_return skipped;
}

/// The run that was due will not be: the end of the one before stays the last word.
io::Task<Result<>> Supervised::skip_run() {
  if (definition_.last_run == 0) definition_.exit.at = utc_text(realtime_ns());
  if (definition_.last_run != 0) definition_.run = definition_.last_run;
  definition_.last_run = definition_.run;
  Result<> saved = co_await save();
  co_return saved;
}

/// All that the run has written goes into the log; then nothing is left of the run but its record.
io::Task<Result<>> Supervised::bring_home() {
  if (!output_dropped_) co_await flush_record();
  for (bool home = output_dropped_; !home;) {
    home = co_await output_->drain();
    home = home || output_dropped_;
    const io::Wake wake = co_await io::checkpoint(host_.env.loop);
    if (!home && wake == io::Wake::kCancelled) co_return io::fail_wake(wake, cat("output of ", definition_.id));
  }
  co_await output_->stop();
  while (!output_dropped_) {
    const bool finished = co_await output_->finish_lines();
    if (finished) break;
    const io::Wake wake = co_await io::sleep_for(host_.env.loop, std::chrono::milliseconds(kFinishAgainMs));
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, cat("output of ", definition_.id));
  }
  Result<> released = co_await release_run();
  co_return released;
}

io::Task<Result<pid_t>> Supervised::first_start() {
  const io::Deadline never = io::Deadline::never();
  const io::Wake wake = co_await begun_.wait(never);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for the start");
  if (first_error_) co_return std::unexpected(*first_error_);
  co_return pid();
}

io::Task<Result<>> Supervised::wait_ended() {
  const io::Deadline never = io::Deadline::never();
  const io::Wake wake = co_await ended_.wait(never);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for the end");
  co_return Result<>();
}

io::Task<Result<>> Supervised::wait_settled() {
  const io::Deadline limit = io::Deadline::in_ms(kDeathLimitMs);
  const io::Wake wake = co_await settled_.wait(limit);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, cat("output of ", definition_.id));
  co_return Result<>();
}

io::Task<Result<bool>> Supervised::claim_removal() {
  const io::Deadline never = io::Deadline::never();
  while (being_removed_) {
    removal_over_.reset();
    const io::Wake wake = co_await removal_over_.wait(never);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for another removal");
  }
  being_removed_ = !removed_;
  co_return being_removed_;
}

void Supervised::end_removal(bool gone) {
  being_removed_ = false;
  removed_ = removed_ || gone;
  removal_over_.set();
}

io::Task<Result<>> Supervised::await_running() {
  const io::Deadline limit = io::Deadline::in_ms(kDeathLimitMs);
  const io::Wake wake = co_await running_.wait(limit);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, cat("start of ", definition_.id));
  co_return Result<>();
}

io::Task<Result<>> Supervised::make_durable() {
  if (flushed_ || definition_.restart.when == api::Restart::kNo) co_return Result<>();
  GANTRY_CO_LET(std::vector<sys::Fd> files, host_.definitions.open_for_flush(definition_.id));
  GANTRY_CO_LET(const sys::Fd definition, host_.definitions.open_definition(definition_.id));
  const uint64_t saves = saves_;
  GANTRY_CO_TRY(co_await host_.flusher.flush(std::move(files)));
  flushed_ = saves == saves_;
  // Some file systems have no links; what is flushed is so without it.
  (void)host_.definitions.keep_flushed(definition_.id, definition);
  co_return Result<>();
}

/// A full disk does not keep a container from being stopped: what cannot be noted now is noted together with the end.
bool Supervised::mark_stopped() {
  const bool marked = std::exchange(definition_.stopped_by_user, true);
  nudge_.set();
  if (marked) return true;
  const Result<> saved = save_once();
  if (!saved) log_warning(cat("container ", definition_.id, ": its definition cannot be saved: ", saved.error().text));
  return saved.has_value();
}

io::Task<Result<>> Supervised::stop(unsigned grace_seconds) {
  if (mark_stopped()) (void)co_await make_durable();
  GANTRY_CO_TRY(co_await end_run(grace_seconds));
  const io::Deadline soon = io::Deadline::in_ms(kRecordMs);
  const io::Wake wake = co_await ended_.wait(soon);
  if (wake == io::Wake::kReady) co_return Result<>();
  co_return fail(cat("it has ended, but ", host_.definitions.path(), " takes no record of that yet"));
}

io::Task<Result<>> Supervised::stop_for_exit(unsigned grace_seconds) {
  if (!run_) co_return Result<>();
  Result<> ended = co_await end_run(grace_seconds);
  co_return ended;
}

io::Task<Result<>> Supervised::kill_now() {
  // What is about to be removed must go even when a full disk takes no record of it.
  unrecorded_ = !mark_stopped();
  Result<> ended = co_await end_run_now();
  co_return ended;
}

/// Its process is known here, also when its record cannot be read any more.
io::Task<Result<>> Supervised::signal_run(int signo) {
  Result<> sent = co_await kill(host_.env, definition_.id, signo, false);
  if (!sent && run_ && run_->pidfd) sent = sys::pidfd_signal(run_->pidfd, signo);
  co_return sent;
}

io::Task<Result<>> Supervised::end_run(unsigned grace_seconds) {
  if (has_ended()) co_return Result<>();
  GANTRY_CO_TRY(co_await await_running());
  if (has_ended()) co_return Result<>();
  int signo = SIGTERM;
  const Result<Loaded> container = load_container(host_.env, definition_.id);
  if (container) {
    signo = stop_signal(container->record);
    if (container->status == Status::kPaused) (void)co_await resume(host_.env, definition_.id);
  }
  // What has just ended by itself cannot be signalled, and need not be.
  (void)co_await signal_run(signo);
  const io::Deadline patience = io::Deadline::in_ms(int64_t{grace_seconds} * 1000);
  const io::Wake wake = co_await idle_.wait(patience);
  if (wake == io::Wake::kReady) co_return Result<>();
  if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "stopping");
  Result<> killed = co_await end_run_now();
  co_return killed;
}

io::Task<Result<>> Supervised::end_run_now() {
  if (has_ended()) co_return Result<>();
  GANTRY_CO_TRY(co_await await_running());
  if (has_ended()) co_return Result<>();
  Result<> killed = co_await signal_run(SIGKILL);
  const io::Deadline limit = io::Deadline::in_ms(kDeathLimitMs);
  const io::Wake wake = co_await idle_.wait(limit);
  if (wake == io::Wake::kReady) co_return Result<>();
  if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "killing");
  if (!killed) co_return killed;
  co_return fail(cat("container ", definition_.id, " does not end: pid ", pid(), " ignores SIGKILL (see /proc/", pid(),
                     "/stack)"));
}

}  // namespace gantry
