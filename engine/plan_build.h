// Compiles a checked Spec into the Plan that gantry-init executes (sys/init/plan.h). Pure: what the builder may know of
// the world stands in the context structures, so that Plans are golden-tested without root (docs/plan.md).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/spec.h"
#include "sys/init/plan.h"
#include "sys/result.h"

namespace gantry {

/// Which fds the launcher is started with, as slots (fd number = init::kFirstSlot + slot); init::kNoSlot = absent.
struct PlanSlots {
  int exec_fifo = init::kNoSlot;
  int status_fifo = init::kNoSlot;
  int console_socket = init::kNoSlot;
  int pidfd_socket = init::kNoSlot;
  int first_preserved = init::kNoSlot;  ///< LISTEN_FDS ones, then those of --preserve-fds: 3, 4, ... for the program
  int preserved_count = 0;
  int cgroup_dir = init::kNoSlot;    ///< v2 directory for CLONE_INTO_CGROUP
  int target_pidfd = init::kNoSlot;  ///< init of the container to enter
  int count = 0;                     ///< of all slots
};

enum class PlanCgroups : uint8_t {
  kNone,  ///< no cgroup is joined
  kV1,    ///< also hybrid: `tasks` fds arrive by Tag::kCgroup
  kV2,
};

/// A v1 hierarchy of the host, for MT-15.
struct V1Hierarchy {
  std::string mountpoint;      ///< "/sys/fs/cgroup/cpu,cpuacct"
  std::string options;         ///< what a mount of it names: "cpu,cpuacct" or "name=systemd"
  std::string container_path;  ///< the container's cgroup below it: "/gantry-test/x"
};

/// The compiled filter. `bpf` is an array of struct sock_filter and must live until the builder returns.
struct PlanSeccomp {
  std::string_view bpf;   ///< empty: no filter
  uint32_t flags = 0;     ///< SECCOMP_FILTER_FLAG_*
  bool listener = false;  ///< a rule notifies: NEW_LISTENER is added to the flags
};

/// Everything else that the pure builder may know about the world, for containers and exec.
struct PlanContext {
  std::string id;
  std::string bundle;  ///< absolute: relative bind sources are below it
  std::string rootfs;  ///< absolute, resolved
  bool no_pivot = false;
  bool no_new_keyring = false;
  bool runtime_hooks_point = true;  ///< init waits before the pivot, for limits, net devices and hooks
  bool setgroups_denied = false;    ///< the user namespace forbids setgroups(2)

  PlanCgroups cgroup_mode = PlanCgroups::kNone;
  bool cgroup_by_write = false;  ///< slots.cgroup_dir is not to be cloned into (kHeaderCgroupByWrite)
  bool join_early = false;       ///< the launcher joins, before the clone (kHeaderJoinEarly)
  /// The launcher joins by itself, before the clone, by writing to these; instead of what cgroup_mode and join_early
  /// say.
  std::optional<std::vector<std::string>> join_files;
  bool commit_ahead = false;  ///< exec: Commit is sent before Born (kHeaderCommitAhead)
  std::vector<V1Hierarchy> v1;
  /// The container's cgroup as a directory of the host, bound where cgroup2 cannot be mounted (MT-16).
  std::string v2_container_path;
  /// What the host's cgroup2 is mounted with: a mount from the host's cgroup namespace sets the options of the whole
  /// file system anew, so these are repeated.
  std::vector<std::string> v2_options;

  PlanSlots slots;
  PlanSeccomp seccomp;
  std::vector<std::string> extra_env;  ///< LISTEN_FDS=1, LISTEN_PID=1, NOTIFY_SOCKET=...: they win over the config's
  std::string notify_dir;              ///< host directory that appears at /run/notify (EN-05), or empty
  std::string start_container_state;   ///< JSON for the stdin of startContainer hooks
};

/// A container's init: LC-03 up to the exec of the program. A Spec without process gives a Plan that ends waiting for
/// `start` (LC-09). Errors name the field; they are what check_spec() cannot see.
Result<std::string> build_container_plan(const Spec& spec, const PlanContext& context);

/// A process in the running container that `container` describes (EX-*, IO-02).
Result<std::string> build_exec_plan(const Spec& container, const Process& process, const PlanContext& context);

/// What a hook's Plan needs to know.
struct HookContext {
  std::string label;                     ///< for errors: "hooks.createRuntime[0] /bin/x"
  std::string cwd;                       ///< absolute; empty: the caller's (poststop of delete)
  std::vector<std::string> default_env;  ///< when the hook has no env of its own (HK-10)
  int target_slot = init::kNoSlot;       ///< createContainer: pidfd of init, whose namespaces it enters
  uint64_t target_flags = 0;             ///< CLONE_NEW*, see container_namespaces()
  int slot_count = 0;
};

/// One hook in the host's namespaces, or, with a target, in those of the container (createContainer, before the pivot).
/// stdin, stdout and stderr are 0-2.
Result<std::string> build_hook_plan(const Hook& hook, const HookContext& context);

/// CLONE_NEW* of all namespaces that a container of this Spec has for itself: what exec and createContainer hooks
/// enter.
uint64_t container_namespaces(const Spec& spec);

/// The environment as the program sees it: of equal names the last one wins and keeps its place; an entry without '=',
/// with an empty name or with a NUL is an error (PR-04).
Result<std::vector<std::string>> effective_env(const std::vector<std::string>& env,
                                               const std::vector<std::string>& extra);

}  // namespace gantry
