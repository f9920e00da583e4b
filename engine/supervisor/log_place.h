// Where a log lies, whatever path leads there: two that meet would rotate away and cut off each other's lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/supervisor/log_options.h"
#include "sys/result.h"

struct stat;

namespace gantry {

/// What tells one file from another, whatever its name is now.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  bool operator==(const FileIdentity&) const = default;
};

FileIdentity identity_of(const struct stat& file);

struct LogPlace {
  FileIdentity directory;  ///< the deepest one on the way that exists
  std::string rest;        ///< from there: the file's name, behind directories that are still to be made
  unsigned max_files = 1;

  /// No directory is missing. Until then somebody may make one, and the same log is found at another place.
  bool is_settled() const { return rest.find('/') == rest.npos; }
};

struct FoundLogPlace {
  LogPlace place;
  std::vector<FileIdentity> above;  ///< place.directory, the one it lies in, and so on up to "/"
};

/// Follows the path (absolute) of a log, through symlinks and bind mounts alike, to its last directory that exists. Who
/// must not wait looks first whether it leads to a file system that may not answer (sys::find_slow_place).
Result<FoundLogPlace> find_log_place(const LogOptions& options);

/// By the words of the path alone, for one that cannot be followed now. Never meets one that was found.
LogPlace log_place_by_name(const LogOptions& options);

enum class LogMeeting : uint8_t {
  kNone,
  kSame,       ///< both write the same file
  kRotatedTo,  ///< the second is rotated to the first
  kRotates,    ///< the first is rotated to the second
};
LogMeeting meeting_of(const LogPlace& first, const LogPlace& second);

}  // namespace gantry
