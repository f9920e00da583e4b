// Paths that somebody gave us and that may lead to a file system whose server does not answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "sys/result.h"

namespace gantry::sys {

/// Whether the file system type (as mountinfo names it) waits for a server or a user space process: NFS, FUSE, ...
bool may_hang(const std::string& fs_type);

/// Where a path enters such a file system.
struct SlowPlace {
  std::string where;    ///< the directory
  std::string fs_type;  ///< as mountinfo names it
  uint32_t major = 0;   ///< of the file system's device
  uint32_t minor = 0;
};

/// Walks `path` (absolute) up to its end or to the first missing component, through symlinks, without asking any file
/// system that may_hang() for anything. The first one on the way, if any; errors are those of the walk. A
/// mount made meanwhile is not seen.
Result<std::optional<SlowPlace>> find_slow_place(const std::string& path);

/// The same as an error. ENOTSUP: "DIRECTORY is on fuse.sshfs, which may not answer".
Result<> check_answers(const std::string& path);

}  // namespace gantry::sys
