// Writes JSON, laid out as callers of runc know it: on one line, or indented by two spaces, four spaces or a tab.
#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace gantry {

/// Builds one document. Calls must nest properly: key() before each value inside an object. Bytes that are not UTF-8
/// become U+FFFD, as Go writes them. Never fails.
class JsonWriter {
 public:
  enum class Layout : uint8_t { kLine, kTwoSpaces, kFourSpaces, kTab };

  explicit JsonWriter(Layout layout = Layout::kLine);
  ~JsonWriter();
  JsonWriter(const JsonWriter&) = delete;
  JsonWriter& operator=(const JsonWriter&) = delete;

  JsonWriter& begin_object();
  JsonWriter& end_object();
  JsonWriter& begin_array();
  JsonWriter& end_array();
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(bool yes);
  JsonWriter& null();
  template <std::integral T>
    requires(!std::same_as<T, bool>)
  JsonWriter& value(T number) {
    if constexpr (std::signed_integral<T>) return put_signed(number);
    return put_unsigned(static_cast<uint64_t>(number));
  }

  /// key() and value() in one.
  template <class T>
  JsonWriter& member(std::string_view name, const T& content) {
    return key(name).value(content);
  }

  /// A member that is a list of values.
  template <class List>
  JsonWriter& list(std::string_view name, const List& items) {
    key(name).begin_array();
    for (const auto& item : items) value(item);
    return end_array();
  }

  /// Takes the finished document, without a newline at its end.
  std::string take();

 private:
  struct Impl;
  JsonWriter& put_signed(int64_t number);
  JsonWriter& put_unsigned(uint64_t number);
  std::unique_ptr<Impl> impl_;
};

/// The text with every byte that is not part of valid UTF-8 replaced by U+FFFD.
std::string valid_utf8(std::string_view text);

}  // namespace gantry
