// One supervised container: its runs, one after the other, and what people ask of it meanwhile.
//
// A run goes: pipes, create (the keeper holds everything before Commit), start, copying, the end, the exit on record,
// the next run or none. At each step a successor of this process finds out from the keeper's table, the definition and
// the container's state directory where to go on: nothing is done twice and nothing is left out.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/creation.h"
#include "engine/supervisor/definition.h"
#include "engine/supervisor/host.h"
#include "engine/supervisor/keeper_start.h"
#include "engine/supervisor/log_place.h"
#include "engine/supervisor/output_remote.h"
#include "io/event.h"

namespace gantry {

/// What belongs to one run.
struct SupervisedRun {
  uint32_t slot = 0;
  pid_t pid = 0;
  bool foreign = false;  ///< not a child of the keeper: only its pidfd tells of its end
  sys::Fd pidfd;
  sys::Fd out, err;              ///< where its output comes from; a terminal has only `out`
  std::optional<HeldExit> exit;  ///< it ended while no supervisor was looking
};

class Supervised final : CreateGuard {
 public:
  /// `host` must outlive it, and the task of live() must have ended before it dies. Fails when the definition's log
  /// cannot be understood.
  static Result<std::unique_ptr<Supervised>> make(SupervisorHost& host, Definition definition);
  ~Supervised();

  const Definition& definition() const { return definition_; }
  /// What the keeper has, or should have, for the run in progress; numbers of this process.
  std::optional<KeptSlot> kept() const;
  pid_t pid() const { return run_ ? run_->pid : 0; }
  const LogOptions& log() const { return log_; }
  /// Its log is where --log path= says, and not in its own directory under the default name.
  bool names_its_log() const { return log_.driver != LogDriver::kNone && log_.path != default_log_path(); }
  /// Where such a log is found. Errors: it cannot be; ETIMEDOUT.
  io::Task<Result<FoundLogPlace>> find_log();
  /// Looks again unless that is known for good. What lies on a file system that may not answer is only looked for when
  /// that is `slow`.
  io::Task<Result<>> refresh_log_place(std::optional<uint64_t> slow);
  /// OutputDevices::key_of() the one on which the log is.
  std::optional<uint64_t> slow_device() const;
  /// Where it is as far as that is known.
  LogPlace log_place() const { return log_place_ ? *log_place_ : log_place_by_name(log_); }
  /// It was just defined and could not be started at all: nothing of it is to stay.
  bool is_stillborn() const { return first_error_.has_value(); }
  /// Its log was there before it: whoever gives up on its start leaves the log alone.
  bool found_log() const { return found_log_; }

  /// Whether the container of this name is somebody else's, made when ours was gone. A record that cannot be read is
  /// taken for ours. Errors: it cannot be looked at now.
  Result<bool> is_anothers() const;

  /// One caller at a time may remove it: waits for another one who is at it. False when it is gone then. ECANCELED.
  io::Task<Result<bool>> claim_removal();
  /// The removal is over; `gone`: and there is nothing left to remove.
  void end_removal(bool gone);

  /// Runs until nothing is due any more. `kept`: what the keeper holds for it after a restart of the supervisor;
  /// `fresh`: it was just defined, and if it cannot be started at all, that is the error of first_start(). Cancelled:
  /// leaves everything as it is.
  io::Task<> live(std::unique_ptr<HeldRun> kept, bool fresh);

  /// Waits until the first run has begun, or could not.
  io::Task<Result<pid_t>> first_start();
  /// Waits until it has ended for good.
  io::Task<Result<>> wait_ended();
  bool has_ended() const { return ended_.is_set(); }
  /// Waits for the end of live() itself, which may still have output to bring home. ETIMEDOUT after 10 s, ECANCELED.
  io::Task<Result<>> wait_settled();

  /// What must outlive the boot is on the disk: the definition of a container that is started again.
  io::Task<Result<>> make_durable();
  /// The same where a failure is only to be told.
  io::Task<> flush_record();

