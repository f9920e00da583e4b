// Where a container's output goes, as written behind --log.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sys/result.h"

namespace gantry {

/// The format of a log; see log_record.h. The numbers stand in the journal of copies in flight.
enum class LogDriver : uint8_t {
  kNone = 0,  ///< output is read and forgotten
  kCri = 1,   ///< Kubernetes' text format, "TIME stdout F TEXT"
  kJson = 2,  ///< one JSON object a line, as docker's json-file
};

/// What happens to output while the log takes no bytes (disk full, quota, I/O error).
enum class OnFull : uint8_t {
  kBlock = 0,  ///< it waits, and so does the container when its pipe is full; nothing is lost
  kDrop = 1,   ///< it is counted and forgotten; a record says how much when the log works again
};

struct LogOptions {
  LogDriver driver = LogDriver::kCri;
  OnFull on_full = OnFull::kBlock;
  std::string path;  ///< absolute; empty: the caller has a default
  uint64_t max_size =
      16ULL << 20U;        ///< bytes; a batch that would make the file larger goes into a new one; 0: no limit
  unsigned max_files = 4;  ///< the live file PATH and PATH.1 to PATH.(N-1), oldest last

  bool operator==(const LogOptions&) const = default;
};

/// Mode of a log file, and of directories made for it.
inline constexpr unsigned kLogFileMode = 0640;
inline constexpr unsigned kLogDirectoryMode = 0750;
inline constexpr unsigned kMaxLogFiles = 100;

/// "cri|json|none[,size=BYTES[k|m|g]][,files=N][,full=block|drop][,path=PATH]" in any order behind the driver, with
/// what is left out as in LogOptions; an empty text is all defaults. size=0 is no limit, k is 1024. path= takes the
/// rest of the text, commas included, and must be absolute. Errors name the option and its value.
Result<LogOptions> parse_log_options(std::string_view text);

/// The text that parses to `options`, every option written out.
std::string log_options_text(const LogOptions& options);

}  // namespace gantry
