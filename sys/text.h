// Joining and splitting of text. libstdc++ 12 has no <format>, and this is all we need of it.
#pragma once

#include <charconv>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gantry {

namespace text_detail {
inline void append(std::string& out, std::string_view part) {
  out.append(part);
}
inline void append(std::string& out, char part) {
  out.push_back(part);
}
template <std::integral T>
  requires(!std::same_as<T, char> && !std::same_as<T, bool>)
void append(std::string& out, T number) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof digits, number);
  out.append(digits, end.ptr);
}
}  // namespace text_detail

/// Concatenates texts, characters and integers (decimal).
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::string out;
  (text_detail::append(out, parts), ...);
  return out;
}

/// The whole text as a number of type T: no sign for unsigned types, no spaces, no trailing bytes, no overflow.
template <std::integral T>
std::optional<T> parse_number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (err != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

/// Splits at each `sep`; the parts view into `text`. An empty text gives one empty part.
std::vector<std::string_view> split(std::string_view text, char sep);

/// `path` made absolute below "/" without ".", ".." and empty components, never above the root; lexical only.
std::string clean_path(std::string_view path);
/// True when clean_path() would change nothing.
bool is_clean_path(std::string_view path);

/// Without leading and trailing spaces, tabs and newlines.
std::string_view trim(std::string_view text);

}  // namespace gantry
