#include <algorithm>
#include <array>
#include <cctype>

#include "engine/go_quote.h"
#include "engine/json_write.h"
#include "engine/log.h"
#include "sys/text.h"

namespace gantry {

namespace {

std::string_view level_name(LogLevel level) {
  constexpr std::array<std::string_view, 4> names{"debug", "info", "warning", "error"};
  return names[static_cast<size_t>(level)];
}

// logrus leaves simple words bare.
std::string quoted_if_needed(std::string_view text) {
  const auto plain = [](unsigned char c) {
    return std::isalnum(c) != 0 || std::string_view("-._/@^+").find(static_cast<char>(c)) != std::string_view::npos;
  };
  return std::ranges::all_of(text, plain) ? std::string(text) : go_quote(text);
}

}  // namespace

std::string format_text_line(const LogLine& line) {
  std::string out = cat("time=", quoted_if_needed(line.time), " level=", level_name(line.level));
  if (!line.message.empty()) out += cat(" msg=", quoted_if_needed(line.message));
  if (!line.function.empty()) out += cat(" func=", quoted_if_needed(line.function));
  if (!line.file.empty()) out += cat(" file=", quoted_if_needed(line.file));
  return out + "\n";
}

std::string format_terminal_line(const LogLine& line, unsigned seconds) {
  constexpr std::array<int, 4> colours{37, 36, 33, 31};
  constexpr size_t kMessageWidth = 44;
  std::string word(level_name(line.level).substr(0, 4));
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  std::string_view message = line.message;
  if (message.ends_with('\n')) message.remove_suffix(1);
  const std::string clock = std::to_string(seconds);
  std::string out = cat("\x1b[", colours[static_cast<size_t>(line.level)], "m", word, "\x1b[0m[",
                        std::string(clock.size() < 4 ? 4 - clock.size() : 0, '0'), clock, "]");
  if (!line.file.empty()) out += cat(line.file, " ", line.function);
  out += cat(" ", message);
  if (message.size() < kMessageWidth) out.append(kMessageWidth - message.size(), ' ');
  return out + " \n";
}

std::string format_json_line(const LogLine& line) {
  json::Writer json;
  json.begin_object();
  if (!line.file.empty()) json.member("file", line.file);
  if (!line.function.empty()) json.member("func", line.function);
  json.member("level", level_name(line.level)).member("msg", line.message).member("time", line.time).end_object();
  return json.take() + "\n";
}

}  // namespace gantry
