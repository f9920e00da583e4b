// The engine's public face: one function per verb. Callers (cli, later the supervisor) never know who forks.
//
// Every verb is a task on the loop of `env`; errors carry runc's texts without the "runc create failed: " prefix, which
// the cli adds (CL-11). Each verb lives in engine/<verb>.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/container.h"
#include "engine/log.h"  // log_warning, log_debug: what verbs report besides their result
#include "engine/spec.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

namespace io {
class Loop;
}
class StateStore;
class Spawner;
class ExitSource;
struct PoststopHooks;

/// What a verb needs from its driver; passed, never global.
struct Env {
  io::Loop& loop;
  StateStore& store;
  Spawner& spawner;
  ExitSource& exits;
  std::string program = "gantry";     ///< argv[0]'s base name, for texts and default names
  unsigned inherited_fds = 0;         ///< how many of 3, 4, ... were open when the process started, without a gap
  PoststopHooks* poststop = nullptr;  ///< hooks.h; none: the process ends when its verb does
};

struct CreateOptions {
  std::string id;
  std::string bundle;                                  ///< directory; empty = current directory
  std::string console_socket, pidfd_socket, pid_file;  ///< absolute or relative to the caller's directory; empty = none
  bool no_pivot = false;
  bool no_new_keyring = false;
  unsigned preserve_fds = 0;
};

/// CR-*: makes the container and leaves init waiting for start.
io::Task<Result<>> create(Env& env, CreateOptions options);

/// ST-*: lets a created container run. Failures of startContainer hooks and of exec itself are reported here.
io::Task<Result<>> start(Env& env, std::string id);

struct RunOptions {
  CreateOptions create;
  bool detach = false;
  bool keep = false;
  bool no_subreaper = false;
};

/// RN-*: create, start, relay, forward signals, wait, delete. The value is the exit status for the shell (0 when
/// detached).
io::Task<Result<int>> run(Env& env, RunOptions options);

struct ExecOptions {
  std::string id;
  std::vector<std::string> args;  ///< empty with process_file
  std::string process_file;       ///< -p; replaces everything else
  std::optional<std::string> cwd;
  std::vector<std::string> env;  ///< appended
  bool tty = false;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::vector<gid_t> additional_gids;
  bool detach = false;
  std::string pid_file, console_socket, pidfd_socket;
  std::string process_label, apparmor;
  std::optional<bool> no_new_privs;  ///< absent: as the container
  std::vector<std::string> caps;
  unsigned preserve_fds = 0;
  std::vector<std::string> cgroups;  ///< --cgroup arguments as given (EX-17)
  bool ignore_paused = false;
};

/// EX-*: runs a process in a container. The value is its exit status (0 when detached).
io::Task<Result<int>> exec(Env& env, ExecOptions options);

/// KD-01..06. `all`: every process of the cgroup, and no error when it is not running.
io::Task<Result<>> kill(Env& env, std::string id, int signo, bool all);

/// KD-07..10, KD-15. `force`: kill first; an unknown id is fine.
io::Task<Result<>> remove(Env& env, std::string id, bool force);

io::Task<Result<>> pause(Env& env, std::string id);   ///< KD-12
io::Task<Result<>> resume(Env& env, std::string id);  ///< KD-13

/// UP-*: what podman and docker call. Only the given resources change.
io::Task<Result<>> update(Env& env, std::string id, Resources resources);

/// SL-01..03: record and live status. "container does not exist" for an unknown id.
Result<ContainerView> state(Env& env, const std::string& id);

/// SL-05..07: every container below the root; unreadable ones are reported through `problems` ("load container X:
/// ..."). A missing default root is an empty list; a missing explicit one an error.
Result<std::vector<ContainerView>> list(Env& env, std::vector<std::string>& problems);

/// SL-09: host pids of the container's whole cgroup tree, ascending. Empty when stopped.
Result<std::vector<pid_t>> ps(Env& env, const std::string& id);

/// CL-16: "" = fine, else the text of the refusal.
std::string check_id(std::string_view id);

}  // namespace gantry
