// Reads a log back: records across rotated files, oldest first, and those still to come.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "engine/supervisor/log_file.h"
#include "engine/supervisor/log_record.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

struct LogQuery {
  std::string path;
  unsigned max_files = 4;
  std::optional<uint64_t> tail;  ///< at most so many lines at the end (an unfinished one counts), of the streams chosen
  std::optional<LogTime> since;  ///< records of this moment or later
  bool streams[2] = {true, true};
};

/// Iterates over the records of a log, while it may be written to and rotated. One thread.
///
///   GANTRY_LET(LogReader reader, LogReader::open(query));
///   for (;;) { GANTRY_LET(std::optional<LogRecord> record, reader.next()); if (!record) ...; }
///
/// To follow: start_watch() before the first next(); whenever next() says there is nothing, wait until watch() is
/// readable, call drain_watch(), go on with next(). Nothing is missed and nothing comes twice when the log is rotated
/// meanwhile, by us or by an external logrotate.
class LogReader {
 public:
  /// Fails if there is no file of this log (ENOENT), unless a watch is wanted: then the first may still come.
  static Result<LogReader> open(LogQuery query, bool follow = false);

  /// The next record; nothing: there is none now.
  Result<std::optional<LogRecord>> next();

  /// inotify descriptor, readable when there may be news; invalid when not following.
  const sys::Fd& watch() const { return watch_; }
  void drain_watch();

 private:
  struct Source {
    sys::Fd fd;
    FileIdentity identity;
  };
  explicit LogReader(LogQuery query);
  Result<> open_files();
  Result<> find_tail();
  Result<bool> count_back(size_t index, uint64_t& wanted);
  Result<bool> next_source();
  Result<std::optional<std::string_view>> next_line();
  bool wanted(const LogRecord& record) const;
  void rewind_if_cut();

  LogQuery query_;
  LogFile names_;
  std::deque<Source> sources_;  ///< the first is being read
  uint64_t offset_ = 0;         ///< of the first byte behind buffer_
  std::string buffer_;
  size_t at_ = 0;
  bool skipping_ = false;  ///< in the middle of a line too long to be a record
  sys::Fd watch_;
};

/// Appends what the container wrote: the bytes of a piece, nothing for other kinds but foreign lines.
void append_raw(const LogRecord& record, std::string& out);

}  // namespace gantry
