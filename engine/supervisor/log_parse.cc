// Records become bytes again.
#include "engine/json.h"
#include "engine/supervisor/log_base64.h"
#include "engine/supervisor/log_record.h"
#include "sys/text.h"

namespace gantry {

namespace {

std::optional<uint8_t> stream_of(std::string_view name) {
  if (name == "stdout") return uint8_t{0};
  if (name == "stderr") return uint8_t{1};
  return std::nullopt;
}

/// Takes what stands in front of the next space, and the space.
std::optional<std::string_view> take_word(std::string_view& text) {
  const size_t space = text.find(' ');
  if (space == text.npos) return std::nullopt;
  const std::string_view word = text.substr(0, space);
  text.remove_prefix(space + 1);
  return word;
}

/// The number in "gantry: N bytes ..."; 0 if there is none.
uint64_t lost_in(std::string_view text) {
  constexpr std::string_view kBefore = "gantry: ";
  if (!text.starts_with(kBefore)) return 0;
  text.remove_prefix(kBefore.size());
  const std::optional<std::string_view> number = take_word(text);
  return number ? parse_number<uint64_t>(*number).value_or(0) : 0;
}

std::optional<LogRecord> parse_cri(std::string_view line) {
  LogRecord out;
  const std::optional<std::string_view> time = take_word(line);
  const std::optional<std::string_view> stream = time ? take_word(line) : std::nullopt;
  const std::optional<std::string_view> tags = stream ? take_word(line) : std::nullopt;
  if (!tags) return std::nullopt;
  const std::optional<LogTime> when = parse_log_time(*time);
  const std::optional<uint8_t> which = stream_of(*stream);
  if (!when || !which) return std::nullopt;
  out.time = *when;
  out.stream = *which;
  const std::string_view first = tags->substr(0, tags->find(':'));
  if (first != "F" && first != "P") return std::nullopt;
  if (*tags == "F:eof" && line.empty()) {
    out.kind = LogRecord::Kind::kEnd;
  } else if (*tags == "F:lost") {
    out.kind = LogRecord::Kind::kLost;
    out.lost = lost_in(line);
  } else {
    out.newline = first == "F";
  }
  out.text = line;
  return out;
}

struct JsonRecord {
  std::string log, stream, time, raw;
  uint64_t lost = 0;
  bool eof = false;
  bool has_log = false, has_raw = false, has_lost = false;
};

/// A text that may hold NUL bytes: those of the container are not an error.
Result<> read_text(const json::Value& value, std::string& out) {
  GANTRY_LET(const std::string_view text, value.bytes());
  out.assign(text);
  return {};
}

Result<> read_member(std::string_view key, const json::Value& value, JsonRecord& out) {
  if (key == "log") {
    out.has_log = true;
    return read_text(value, out.log);
  }
  if (key == "raw") {
    out.has_raw = true;
    return read_text(value, out.raw);
  }
  if (key == "lost") {
    out.has_lost = true;
    return json::read(value, out.lost);
  }
  if (key == "stream") return json::read(value, out.stream);
  if (key == "time") return json::read(value, out.time);
  if (key == "eof") return json::read(value, out.eof);
  return {};
}

Result<JsonRecord> read_json(std::string_view line) {
  GANTRY_LET(const json::Document document, json::Document::parse(line, "log"));
  JsonRecord out;
  GANTRY_TRY(document.root().each_member(
      [&out](std::string_view key, const json::Value& value) { return read_member(key, value, out); }));
  return out;
}

std::optional<LogRecord> parse_json(std::string_view line) {
  Result<JsonRecord> read = read_json(line);
  if (!read || !read->has_log) return std::nullopt;
  const std::optional<LogTime> when = parse_log_time(read->time);
  const std::optional<uint8_t> which = stream_of(read->stream);
  if (!when || !which) return std::nullopt;
  LogRecord out;
  out.time = *when;
  out.stream = *which;
  out.text = std::move(read->log);
  if (read->has_raw) {
    std::optional<std::string> exact = from_base64(read->raw);
    if (!exact) return std::nullopt;
    out.text = *std::move(exact);
  }
  if (out.text.ends_with('\n')) {
    out.text.pop_back();
    out.newline = true;
  }
  if (read->eof && out.text.empty() && !out.newline) {
    out.kind = LogRecord::Kind::kEnd;
  } else if (read->has_lost) {
    out.kind = LogRecord::Kind::kLost;
    out.newline = false;
    out.lost = read->lost;
  }
  return out;
}

}  // namespace

LogRecord parse_log_record(std::string_view line) {
  std::optional<LogRecord> found = line.starts_with('{') ? parse_json(line) : parse_cri(line);
  if (found) return *std::move(found);
  LogRecord foreign;
  foreign.kind = LogRecord::Kind::kForeign;
  foreign.text = line;
  return foreign;
}

}  // namespace gantry