  /// Nothing is to be started again. Ends a back-off.
  /// False when that cannot be put on record now; it counts all the same.
  bool mark_stopped();
  /// mark_stopped(), the stop signal, and SIGKILL when it has not ended after `grace_seconds`. Errors: its end
  /// cannot be put on record; ETIMEDOUT when a start that is due hangs; it ignores SIGKILL; ECANCELED, after which the
  /// mark stays and the call can be made again.
  io::Task<Result<>> stop(unsigned grace_seconds);
  /// Ends the run because the supervisor ends: what the policy wants is left to the next one.
  io::Task<Result<>> stop_for_exit(unsigned grace_seconds);
  /// mark_stopped() and SIGKILL for all of it. Errors: those of stop(), but an end that cannot be put on record is
  /// none.
  io::Task<Result<>> kill_now();

  /// ETIMEDOUT when the log is where nobody answers.
  io::Task<Result<>> check_log_answers();
  /// Removes the log's files. ETIMEDOUT at the deadline; one that may lie where nobody answers is left alone.
  io::Task<Result<>> remove_log(io::Deadline deadline);
  /// What has not reached the log yet is not wanted any more.
  void drop_output() { output_dropped_ = true; }

  /// Lets go of the log file: the next write opens it anew.
  void reopen_log() {
    if (output_) output_->reopen();
  }

  /// A former supervisor's run goes on: where its output goes. Before live(). The copier's log, if it is our own.
  LogFile* resume_output(const HeldRun& kept);

 private:
  Supervised(SupervisorHost& host, Definition definition, LogOptions log);
  // supervised_run.cc
  io::Task<Result<>> begin_run();
  io::Task<Result<>> until_stopped();
  io::Task<> lend_place(io::Semaphore::Permit& permit);
  io::Task<Result<>> create_and_start();
  Result<std::unique_ptr<Output>> find_output() const;
  io::Task<Result<>> prepare_output();
  std::string default_log_path() const { return host_.definitions.dir_of(definition_.id) + "/container.log"; }
  Result<> admit(const std::string& config) const;
  io::Task<Result<>> create(std::string config);
  io::Task<Result<>> start_created(Created created);
  io::Task<Result<>> secure(const sys::Child& init, bool terminal) override;
  Result<> check_ours() const;
  io::Task<Result<>> clear_remains();
  io::Task<> abandon_run();
  io::Task<Result<>> release_run();
  // supervised_resume.cc
  void take_over(HeldRun kept);
  io::Task<Result<>> resume_run(HeldRun kept);
  Result<bool> was_started() const;
  io::Task<Result<bool>> find_started();
  io::Task<Result<ExitStatus>> await_process();
  io::Task<Result<api::Exit>> await_exit();
  // supervised.cc
  io::Task<Result<>> finish_run(api::Exit exit, bool begun);
  void tell_end();
  io::Task<Result<>> bring_home();
  io::Task<Result<>> back_off();
  io::Task<Result<>> skip_run();
  Result<> save_once();
  io::Task<Result<>> save();
  io::Task<Result<>> await_running();
  io::Task<Result<>> end_run(unsigned grace_seconds);
  io::Task<Result<>> signal_run(int signo);
  io::Task<Result<>> end_run_now();
  io::Task<Result<bool>> enter_run(std::unique_ptr<HeldRun> kept, bool fresh);
  io::Task<Result<>> leave_run(api::Exit exit);

  SupervisorHost& host_;
  Definition definition_;
  LogOptions log_;
  std::optional<SupervisedRun> run_;
  std::unique_ptr<Output> output_;  ///< while there is a run
  sys::Fd console_;                 ///< our end of the socket that init sends its terminal to, during a creation
  io::Event begun_;                 ///< the first run has begun or could not
  io::Event running_;               ///< a run is in progress, or nothing will ever be
  io::Event idle_;                  ///< the run that was in progress is over, and its end on record
  io::Event ended_;                 ///< nothing is due any more
  io::Event settled_;               ///< live() is over
  io::Event nudge_;                 ///< somebody wants a back-off, or a start that hangs, to end
  io::Event removal_over_;
  std::optional<Error> first_error_;
  bool found_log_ = false, log_prepared_ = false;
  std::optional<LogPlace> log_place_;  ///< of one that names_its_log(), as last seen
  bool being_removed_ = false, removed_ = false;
  bool output_dropped_ = false;
  bool flushed_ = false;  ///< nothing has been saved since the last flush; a former supervisor may not have come to it
  uint64_t saves_ = 0;
  bool unrecorded_ = false;  ///< it is being removed, and its definition cannot be written
};

}  // namespace gantry
