// A bundle: the directory a caller hands over, with its config.json read once.
#pragma once

#include <string>
#include <string_view>

#include "engine/spec.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

struct Bundle {
  std::string path;          ///< absolute, without symlinks
  sys::Fd dir;               ///< the directory, O_PATH
  Spec spec;                 ///< parsed, not yet judged (check_spec)
  std::string config_bytes;  ///< config.json as read
};

/// Opens `dir` ("" is the working directory) and reads its config.json through one descriptor, so that all we use comes
/// from one version of the file. Only regular files up to json::kMaxBytes are read, and nothing blocks on a FIFO.
/// Errors have runc's texts: "chdir DIR: no such file or directory", "JSON specification file config.json not found".
Result<Bundle> open_bundle(std::string_view dir);

/// root.path of the bundle's config as an absolute path without symlinks. "root.path PATH: no such file or directory".
Result<std::string> resolve_rootfs(const Bundle& bundle);

/// Reads a whole regular file of at most json::kMaxBytes, never blocking on a FIFO or a device. `dir_fd` as for
/// openat(2); `name` stands in errors ("open NAME: no such file or directory", with the errno).
Result<std::string> read_json_file(int dir_fd, const char* path, std::string_view name);

}  // namespace gantry
