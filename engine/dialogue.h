// The engine's end of the sync dialogue with one launcher and its init.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/sync_protocol.h"
#include "io/loop.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/launch.h"
#include "sys/result.h"

namespace gantry {

/// One legal message from the child, or the end of the dialogue after Commit.
struct SyncEvent {
  SyncAction action = SyncAction::kWarn;
  bool finished = false;  ///< EOF after Commit: nothing else is set
  uint64_t arg = 0;
  std::vector<sys::Fd> fds;
};

/// Sends and receives frames, keeps the state, turns the child's errors into text.
class Dialogue {
 public:
  /// Makes the socket pair. `plan` is kept to name steps in errors.
  static Result<Dialogue> open(std::string plan);

  const std::string& plan() const { return plan_; }
  int child_end() const { return child_.get(); }
  /// To be called once the child has its copy: only then a dead child is seen as EOF.
  void close_child_end() { child_.reset(); }
  /// Makes launcher and init exit if Commit was not sent.
  void hang_up() { ours_.reset(); }

  /// Nothing more is expected: next() gives what has arrived, then the end. For when the child is known to be dead
  /// while somebody else still holds its end of the socket.
  void end_input();

  SyncState state() const { return state_; }

  /// Waits until nobody holds the child's end any more, whatever has arrived meanwhile: next() does not wait then.
  io::Task<Result<>> ended(io::Loop& loop, io::Deadline deadline);

  /// The next message that wants something done; warnings are logged on the way. An error frame, an illegal frame and
  /// EOF before Commit are errors with the step's label in front; EOF has ECONNRESET.
  io::Task<Result<SyncEvent>> next(io::Loop& loop, io::Deadline deadline);

  /// For a dialogue that has failed: the process that the launcher has announced and nobody has heard of, if there is
  /// one. Does not wait.
  io::Task<std::optional<sys::Child>> unheard_birth(io::Loop& loop);

  /// Sends a frame without a step. `fds` are borrowed until the task is done.
  io::Task<Result<>> send(io::Loop& loop, init::Tag tag, uint64_t arg = 0, std::vector<int> fds = {});

 private:
  Dialogue(std::string plan, sys::Fd ours, sys::Fd child)
      : plan_(std::move(plan)), ours_(std::move(ours)), child_(std::move(child)) {}
  Result<SyncEvent> judge(const init::Frame& frame);
  std::string describe(const init::Frame& frame) const;

  std::string plan_;
  sys::Fd ours_, child_;
  SyncState state_ = SyncState::kSpawned;
  bool unread_ = false;  ///< the child died with a frame of ours unread
};

}  // namespace gantry
