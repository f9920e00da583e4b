// /proc/PID/mountinfo as data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sys/result.h"

namespace gantry::sys {

/// One line (proc(5)), with the kernel's octal escapes undone.
struct MountEntry {
  uint64_t id = 0;
  uint64_t parent = 0;
  uint32_t major = 0;
  uint32_t minor = 0;
  std::string root;        ///< directory of the file system that is mounted
  std::string mountpoint;  ///< relative to the reader's root
  std::string options;     ///< of this mount
  std::string optional;    ///< "shared:1 master:2", may be empty
  std::string fs_type;
  std::string source;
  std::string super_options;  ///< of the file system: for cgroup v1 the controllers
  bool operator==(const MountEntry&) const = default;
};

/// Lines at most; more is an error, so that a mount storm costs bounded memory.
inline constexpr size_t kMaxMounts = 200'000;

/// Parses the whole file. Total: an error names the line number and what is wrong. A NUL byte is an error, also as an
/// escape: no path of the kernel's has one.
Result<std::vector<MountEntry>> parse_mountinfo(std::string_view text);

/// Whether a comma-separated option list has `option`.
bool has_mount_option(std::string_view options, std::string_view option);

}  // namespace gantry::sys
