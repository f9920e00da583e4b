// A container's control groups: where they are, making, limiting, joining, freezing, killing and removing them.
//
// Works on v1, hybrid (v1 controllers plus a cgroup2 tree at <root>/unified) and v2 hosts with plain files; the systemd
// driver is not here. A container's cgroups are its *leaf* directories, one per hierarchy; everything below them is the
// container's own business and goes with them.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/container.h"
#include "engine/spec.h"
#include "io/deadline.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

namespace io {
class Loop;
}
class CgroupV2;
struct CgroupChange;

enum class CgroupMode : uint8_t { kV1, kHybrid, kV2 };

/// "v1", "hybrid", "v2": as the state file stores it.
const char* cgroup_mode_name(CgroupMode mode);
Result<CgroupMode> parse_cgroup_mode(std::string_view name);

/// Where a container's cgroups are: saved in state.json before the directories are made, and never recomputed (CG-06).
struct CgroupPaths {
  CgroupMode mode = CgroupMode::kV2;
  /// Controller ("cpu", "name=systemd"; "" = the cgroup2 tree) and absolute directory. Controllers mounted together
  /// have an entry each with the same directory.
  std::vector<std::pair<std::string, std::string>> dirs;
};

/// One mounted hierarchy.
struct CgroupHierarchy {
  std::vector<std::string> controllers;  ///< {"cpu", "cpuacct"}, {"name=systemd"}; empty = cgroup2
  std::string mountpoint;                ///< "/sys/fs/cgroup/cpu,cpuacct"
  std::string own_path;                  ///< a process' cgroup, when it comes from /proc/PID/cgroup
};

/// What the host offers.
struct CgroupHost {
  CgroupMode mode = CgroupMode::kV2;
  std::string root = "/sys/fs/cgroup";
  std::vector<CgroupHierarchy> hierarchies;
  const CgroupHierarchy* unified() const;  ///< the cgroup2 one, or nullptr
};

/// CG-01. Hierarchies are known by the names of their mountpoints; only where one has an unusual name are
/// /proc/self/cgroup and mountinfo read.
Result<CgroupHost> probe_cgroup_host(const std::string& root = "/sys/fs/cgroup");

/// The hierarchies named by the text of /proc/PID/cgroup; malformed lines are errors. Mountpoints are the usual names
/// below `root`. Pure.
Result<std::vector<CgroupHierarchy>> parse_proc_cgroup(std::string_view text, const std::string& root);

/// CG-02, CG-03. `cgroups_path` is linux.cgroupsPath: absolute = below each mountpoint; relative or empty (then the id)
/// = below the caller's own cgroup, which may need /proc/self/mountinfo. The root of a hierarchy is refused. Touches
/// nothing.
Result<CgroupPaths> resolve_cgroup(const CgroupHost& host, std::string_view cgroups_path, std::string_view id);

/// One --cgroup argument of exec: existing cgroups below the container's (EX-17).
struct SubCgroup {
  std::vector<std::string> controllers;  ///< empty: all hierarchies
  std::string path;                      ///< relative, cleaned, without ".."
};

/// EX-17: `[CTRL[,CTRL]:]PATH`, with runc's error texts. Pure.
Result<std::vector<SubCgroup>> parse_sub_cgroups(CgroupMode mode, const std::vector<std::string>& arguments);

/// The cgroups of one container. Movable; destroying it leaves the cgroups alone. All sync functions are bounded by the
/// kernel. A cgroup that has vanished is "empty", "not frozen" and "removed", never an error.
class Cgroup {
 public:
  /// begin() and complete() in one.
  static Result<Cgroup> create(const CgroupHost& host, const CgroupPaths& paths);

  /// Makes the cgroup2 leaf, if there is such a tree (all there is on v2), so that unified_dir() can be handed to the
  /// launcher while complete() makes the rest. An existing leaf must be empty and thawed (CR-13); it is reused.
  /// On failure what was made is removed again, also by complete(), and what others own is forgotten: kill_all() and
  /// remove() then do not reach it (LC-06).
  static Result<Cgroup> begin(const CgroupHost& host, const CgroupPaths& paths);

  /// Makes the other leaf directories and missing parents. cpuset parents are initialised; on v2 the controllers are
  /// enabled down the path (RS-26).
  Result<> complete(const CgroupHost& host);

  /// For an existing container. Touches nothing; refuses paths that cannot be a container's (a hierarchy's root, "..").
  static Result<Cgroup> open(const CgroupPaths& paths);

  /// What begin() (`unified`) or complete() has made or found empty: to be written down before anything joins it.
  Result<std::vector<CgroupClaim>> claims(bool unified) const;

  /// After open(), for a creation that did not end well: directories that are not among `claims` may be somebody
  /// else's. From here on remove() takes them only if they are empty, and nothing else here reaches them.
  void forget_unclaimed(const std::vector<CgroupClaim>& claims);

  const CgroupPaths& paths() const { return paths_; }
  CgroupMode mode() const { return paths_.mode; }

  /// All of RS-* on a cgroup just made, before anything joins it; includes the device rules with the runtime's
  /// additions. Ignored settings are named in `warnings`.
  Result<> apply(const Resources& resources, std::vector<std::string>& warnings);

  /// UP-06: only what is given changes; device rules are never touched. Not rolled back on failure.
  Result<> update(const Resources& resources, std::vector<std::string>& warnings);

