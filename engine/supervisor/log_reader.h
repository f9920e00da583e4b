// Reads a log back: records across rotated files, oldest first, and those still to come.
#pragma once

#include <sys/stat.h>

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
/// To follow: whenever next() says there is nothing, wait until watch() is readable, call drain_watch(), go on with
/// next(). Nothing is missed and nothing comes twice when the log is rotated meanwhile, by us or by an external
/// logrotate; only who reads more slowly than max_files files are written misses those that are gone.
class LogReader {
 public:
  /// Fails with ENOENT if there is no file of this log. `follow` makes watch() valid.
  static Result<LogReader> open(LogQuery query, bool follow = false);

  /// The next record; nothing: there is none now.
  Result<std::optional<LogRecord>> next();

  /// inotify descriptor, readable when there may be news; invalid when not following.
  const sys::Fd& watch() const { return watch_; }
  void drain_watch() const;

 private:
  struct Source {
    sys::Fd fd;
    FileIdentity identity;
    struct stat about;  ///< when it was opened
  };
  explicit LogReader(LogQuery query);
  Result<std::deque<Source>> open_files(const Source* newer_than) const;
  Result<> start_watch();
  void watch_live();
  Result<> find_tail(uint64_t lines);
  Result<bool> next_source();
  Result<std::optional<std::string_view>> next_line();
  bool wanted(const LogRecord& record) const;

  LogQuery query_;
  LogFile names_;
  std::deque<Source> sources_;  ///< oldest first; the first is being read
  uint64_t offset_ = 0;         ///< in the first source, of the first byte behind buffer_
  std::string buffer_;
  size_t at_ = 0;              ///< what comes before is consumed
  bool saw_rotation_ = false;  ///< the first source is not the live file any more, so its end is its end
  sys::Fd watch_;
  int live_watch_ = -1;
};

/// Appends what the container wrote: the bytes of a piece, nothing for an end or a loss; a foreign line as it stands.
void append_raw(const LogRecord& record, std::string& out);

}  // namespace gantry
