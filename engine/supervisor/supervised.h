// One supervised container: its runs, one after the other, and what people ask of it meanwhile.
//
// A run goes: pipes, create (the keeper holds everything before Commit), start, copying, the end, the exit on record,
// the next run or none. After each step a successor of this process finds out from the keeper's table, the definition
// and the container's state directory where to go on; nothing is done twice and nothing is left out.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/creation.h"
#include "engine/supervisor/definition.h"
#include "engine/supervisor/host.h"
#include "io/event.h"
#include "io/scope.h"

namespace gantry {

class Supervised final : CreateGuard {
 public:
  /// `host` must outlive it, and the task of live() must have ended before it dies.
  Supervised(SupervisorHost& host, Definition definition);
  ~Supervised();

  const Definition& definition() const { return definition_; }
  pid_t pid() const { return run_ ? run_->pid : 0; }
  std::string log_path() const;

  /// Runs until nothing is due any more. `kept`: what the keeper holds for the run in progress, after a restart of the
  /// supervisor. Cancelled: leaves everything as it is.
  io::Task<> live(std::optional<HeldRun> kept);

  /// Waits until the first run has begun, or could not: the error of `up`.
  io::Task<Result<pid_t>> first_start();
  /// Waits for the end of live().
  io::Task<Result<>> wait_ended();
  bool has_ended() const { return ended_.is_set(); }

  /// Nothing is to be started again. Wakes a back-off.
  Result<> mark_stopped();
  /// mark_stopped, the stop signal, and SIGKILL when it has not ended after `grace_seconds`.
  io::Task<Result<>> stop(unsigned grace_seconds);
  /// mark_stopped and SIGKILL for all of it.
  io::Task<Result<>> kill_now();

  /// Opens the log anew.
  Result<> reopen_log();

 private:
  /// What belongs to one run.
  struct Run {
    uint32_t slot = 0;
    pid_t pid = 0;
    bool foreign = false;  ///< not a child of the keeper: only its pidfd tells of its end
    sys::Fd pidfd;
    sys::Fd out, err;  ///< where its output comes from; a terminal has only `out`
    std::unique_ptr<io::Scope> streams;
  };
  struct Ended {
    api::Exit exit;
    bool restart = false;
  };

  io::Task<Result<>> begin_run();
  io::Task<Result<>> create_and_start();
  io::Task<Result<>> start_created(Created& created);
  io::Task<Result<>> resume_run(HeldRun kept);
  io::Task<Result<bool>> was_started();
  io::Task<Result<>> clear_remains();
  io::Task<Result<>> secure(const sys::Child& init) override;
  io::Task<> abandon_run();
  io::Task<api::Exit> await_exit();
  io::Task<> drain();
  io::Task<> finish_run(api::Exit exit);
  io::Task<bool> back_off();
  bool restart_due(const api::Exit& exit) const;
  void start_streams();
  void save();

  SupervisorHost& host_;
  Definition definition_;
  std::optional<Run> run_;
  std::optional<HeldExit> kept_exit_;
  sys::Fd console_;  ///< our end of the socket that init sends its terminal to, during a creation
  io::Event begun_, ended_, nudge_;
  std::optional<Error> first_error_;
};

}  // namespace gantry
