#include "cli/log_output.h"

#include <limits>
#include <optional>

#include "engine/supervisor/log_reader.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

std::optional<int64_t> seconds_of(char unit) {
  switch (unit) {
    case 's':
      return 1;
    case 'm':
      return 60;
    case 'h':
      return 3600;
    case 'd':
      return 86400;
    default:
      return std::nullopt;
  }
}

std::optional<int64_t> parse_ago(std::string_view text) {
  if (text.empty()) return std::nullopt;
  const auto unit = seconds_of(text.back());
  const auto number = parse_number<int64_t>(text.substr(0, text.size() - 1));
  if (!unit || !number || *number < 0 || *number > std::numeric_limits<int64_t>::max() / *unit) return std::nullopt;
  return *number * *unit;
}

}  // namespace

Result<LogTime> parse_since(std::string_view text, int64_t now) {
  if (const auto time = parse_log_time(text)) return *time;
  if (const auto seconds = parse_number<int64_t>(text); seconds && *seconds >= 0) return LogTime{*seconds, 0, 0};
  if (const auto ago = parse_ago(text)) return LogTime{now > *ago ? now - *ago : 0, 0, 0};
  return fail(
      cat("--since ", text, ": must be a time like 2026-08-19T12:34:56Z, seconds since 1970, or 30s, 10m, 2h, 1d"));
}

void LogPrinter::add_line_start(const LogRecord& record, std::string& to) const {
  to += look_.prefix;
  if (!look_.timestamps) return;
  to += record.kind == LogRecord::Kind::kForeign ? "-" : log_time_text(record.time, true);
  to += ' ';
}

void LogPrinter::add(const LogRecord& record, std::string& out, std::string& err) {
  const bool decorated = look_.timestamps || !look_.prefix.empty();
  const size_t stream = record.stream == 0 ? 0 : 1;
  std::string& to = stream == 0 ? out : err;
  bool& mid_line = mid_line_[stream];
  if (record.kind == LogRecord::Kind::kLost) {
    err += cat(look_.prefix, "[", record.lost, " bytes of ", stream == 0 ? "stdout" : "stderr",
               " are missing here: the log took none]\n");
    return;
  }
  if (record.kind == LogRecord::Kind::kEnd) {
    // What the container did not end with a newline still ends here for whoever reads lines with something in front.
    if (decorated && mid_line) to += '\n';
    mid_line = false;
    return;
  }
  const size_t before = to.size();
  append_raw(record, to);
  if (to.size() == before) return;
  const bool ends_line = to.back() == '\n';
  if (decorated && !mid_line) {
    const std::string text = to.substr(before);
    to.resize(before);
    add_line_start(record, to);
    to += text;
  }
  mid_line = !ends_line;
}

}  // namespace gantry::cli
