// Making a container: everything between the bundle and an init that waits for start. Shared by create and run.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "engine/cgroup.h"
#include "engine/launch.h"
#include "engine/spec.h"
#include "engine/state_store.h"
#include "engine/terminal.h"

namespace gantry {

/// What a supervisor adds to a creation: whatever it needs comes from here and not from the bundle, which may lie on a
/// file system that does not answer.
struct SupervisedCreation {
  std::string config;        ///< bytes of config.json
  std::string rootfs;        ///< absolute, without symlinks
  std::string cgroups_path;  ///< instead of the config's; empty = as it says
  std::string
      cgroup_parent;  ///< absolute: where the cgroup is unless its path is absolute; empty = as for any container
  std::string netns;  ///< joined instead of what the config says; empty = as it says
  std::array<int, 3> stdio{0, 1, 2};
  int console = -1;  ///< borrowed socket that gets the pty's master, if the process wants a terminal
  std::string supervisor_socket, state_dir;  ///< these three for the record
  uint64_t run = 0;
};

/// Told when init is set up and before it may rely on anything: what the container depends on must now be safe with
/// somebody who outlives us (design §4: "the keeper has acknowledged every fd").
class CreateGuard {
 public:
  /// `terminal`: the master of its pty is in the socket of SupervisedCreation::console.
  virtual io::Task<Result<>> secure(const sys::Child& init, bool terminal) = 0;

 protected:
  ~CreateGuard() = default;
};

struct CreateRequest {
  CreateOptions options;
  /// Foreground: where the caller's terminal is opened if the process wants one. nullptr: options.console_socket.
  std::optional<ForegroundTerminal>* terminal = nullptr;
  std::optional<SupervisedCreation> supervised;
  CreateGuard* guard = nullptr;  ///< borrowed
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

}  // namespace gantry
