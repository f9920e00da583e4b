// The log file of one container: opened carefully, rotated, found again.
#pragma once

#include <string>

#include "engine/supervisor/copy_calls.h"
#include "engine/supervisor/log_options.h"
#include "engine/supervisor/log_place.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

/// Opens PATH when it is first needed and can be told to let go of it at any time between two steps of the copier: who
/// has 10,000 quiet containers does not want 10,000 descriptors. One process, one thread.
class LogFile {
 public:
  explicit LogFile(LogOptions options, CopyCalls& calls = CopyCalls::real());

  const LogOptions& options() const { return options_; }
  const std::string& path() const { return options_.path; }

  /// Makes missing directories (0750) and opens or creates the file (0640), so that errors come when a person can read
  /// them. Refuses what is no regular file, and a symlink at the end of the path. Nothing to do for LogDriver::kNone.
  Result<> prepare();

  /// After prepare(), for who must not wait: refuses, by name, network and FUSE file systems, where an append may block
  /// for ever.
  Result<> check_local();

  /// The open file; opens PATH if need be.
  Result<int> descriptor();

  /// Closes; the next write opens PATH, whatever that is by then. This is also "reopen" after an external logrotate.
  void release() { fd_.reset(); }
  bool is_open() const { return fd_.valid(); }

  /// The file `wanted`, under PATH, PATH.1, ... or any other name in the directory (an external logrotate was here).
  /// Invalid when there is none any more.
  Result<sys::Fd> find(FileIdentity wanted);

  /// Name of the rotated file `number`; 0 is PATH.
  std::string name(unsigned number) const;

  /// First number to be shifted by a rotation that starts now: that of the lowest free name, or max_files, which means
  /// to remove the oldest file first.
  Result<unsigned> first_shift();

  /// Shifts file `number - 1` to `number` (1 <= number; PATH itself for 1, and then only if it still is `live`), or
  /// removes it, for max_files. Doing it again does nothing, not even when somebody has made PATH anew meanwhile.
  Result<> shift(unsigned number, FileIdentity live);

  /// Makes PATH anew after shift(1), or for max_files == 1 in the place of what is there.
  Result<> start_new();

  /// Whether there is a file of this log, rotated ones included, or nobody can tell.
  bool has_files() const;

  /// Removes all files of this log; missing ones are fine. Nothing to do for LogDriver::kNone.
  Result<> remove_all();

 private:
  Result<sys::Fd> open_checked(const std::string& path, int more_flags);
  Result<sys::Fd> find_in_directory(FileIdentity wanted);

  LogOptions options_;
  CopyCalls* calls_;
  sys::Fd fd_;
};

}  // namespace gantry
