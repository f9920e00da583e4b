// The log: one line per event on stderr or in the file of --log, as text or JSON (CL-12 to CL-15).
//
// Nothing is built before the first line is written: most commands log nothing and must start fast. One process-wide
// log, set up once by main; the engine only reports warnings and details. Not for the container's output.
#pragma once

#include <source_location>
#include <string>
#include <string_view>

#include "sys/result.h"

namespace gantry {

enum class LogFormat : uint8_t { kText, kJson };

struct LogSetup {
  std::string file;  ///< empty = stderr
  LogFormat format = LogFormat::kText;
  bool debug = false;
};

/// Opens the log file (appended to, 0644, CLOEXEC; its directory must exist). On failure the log stays on stderr and
/// the error reads "open PATH: no such file or directory".
Result<> log_open(const LogSetup& options);

/// Logs at level error and, when the log is not stderr, repeats the bare text on stderr (CL-12).
void log_error(const std::string& text, std::source_location where = std::source_location::current());

void log_warning(const std::string& text, std::source_location where = std::source_location::current());

/// Dropped unless --debug was given.
void log_debug(const std::string& text, std::source_location where = std::source_location::current());

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

/// What a line shows; pure, for log.cc and its tests.
struct LogLine {
  LogLevel level = LogLevel::kInfo;
  std::string_view message;
  std::string_view time;      ///< RFC 3339
  std::string_view function;  ///< with "()"; empty = not shown
  std::string_view file;      ///< "main.cc:12"; empty = not shown
};

/// `time="…" level=error msg="…" func="…" file="…"`, newline included.
std::string format_text_line(const LogLine& line);
/// The short form for terminals: `ERRO[0000] message`, coloured; `seconds` since the program started.
std::string format_terminal_line(const LogLine& line, unsigned seconds);
/// One object with keys in alphabetical order, newline included.
std::string format_json_line(const LogLine& line);

}  // namespace gantry
