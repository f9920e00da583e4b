// Files and directories of cgroupfs: synchronous, bounded by the kernel, no policy.
//
// A cgroup may vanish at any moment: what then fails gives ENOENT or ENODEV in Error::sys_errno, see cgroup_gone().
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// What the kernel says for a file of a cgroup that is no more.
inline bool cgroup_gone(int err) {
  return err == ENOENT || err == ENODEV;
}

/// Opens DIR/FILE, never following a link at the end. "open PATH: no such file or directory".
Result<Fd> open_cgroup_file(const std::string& dir, std::string_view file, int flags);

/// Names of the directories in an open directory; links to directories are not among them.
Result<std::vector<std::string>> directory_names(const Fd& dir);

/// One write(2) of the whole value. `failed to write "V": write DIR/FILE: invalid argument`.
Result<> write_cgroup(const std::string& dir, std::string_view file, std::string_view value);

/// The same to an open file whose path is `path` (for the error).
Result<> write_cgroup(const Fd& file, std::string_view path, std::string_view value);

/// The whole file, at most 16 MiB, without the last newline.
Result<std::string> read_cgroup(const std::string& dir, std::string_view file);

/// A file of one short value, without the last newline: one read(2) of at most 4 KiB.
Result<std::string> read_cgroup_value(const std::string& dir, std::string_view file);

/// All of a file below an open directory.
Result<std::string> read_cgroup_at(const Fd& dir, const char* file);

/// The value behind `key` in a file of "KEY VALUE" lines (cgroup.events, memory.oom_control); empty when absent. Pure.
std::string_view find_key(std::string_view text, std::string_view key);

/// Calls `leaving` for every cgroup from `top` downwards, children before parents, with the open directory. With
/// `prune` the children (not `top`) are removed when left, as far as the kernel allows. Needs no stack and no fd per
/// level, because a container may nest its cgroups as deep as it likes. What vanishes on the way is passed over.
Result<> walk_cgroups(const std::string& top, bool prune, const std::function<Result<>(const Fd& dir)>& leaving);

/// Processes of the tree at `top`, ascending, each once; of threaded cgroups the threads. Without those of outer pid
/// namespaces.
Result<std::vector<pid_t>> cgroup_pids(const std::string& top);

/// Removes the children of `top`, then `top`. EBUSY when something still lives there; a missing one is fine.
Result<> remove_cgroup(const std::string& top);

}  // namespace gantry::sys
