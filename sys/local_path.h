// Paths that somebody gave us and that may lead to a file system whose server does not answer.
#pragma once

#include <string>

#include "sys/result.h"

namespace gantry::sys {

/// Whether the file system type (as mountinfo names it) waits for a server or a user space process: NFS, FUSE, ...
bool may_hang(const std::string& fs_type);

/// Walks `path` (absolute) up to its end or to the first missing component, through symlinks, without asking any file
/// system that may_hang() for anything. ENOTSUP: "DIRECTORY is on fuse.sshfs, which may not answer"; other errors are
/// those of the walk. A mount made meanwhile is not seen.
Result<> check_answers(const std::string& path);

}  // namespace gantry::sys
