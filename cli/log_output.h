// How `logs` shows records: pure, but for the clock that it is given.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/supervisor/log_record.h"
#include "sys/result.h"

namespace gantry::cli {

/// --since: RFC 3339, seconds since 1970, or how long ago as a number with s, m, h or d. `now` in seconds since 1970.
Result<LogTime> parse_since(std::string_view text, int64_t now);

/// Turns the records of one container into what is written to stdout and stderr. Without decoration these are the very
/// bytes that the container wrote.
class LogPrinter {
 public:
  struct Look {
    std::string prefix;       ///< in front of each line
    bool timestamps = false;  ///< in front of each line, behind the prefix
  };
  explicit LogPrinter(Look look) : look_(std::move(look)) {}

  /// Appends to what goes to stdout or stderr.
  void add(const LogRecord& record, std::string& out, std::string& err);

 private:
  void add_line_start(const LogRecord& record, std::string& to) const;
  Look look_;
  bool mid_line_[2] = {false, false};
};

}  // namespace gantry::cli
