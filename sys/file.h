// Small files read and written whole: records, procfs, pid files. Never a path inside a container.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// Opens with O_CLOEXEC added. The error reads "open PATH: no such file or directory".
Result<Fd> open_file(const std::string& path, int flags, mode_t mode = 0);

/// The same below a directory.
Result<Fd> open_at(const Fd& dir, const std::string& name, int flags, mode_t mode = 0);

/// Whether `name` in `dir` is still what `fd` has open, and not removed or another file; false when that cannot be
/// told.
bool is_entry(const Fd& dir, const std::string& name, const Fd& fd);

/// The names in a directory but "." and "..", as the kernel gives them; `dir` keeps its position.
Result<std::vector<std::string>> list_names(const Fd& dir);

/// Everything from the file's current position on, at most `limit` bytes; more is the error "larger than N bytes".
Result<std::string> read_all(const Fd& fd, size_t limit);

Result<std::string> read_file(const std::string& path, size_t limit);
Result<std::string> read_file_at(const Fd& dir, const std::string& name, size_t limit);

/// One write(2) of all bytes to an existing file, as procfs and cgroupfs want it. "write PATH: ..."
Result<> write_file(const std::string& path, std::string_view bytes);

/// Writes all bytes, looping over short writes.
Result<> write_all(const Fd& fd, std::string_view bytes);

/// Replaces `name` in `dir` atomically: temp file (O_EXCL), write, rename. Readers see the old or the new file.
/// No fsync: what lives here is on tmpfs or worthless after a power loss (design §5).
Result<> replace_file_at(const Fd& dir, const std::string& name, std::string_view bytes, mode_t mode);

/// CR-04: writes `bytes` to ".NAME" beside `path` (O_EXCL, 0666 & ~umask), then renames.
Result<> write_pid_file(const std::string& path, pid_t pid);

/// `path` made absolute with the current directory; not resolved further. Empty stays empty.
Result<std::string> absolute_path(std::string_view path);

/// Removes a directory tree below `dir` without following symlinks or crossing mounts' names; missing is fine.
Result<> remove_tree_at(const Fd& dir, const std::string& name);

}  // namespace gantry::sys