  /// What a process writes "0" to, single-threaded, to become a member: `tasks` of every v1 hierarchy, O_WRONLY.
  /// `with_unified` adds cgroup2's `cgroup.procs`: only as a fall-back, because that write waits for an RCU grace
  /// period (0.6 to 3 ms), which CLONE_INTO_CGROUP does not. On v2 it is the only one and always there. `subs`: see
  /// parse_sub_cgroups. `init`, for exec: where a cgroup2 leaf takes no processes because init moved itself below it
  /// and gave controllers to its children, it is the cgroup in which init is now (EX-23); 0 = none.
  Result<std::vector<sys::Fd>> join_fds(const std::vector<SubCgroup>& subs = {}, bool with_unified = false,
                                        pid_t init = 0) const;

  /// The same files of v1 as absolute paths, for a launcher that opens them itself.
  std::vector<std::string> task_files() const;

  /// The cgroup2 directory for CLONE_INTO_CGROUP (O_PATH), on v2 and on hybrid hosts. Invalid on v1.
  Result<sys::Fd> unified_dir(const std::vector<SubCgroup>& subs = {}) const;

  /// The cgroup2 directory was made by begin(). One that was there before may have seen a cgroup.kill, and what is
  /// cloned into such a one dies at once (Linux 6.18): it has to be joined by a write.
  bool unified_is_fresh() const;

  /// CG-07, v2: gives the directory and the delegatable files to `uid` (a host uid).
  Result<> delegate(uid_t uid) const;

  /// KD-12: waits until all is frozen; when that does not happen by the deadline it thaws again and fails.
  io::Task<Result<>> freeze(io::Loop& loop, io::Deadline deadline);
  /// KD-13.
  io::Task<Result<>> thaw(io::Loop& loop, io::Deadline deadline);
  /// Frozen by itself, not only through an ancestor. False without a freezer.
  Result<bool> frozen() const;

  /// Process ids of the whole tree, ascending, as seen from this pid namespace.
  Result<std::vector<pid_t>> pids_recursive() const;

  /// True when no process is left anywhere in the tree.
  Result<bool> empty() const;

  /// RS-28, KD-05, KD-06: signals every process of the tree. SIGKILL: until none is left; frozen ones are thawed (the
  /// whole subtree), and what was frozen here is always thawed.
  io::Task<Result<>> kill_all(io::Loop& loop, int signo, io::Deadline deadline);

  /// CG-08: removes the leaves and all below them; waits with growing pauses while they are busy and names who is left
  /// in them at the deadline.
  io::Task<Result<>> remove(io::Loop& loop, io::Deadline deadline);

  /// For undoing create() in the same process, before kill_all() and remove(): leaves that were there before create()
  /// are not removed (KD-15).
  void keep_reused() { keep_reused_ = true; }

  /// For undoing create() in the same process: parents that create() made and that are empty (KD-15). Best effort.
  void remove_made_parents();

  /// Why a clone found no room for `wanted` more processes: "pids.max is 2 and pids.current 1". Empty when the limit is
  /// not what stood in the way.
  std::string crowding(uint64_t wanted) const;

  /// How often the kernel's OOM killer struck here (CR-14); 0 when unknown.
  uint64_t oom_kills() const;

 private:
  /// One hierarchy's leaf.
  struct Dir {
    std::vector<std::string> controllers;  ///< {""} for cgroup2
    std::string path;
    bool fresh = false;  ///< made by create()
    bool unified() const { return controllers.front().empty(); }
    bool has(std::string_view controller) const;
  };

  Cgroup() = default;
  const Dir* find(std::string_view controller) const;
  const Dir* unified() const { return find(""); }
  const Dir& process_dir() const;
  Result<> make_leaves(const CgroupHost& host, bool unified);
  Result<> make_leaf(const CgroupHost& host, Dir& dir);
  Result<> make_parents(const CgroupHierarchy& hierarchy, const std::string& leaf);
  Result<> check_fitness(bool unified) const;
  void undo_create();
  void forget_reused(bool unified);
  Result<sys::Fd> unified_procs(const Dir& dir, pid_t init) const;
  Result<sys::Fd> open_sub(const Dir& dir, const std::vector<SubCgroup>& subs, const char* file, int flags) const;
  Result<> change(const CgroupChange& change);
  Result<CgroupV2> unified_tree(const CgroupChange& change, const char* what);
  class ThawGuard;
  const Dir* freezer() const;
  Result<> set_frozen(const Dir& dir, bool on) const;
  static io::Task<Result<>> settle_v1(io::Loop& loop, const std::string& dir, bool on, io::Deadline deadline);
  io::Task<Result<>> signal_frozen(io::Loop& loop, int signo, io::Deadline deadline);

  CgroupPaths paths_;
  std::vector<Dir> dirs_;
  std::vector<std::string> unclaimed_;
  std::vector<std::string> made_parents_;
  bool keep_reused_ = false;
  std::string unified_mount_;           ///< known after create()
  std::vector<std::string> available_;  ///< cgroup2 controllers usable in the leaf
};

/// v2 and hybrid: the directory of the cgroup2 in which a process is now; exec falls back to it when the container's
/// own is gone.
Result<std::string> cgroup2_path_of(pid_t pid, CgroupMode mode);
Result<sys::Fd> cgroup2_dir_of(pid_t pid, CgroupMode mode = CgroupMode::kV2);

/// CG-07: the host uid that gets the container's cgroup: there is a cgroup namespace of its own and a writable cgroup
/// mount. Nothing otherwise. Pure.
std::optional<uid_t> cgroup_owner(const Spec& spec);

}  // namespace gantry
