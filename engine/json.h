// Reads JSON: a cursor over a parsed document that knows where it stands, so that every error names its place.
//
// What Go's decoder does is kept where callers see it: the last of duplicate keys wins, null counts as absent, whole
// numbers are exact and never written with a point or an exponent. One thing differs on purpose: keys match exactly
// ("Readonly" is not "readonly"), as the JSON schema of the runtime-spec says, so that a checker in front of us and we
// read the same document.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "sys/result.h"

namespace gantry::json {

/// Longest document taken, in bytes. Twice what the kernel takes as arguments and environment under the usual stack
/// limit; the worst document of this size (only numbers) costs about 70 MiB while it is parsed.
inline constexpr size_t kMaxBytes = size_t{4} << 20;

/// Deepest nesting taken. config.json needs 7.
inline constexpr size_t kMaxDepth = 256;

/// Most members of one list of objects or of one map: as many as the kernel allows mounts. Keeps a hostile document of
/// four megabytes from becoming half a gigabyte of parsed records.
inline constexpr size_t kMaxRecords = 100'000;

/// The text fit to stand in an error: on one line, valid UTF-8 if it was, cut at about 60 bytes.
std::string one_line(std::string_view text);

/// The text in double quotes, on one line and no longer than about 60 bytes, for use in an error.
std::string quoted(std::string_view text);

/// Where a value stands. A chain on the stack; text is made only when an error needs it.
class Place {
 public:
  /// The document itself, under the name used in errors ("config.json"). `name` must outlive the place.
  explicit Place(std::string_view name) : key_(name) {}
  /// A member of an object.
  Place(const Place* parent, std::string_view key) : parent_(parent), key_(key) {}
  /// An element of an array.
  Place(const Place* parent, size_t index) : parent_(parent), index_(index) {}

  /// "config.json: mounts[3].options[1]".
  std::string text() const;

 private:
  const Place* parent_ = nullptr;
  std::string_view key_;
  size_t index_ = kNoIndex;
  static constexpr size_t kNoIndex = std::numeric_limits<size_t>::max();
};

enum class Kind : uint8_t { kAbsent, kNull, kBool, kNumber, kString, kArray, kObject };

/// A view of one value. Valid as long as its Document and the Place it was made with.
class Value {
 public:
  /// An absent value.
  Value() = default;

  Kind kind() const;
  /// There is something other than null.
  bool present() const { return kind() > Kind::kNull; }
  /// Absent, null, "", [] or {}.
  bool empty() const;

  Result<bool> boolean() const;
  /// Valid UTF-8 without NUL bytes; `nul_error` is the text for one that has them. The view lives as long as the
  /// document.
  Result<std::string_view> string(std::string_view nul_error = "must not contain a NUL byte") const;
  /// The same with NUL bytes, for text that never becomes a C string.
  Result<std::string_view> bytes() const;
  /// A whole number in [min, max].
  Result<int64_t> integer(int64_t min, int64_t max) const;
  /// A whole number in [0, max].
  Result<uint64_t> natural(uint64_t max) const;

  /// Number of elements; fails for what is not an array.
  Result<size_t> array_size() const;

  /// Calls `visit(const Value&) -> Result<>` for each element in order and stops at the first error.
  template <class F>
  Result<> each_item(F&& visit) const {
    return items(&call<Result<> (*)(const Value&), F, const Value&>, &visit);
  }

  /// Calls `visit(std::string_view key, const Value&) -> Result<>` for each member in order, duplicates included. Keys
  /// with NUL bytes are refused.
  template <class F>
  Result<> each_member(F&& visit) const {
    return members(&call<Result<> (*)(std::string_view, const Value&), F, std::string_view, const Value&>, &visit);
  }

  /// Fills found[i] with the last member named names[i]; others stay absent. The values carry this value's place.
  Result<> pick(std::span<const std::string_view> names, std::span<Value> found) const;

  /// There is a member `name` other than null.
  bool has(std::string_view name) const;

  /// This value, to be known under another place.
  Value at(const Place& place) const {
    Value moved = *this;
    moved.place_ = &place;
    return moved;
  }
  const Place& place() const { return *place_; }

  /// An error about this value: "config.json: process.cwd: TEXT".
  std::unexpected<Error> fail(std::string_view text) const;
  /// The error for more than kMaxRecords members.
  std::unexpected<Error> too_many() const;
  /// The value as it is shown in an error: short, on one line.
  std::string shown() const;

