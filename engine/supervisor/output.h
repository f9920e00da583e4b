// Where a container's output goes: the seam between the life of a container and whoever writes its log.
#pragma once

#include <cstdint>

#include "engine/supervisor/log_place.h"
#include "io/loop.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

/// The log of one container, and its streams while one run is in progress. Main thread of the supervisor; nothing here
/// waits for a file system but the tasks, and those are bounded.
///
///   for each run: prepare(), copy(); at its end drain(), stop(), finish_lines(), close()
class Output {
 public:
  Output() = default;
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  virtual ~Output() = default;

  /// Where the log lies.
  virtual io::Task<Result<FoundLogPlace>> find_place() = 0;
  /// Removes the files of the log; missing ones are fine. Waits at most until `deadline` (ETIMEDOUT).
  virtual io::Task<Result<>> remove_log(io::Deadline deadline) = 0;

  /// Before a run in `slot`: makes missing directories, opens the log, so that errors come when a person can read them,
  /// and counts the streams from zero. `found`: there were files of this log before, or nobody knows; also after an
  /// error.
  virtual io::Task<Result<>> prepare(uint32_t slot, bool& found) = 0;
  /// Copies from now on. The descriptors (`err` may be invalid) must stay open until close().
  virtual void copy(uint32_t slot, const sys::Fd& out, const sys::Fd& err) = 0;

  /// Brings what has been written until now into the log: false when that does not take it within half a second.
  virtual io::Task<bool> drain() = 0;
  /// Copies no more.
  virtual io::Task<> stop() = 0;
  /// Marks unfinished lines of streams whose end will not be seen: a grandchild still has the pipe. After stop().
  /// False: the log takes nothing now.
  virtual io::Task<bool> finish_lines() = 0;
  /// Forgets the run, with what has not reached the log. After stop().
  virtual void close() = 0;

  /// The next write opens the log anew.
  virtual void reopen() = 0;

  /// KeeperHold::kind for the slot of the run: tells a later supervisor where its output went.
  virtual uint32_t held_kind() const = 0;
};

}  // namespace gantry
