// Starting one process through gantry-init: spawn, dialogue, undo. Shared by create, exec and createContainer hooks.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "engine/dialogue.h"
#include "engine/spawner.h"
#include "engine/verbs.h"
#include "sys/init/plan.h"

namespace gantry {

/// What happens between clone and Commit. Every handler runs once per message, in the order of sync_protocol.h.
class LaunchHandler {
 public:
  virtual ~LaunchHandler() = default;
  /// The launcher runs and clones; the time to make cgroups and send kCgroup. `in_cgroup`: it was born in
  /// LaunchRequest::cgroup.
  virtual io::Task<Result<>> spawned(Dialogue& dialogue, bool in_cgroup);
  virtual Result<> born(const sys::Child& process);
  /// True for a Plan with kHeaderCommitAhead: Commit is sent right after spawned(), ready() is not called, and born()
  /// only when the process has gone on.
  virtual bool commits_ahead() const { return false; }
  virtual Result<> write_maps(const sys::Child& process);
  virtual io::Task<Result<>> run_hooks(init::HookPoint point, const sys::Child& process);
  /// Last moment before Commit: what the process must find done when it goes on (state saved, terminal attached).
  virtual io::Task<Result<>> ready(const sys::Child& process);
  /// Commit was sent; `listener` is the fd number announced by kSeccompFd, -1 without one.
  virtual io::Task<Result<>> committed(const sys::Child& process, int listener);
};

struct LaunchRequest {
  std::string plan;
  std::array<int, 3> stdio{0, 1, 2};  ///< borrowed
  std::vector<int> slots;             ///< borrowed; slot N of the Plan
  int cgroup = -1;                    ///< borrowed; cgroup2 directory in which the launcher is born
  bool cgroup_required = false;       ///< see sys::SpawnFds
};

/// Runs the whole dialogue. On success the process waits for start (create) or runs (exec). On failure it is killed and
/// reaped; what the handlers made is theirs to undo.
io::Task<Result<sys::Child>> launch(Env& env, LaunchRequest request, LaunchHandler& handler);

/// A sealed memfd with `bytes`, position 0.
Result<sys::Fd> memfd_with(const char* name, std::string_view bytes);

}  // namespace gantry
