// The two seams between the verbs and whoever is the parent of processes (design §3).
//
// One-shot: gantry itself clones and reaps. Supervised: a frame to the keeper, and its exit records. Verbs never know.
#pragma once

#include <sys/types.h>

#include "io/loop.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/launch.h"
#include "sys/result.h"

namespace gantry {

/// How a process ended.
struct ExitStatus {
  int code = 0;    ///< exit code, when `signal` is 0
  int signal = 0;  ///< signal that killed it
  /// As a shell reports it: the code, or 128 + signal.
  int shell() const { return signal != 0 ? 128 + signal : code; }
};

/// Starts gantry-init's launch job somewhere.
class Spawner {
 public:
  virtual ~Spawner() = default;
  /// Starts a launcher with these descriptors (borrowed until executed() is done). The process that is init's parent
  /// after CLONE_PARENT is the one that this spawner stands for. May return before gantry-init runs, so that the caller
  /// has something to do meanwhile; what is sent to the launcher waits in its socket.
  virtual io::Task<Result<sys::Child>> spawn(const sys::SpawnFds& fds) = 0;
  /// To be called after each spawn(), with the same descriptors: returns when `launcher` is gantry-init. On an error it
  /// is gone; when cancelled (ECANCELED) it is dying, and still to be waited for.
  virtual io::Task<Result<>> executed(const sys::SpawnFds& fds, sys::Child& launcher);
};

/// Tells how children of a Spawner ended.
class ExitSource {
 public:
  virtual ~ExitSource() = default;
  /// Waits for the end of a process made through the matching Spawner (launcher, init, exec'd process, hook) and takes
  /// its zombie away. Once per process. Heeds cancellation (ECANCELED) and the deadline (ETIMEDOUT).
  virtual io::Task<Result<ExitStatus>> wait(pid_t pid, int pidfd, io::Deadline deadline) = 0;
};

/// gantry itself is the parent: clone3 and waitid(P_PIDFD).
class LocalSpawner final : public Spawner {
 public:
  explicit LocalSpawner(io::Loop& loop) : loop_(loop) {}
  io::Task<Result<sys::Child>> spawn(const sys::SpawnFds& fds) override;
  io::Task<Result<>> executed(const sys::SpawnFds& fds, sys::Child& launcher) override;

 private:
  io::Loop& loop_;
};

class LocalExits final : public ExitSource {
 public:
  explicit LocalExits(io::Loop& loop) : loop_(loop) {}
  io::Task<Result<ExitStatus>> wait(pid_t pid, int pidfd, io::Deadline deadline) override;

 private:
  io::Loop& loop_;
};

}  // namespace gantry