 private:
  friend class Document;
  struct Access;
  template <class, class F, class... Args>
  static Result<> call(void* visitor, Args... args) {
    return (*static_cast<std::remove_reference_t<F>*>(visitor))(args...);
  }
  Result<> items(Result<> (*visit)(void*, const Value&), void* visitor) const;
  Result<> members(Result<> (*visit)(void*, std::string_view, const Value&), void* visitor) const;
  std::unexpected<Error> wrong(std::string_view wanted) const;

  std::array<uintptr_t, 2> node_{};  // the parser's own handle, kept opaque so that its header stays in json.cc
  const Place* place_ = nullptr;
};

/// A parsed document, owner of all its values.
class Document {
 public:
  /// Parses a whole document. `name` (a literal) stands in front of every error. Refused: more than kMaxBytes or
  /// kMaxDepth, invalid UTF-8, anything behind the value. An empty document is the error "EOF", as Go says it.
  static Result<Document> parse(std::string_view bytes, std::string_view name);

  Document(Document&&) noexcept;
  Document& operator=(Document&&) noexcept;
  ~Document();

  Value root() const;

 private:
  struct Impl;
  explicit Document(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Line and column of the first syntax error and what it is, for a document that failed to parse.
std::string describe_syntax_error(std::string_view bytes);

// Readers. read(value, out) is found by argument-dependent lookup, so that a type of ours only needs its own read().

inline Result<> read(const Value& value, bool& out) {
  GANTRY_LET(out, value.boolean());
  return {};
}

inline Result<> read(const Value& value, std::string& out) {
  GANTRY_LET(const std::string_view text, value.string());
  out.assign(text);
  return {};
}

template <std::integral T>
  requires(!std::same_as<T, bool>)
Result<> read(const Value& value, T& out) {
  if constexpr (std::signed_integral<T>) {
    GANTRY_LET(const int64_t number, value.integer(std::numeric_limits<T>::min(), std::numeric_limits<T>::max()));
    out = static_cast<T>(number);
  } else {
    GANTRY_LET(const uint64_t number, value.natural(std::numeric_limits<T>::max()));
    out = static_cast<T>(number);
  }
  return {};
}

template <class T>
Result<> read(const Value& value, std::optional<T>& out) {
  return read(value, out.emplace());
}

template <class T>
Result<> read(const Value& value, std::vector<T>& out) {
  GANTRY_LET(const size_t size, value.array_size());
  if constexpr (std::is_class_v<T> && !std::same_as<T, std::string>) {
    if (size > kMaxRecords) return value.too_many();
  }
  out.clear();
  out.reserve(size);
  return value.each_item([&out](const Value& item) -> Result<> {
    T& element = out.emplace_back();
    // A null word is an empty one, as in Go; a null record has nothing to act on and fails in its reader.
    constexpr bool kRecord = std::is_class_v<T> && !std::same_as<T, std::string>;
    return kRecord || item.present() ? read(item, element) : Result<>{};
  });
}

/// One row of a table that says how an object is read into a T.
template <class T>
struct Field {
  std::string_view name;
  Result<> (*read)(const Value&, T&);
};

template <class>
struct MemberPointer;
template <class Class, class Member>
struct MemberPointer<Member Class::*> {
  using Owner = Class;
};

/// The reader of a plain member: `{"cwd", into<&Process::cwd>}`.
template <auto kMember>
Result<> into(const Value& value, typename MemberPointer<decltype(kMember)>::Owner& owner) {
  return read(value, owner.*kMember);
}

/// The reader of what is known but cannot be done yet: an error unless the value is empty.
template <class T>
Result<> refused(const Value& value, T&) {
  if (value.empty()) return {};
  return gantry::fail(value.place().text() + " is not supported yet");
}

/// Reads an object by its table, in the table's order. Unknown members are ignored, null ones skipped.
template <class T, size_t N>
Result<> read_fields(const Value& object, const Field<T> (&fields)[N], T& out) {
  std::array<std::string_view, N> names;
  for (size_t i = 0; i < N; ++i) names[i] = fields[i].name;
  std::array<Value, N> found;
  GANTRY_TRY(object.pick(names, found));
  for (size_t i = 0; i < N; ++i) {
    if (!found[i].present()) continue;
    const Place place(&object.place(), names[i]);
    GANTRY_TRY(fields[i].read(found[i].at(place), out));
  }
  return {};
}

}  // namespace gantry::json
