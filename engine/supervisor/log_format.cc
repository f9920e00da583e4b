// Bytes of a stream become records. Runs once for each line of each container: no allocation for a plain line.
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/json_write.h"
#include "engine/supervisor/log_base64.h"
#include "engine/supervisor/log_record.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr std::string_view kStreams[2] = {"stdout", "stderr"};

char* put(char* to, std::string_view text) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

/// Adds to each of `odd`, of kLanes bytes, whether its byte of `from` needs an escape or is no ASCII.
constexpr size_t kLanes = 16;
void find_odd(std::array<uint8_t, kLanes>& odd, const char* from) {
  for (size_t i = 0; i < kLanes; ++i) {
    const auto byte = static_cast<uint8_t>(from[i]);
    const auto from_space = static_cast<uint8_t>(byte - 0x20);
    odd[i] = static_cast<uint8_t>(odd[i] | static_cast<uint8_t>(from_space >= 0x5f) |
                                  static_cast<uint8_t>(byte == '"') | static_cast<uint8_t>(byte == '\\'));
  }
}

/// Printable ASCII that stands in a JSON text as it is. No early end, and the last lanes overlap: compilers make
/// vectors of this.
bool plain(std::string_view text) {
  std::array<uint8_t, kLanes> odd{};
  std::array<char, kLanes> rest;
  size_t i = 0;
  for (; i + kLanes <= text.size(); i += kLanes) find_odd(odd, text.data() + i);
  if (i < text.size() && text.size() >= kLanes) {
    find_odd(odd, text.data() + text.size() - kLanes);
  } else if (i < text.size()) {
    rest.fill(' ');
    std::memcpy(rest.data(), text.data(), text.size());
    find_odd(odd, rest.data());
  }
  return std::bit_cast<std::array<uint64_t, 2>>(odd) == std::array<uint64_t, 2>{};
}

/// What the writer makes of `text`, quotes included.
std::string escaped(std::string_view text) {
  json::Writer writer;
  writer.value(text);
  return writer.take();
}

std::string notice_text(uint64_t lost) {
  return cat("gantry: ", lost, " bytes of output are lost: the log could not be written");
}

}  // namespace

BatchFormatter::BatchFormatter(const BatchInput& input) : input_(input) {
  make_header();
}

void BatchFormatter::make_header() {
  const std::string_view stream = kStreams[input_.stream & 1U];
  if (input_.driver == LogDriver::kJson) {
    tail_ = cat(",\"stream\":\"", stream, "\",\"time\":\"", log_time_text(input_.time, true), "\"}\n");
    return;
  }
  const std::string text = cat(log_time_text(input_.time, false), " ", stream, " F ");
  header_size_ = std::min(text.size(), sizeof header_);
  std::memset(header_, 0, sizeof header_);
  std::memcpy(header_, text.data(), header_size_);
}

char* BatchFormatter::put_cri(char* to, std::string_view piece, bool newline) const {
  std::memcpy(to, header_, sizeof header_);  // a constant size is a few instructions; fill() leaves the room
  if (!newline) to[header_size_ - 2] = 'P';
  to += header_size_;
  std::memcpy(to, piece.data(), piece.size());
  to += piece.size();
  *to = '\n';
  return to + 1;
}

char* BatchFormatter::put_json(char* to, std::string_view piece, bool newline) const {
  to = put(to, "{\"log\":");
  if (plain(piece)) {
    *to++ = '"';
    to = put(to, piece);
    to = put(to, newline ? "\\n\"" : "\"");
    return put(to, tail_);
  }
  std::string whole(piece);
  if (newline) whole += '\n';
  const std::string clean = json::valid_utf8(whole);
  to = put(to, escaped(clean));
  if (clean != whole) {
    to = put(to, ",\"raw\":\"");
    to = put(to, base64(whole));
    *to++ = '"';
  }
  return put(to, tail_);
}

char* BatchFormatter::put_notice(char* to) const {
  const std::string text = notice_text(input_.lost);
  if (input_.driver == LogDriver::kJson) {
    to = put(to, cat("{\"log\":\"", text, "\\n\",\"lost\":", input_.lost));
    return put(to, tail_);
  }
  to = put(to, std::string_view(header_, header_size_ - 1));
  to = put(to, ":lost ");
  to = put(to, text);
  *to = '\n';
  return to + 1;
}

char* BatchFormatter::put_end(char* to) const {
  if (input_.driver == LogDriver::kJson) {
    to = put(to, "{\"log\":\"\",\"eof\":true");
    return put(to, tail_);
  }
  to = put(to, std::string_view(header_, header_size_ - 1));
  return put(to, ":eof \n");
}

size_t BatchFormatter::fill(std::span<char> out, size_t most_records) {
  if (input_.driver == LogDriver::kNone) return 0;
  char* to = out.data();
  char* const limit = out.data() + out.size();
  size_t records = 0;
  const auto room = [&](size_t need) { return records < most_records && static_cast<size_t>(limit - to) >= need; };
  if (input_.lost != 0 && !notice_made_ && room(kMaxRecord)) {
    to = put_notice(to);
    notice_made_ = true;
    ++records;
  }
  const char* from = input_.data.data() + consumed_;
  const char* const end = input_.data.data() + input_.data.size();
  const bool json = input_.driver == LogDriver::kJson;
  const size_t per_byte = json ? 8 : 1;
  while (from < end) {
    const auto left = static_cast<size_t>(end - from);
    const auto* const found = static_cast<const char*>(std::memchr(from, '\n', std::min(left, kMaxPiece + 1)));
    const size_t size = found != nullptr ? static_cast<size_t>(found - from) : std::min(left, kMaxPiece);
    const std::string_view piece(from, size);
    if (!room(size * per_byte + 512)) break;
    to = json ? put_json(to, piece, found != nullptr) : put_cri(to, piece, found != nullptr);
    from += size + (found != nullptr ? 1 : 0);
    ++records;
  }
  consumed_ = static_cast<size_t>(from - input_.data.data());
  if (from == end && input_.end && !end_made_ && room(kMaxRecord)) {
    end_made_ = true;
    const bool unfinished = input_.data.empty() ? input_.mid_line : input_.data.back() != '\n';
    if (unfinished) to = put_end(to);
  }
  return static_cast<size_t>(to - out.data());
}

}  // namespace gantry
