// Writes JSON, laid out as callers of runc know it: on one line, or indented by two spaces, four spaces or a tab.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace gantry::json {

/// Builds one document. Calls must nest properly: key() before each value inside an object. Bytes that are not UTF-8
/// become U+FFFD, as Go writes them. Never fails.
class Writer {
 public:
  enum class Layout : uint8_t { kLine, kTwoSpaces, kFourSpaces, kTab };

  explicit Writer(Layout layout = Layout::kLine);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  Writer& begin_object();
  Writer& end_object();
  Writer& begin_array();
  Writer& end_array();
  Writer& key(std::string_view name);

  Writer& value(std::string_view text);
  Writer& value(const char* text) { return value(std::string_view(text)); }
  Writer& value(bool yes);
  Writer& null();
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  Writer& value(T number) {
    if constexpr (std::signed_integral<T>) return put_signed(number);
    return put_unsigned(static_cast<uint64_t>(number));
  }

  /// key() and value() in one.
  template <class T>
  Writer& member(std::string_view name, const T& content) {
    return key(name).value(content);
  }

  /// A member that is a list of values.
  template <class List>
  Writer& list(std::string_view name, const List& items) {
    key(name).begin_array();
    for (const auto& item : items) value(item);
    return end_array();
  }

  /// Takes the finished document, without a newline at its end.
  std::string take();

 private:
  struct Impl;
  Writer& put_signed(int64_t number);
  Writer& put_unsigned(uint64_t number);
  std::unique_ptr<Impl> impl_;
};

/// The text with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace gantry::json
