// The records of a log: how bytes of a stream become lines of text and how those become bytes again.
//
// CRI:   2026-08-19T12:34:56.123456789+02:00 stdout F text of a whole line
//        P instead of F: a piece that no newline follows. F:eof: the stream ended behind the pieces before, without a
//        newline. F:lost: so many bytes could not be written. Local time.
// JSON:  {"log":"text of a whole line\n","stream":"stdout","time":"2026-08-19T10:34:56.123456789Z"}
//        No "\n" at the end of "log": a piece. "eof":true and "lost":N as above. What is not UTF-8 stands as U+FFFD in
//        "log" and exactly in "raw", base64 of the piece's bytes with its newline. UTC.
//
// A piece has at most kMaxPiece bytes. All pieces of a stream, put together with the newline of each F but none for
// F:eof and F:lost, are the bytes of the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/supervisor/log_options.h"

namespace gantry {

inline constexpr size_t kMaxPiece = size_t{16} << 10U;
/// Longest line that a record of ours can have, its newline included.
inline constexpr size_t kMaxRecord = kMaxPiece * 8 + 512;

struct LogTime {
  int64_t seconds = 0;
  int32_t nanoseconds = 0;
  int32_t utc_offset = 0;  ///< seconds east of Greenwich
};

/// RFC 3339 with nine digits; "Z" or "+02:00". Years 0 to 9999.
std::string log_time_text(const LogTime& time, bool utc);
std::optional<LogTime> parse_log_time(std::string_view text);

/// What the records are made of. The same input gives the same bytes: this is what makes a copy restartable.
struct BatchInput {
  LogDriver driver = LogDriver::kCri;
  uint8_t stream = 0;
  LogTime time;
  bool mid_line = false;  ///< pieces of an unfinished line are in the log
  bool end = false;
  uint64_t lost = 0;  ///< to be told first
  std::string_view data;
};

/// Makes the records of a batch.
class BatchFormatter {
 public:
  explicit BatchFormatter(const BatchInput& input);

  /// Appends whole records, as many as fit (room for one is kMaxRecord), and says how many bytes they are; 0 at the
  /// end.
  size_t fill(std::span<char> out, size_t most_records = SIZE_MAX);

  /// Bytes of `data` in the records made until now.
  size_t consumed() const { return consumed_; }
  /// The record about what was lost, if there had to be one, is among them.
  bool notice_made() const { return notice_made_; }

 private:
  char* put_cri(char* to, std::string_view piece, bool newline) const;
  char* put_json(char* to, std::string_view piece, bool newline) const;
  char* put_notice(char* to) const;
  char* put_end(char* to) const;
  void make_header();

  BatchInput input_;
  size_t consumed_ = 0;
  bool notice_made_ = false;
  bool end_made_ = false;
  char header_[64];  ///< what stands in front of a piece; CRI
  size_t header_size_ = 0;
  std::string tail_;  ///< what stands behind it; JSON
};

/// One record, read back.
struct LogRecord {
  enum class Kind : uint8_t {
    kPiece,    ///< bytes of the stream
    kEnd,      ///< the stream ended within a line
    kLost,     ///< `lost` bytes are missing
    kForeign,  ///< a line that is no record: `text` is the line
  };
  Kind kind = Kind::kPiece;
  uint8_t stream = 0;
  bool newline = false;  ///< kPiece: one follows `text`
  uint64_t lost = 0;
  LogTime time;
  std::string text;
};

/// Reads a line without its newline, in whichever format it is. Total: what is no record is kForeign.
LogRecord parse_log_record(std::string_view line);

}  // namespace gantry
