// Making a container: everything between the bundle and an init that waits for start. Shared by create and run.
#pragma once

#include <optional>

#include "engine/cgroup.h"
#include "engine/launch.h"
#include "engine/spec.h"
#include "engine/state_store.h"
#include "engine/terminal.h"

namespace gantry {

struct CreateRequest {
  CreateOptions options;
  /// Foreground: where the caller's terminal is opened if the process wants one. nullptr: options.console_socket.
  std::optional<ForegroundTerminal>* terminal = nullptr;
};

/// A container that exists and waits for start; its directory's lock is held.
struct Created {
  StateDir dir;
  ContainerRecord record;
  Spec spec;
  sys::Child init;
};

/// CR-*. On failure everything is undone in reverse (CR-12).
io::Task<Result<Created>> create_container(Env& env, CreateRequest request);

/// Connects to a receiver of the caller's: "dial unix PATH: connect: no such file or directory".
io::Task<Result<sys::Fd>> dial(io::Loop& loop, std::string path);

/// "container host size" lines for uid_map and gid_map.
std::string id_map_lines(const std::vector<IdMapping>& mappings);

/// Raises hard limits for a process that is about to lose the right to do so in a user namespace; it sets the exact
/// values itself (Op::kRlimit). What cannot be raised is reported there, with the field's name.
void raise_hard_limits(const std::vector<Rlimit>& rlimits, pid_t pid);

}  // namespace gantry
