#include "engine/json.h"

#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>
#if defined(__x86_64__) && __has_include(<sys/platform/x86.h>)
#define _Bool bool  // NOLINT: the header is written for C
#include <sys/platform/x86.h>
#undef _Bool
#endif

#include <algorithm>
#include <bit>
#include <utility>

#include "engine/json_rapid.h"
#include "sys/text.h"

namespace gantry::json {

namespace dom = simdjson::dom;

namespace {

constexpr size_t kShownBytes = 60;

}  // namespace

std::string one_line(std::string_view text) {
  std::string out;
  size_t end = std::min(text.size(), kShownBytes);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (byte < 0x20 || byte == 0x7F) {
      constexpr char kHex[] = "0123456789abcdef";
      out.append("\\x").append(1, kHex[byte >> 4]).append(1, kHex[byte & 15]);
    } else {
      out += c;
    }
  }
  if (end < text.size()) out += "...";
  return out;
}

std::string quoted(std::string_view text) {
  return cat('"', one_line(text), '"');
}

std::string Place::text() const {
  if (parent_ == nullptr) return std::string(key_);
  std::string out = parent_->text();
  if (index_ != kNoIndex) return cat(out, parent_->parent_ == nullptr ? ": [" : "[", index_, ']');
  return cat(out, parent_->parent_ == nullptr ? ": " : ".", one_line(key_));
}

/// The only place that knows how a dom::element hides in a Value.
struct Value::Access {
  static dom::element get(const Value& value) { return std::bit_cast<dom::element>(value.node_); }
  static Value make(dom::element element, const Place* place) {
    static_assert(sizeof(dom::element) == sizeof(Value::node_) && std::is_trivially_copyable_v<dom::element>);
    Value value;
    value.node_ = std::bit_cast<std::array<uintptr_t, 2>>(element);
    value.place_ = place;
    return value;
  }
};

Kind Value::kind() const {
  if (node_[0] == 0) return Kind::kAbsent;
  switch (Access::get(*this).type()) {
    case dom::element_type::ARRAY:
      return Kind::kArray;
    case dom::element_type::OBJECT:
      return Kind::kObject;
    case dom::element_type::INT64:
    case dom::element_type::UINT64:
    case dom::element_type::DOUBLE:
      return Kind::kNumber;
    case dom::element_type::STRING:
      return Kind::kString;
    case dom::element_type::BOOL:
      return Kind::kBool;
    case dom::element_type::NULL_VALUE:
      return Kind::kNull;
  }
  return Kind::kAbsent;
}

bool Value::empty() const {
  switch (kind()) {
    case Kind::kAbsent:
    case Kind::kNull:
      return true;
    case Kind::kString:
      return Access::get(*this).get_string().value_unsafe().empty();
    case Kind::kArray: {
      const dom::array array = Access::get(*this).get_array().value_unsafe();
      return array.begin() == array.end();
    }
    case Kind::kObject: {
      const dom::object object = Access::get(*this).get_object().value_unsafe();
      return object.begin() == object.end();
    }
    default:
      return false;
  }
}

std::string Value::shown() const {
  switch (kind()) {
    case Kind::kAbsent:
      return "nothing";
    case Kind::kNull:
      return "null";
    case Kind::kBool:
      return Access::get(*this).get_bool().value_unsafe() ? "true" : "false";
    case Kind::kString:
      return quoted(Access::get(*this).get_string().value_unsafe());
    case Kind::kArray:
      return "an array";
    case Kind::kObject:
      return "an object";
    case Kind::kNumber:
      break;
  }
  const dom::element element = Access::get(*this);
  if (element.is<int64_t>()) return cat(element.get_int64().value_unsafe());
  if (element.is<uint64_t>()) return cat(element.get_uint64().value_unsafe());
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, element.get_double().value_unsafe());
  const std::string_view text(digits, static_cast<size_t>(end.ptr - digits));
  return cat(text, text.find_first_of(".e") == std::string_view::npos ? ".0" : "");
}

std::unexpected<Error> Value::fail(std::string_view text) const {
  return gantry::fail(cat(place_->text(), ": ", text));
}

std::unexpected<Error> Value::wrong(std::string_view wanted) const {
  return fail(cat("expected ", wanted, ", got ", shown()));
}

std::unexpected<Error> Value::too_many() const {
  return fail(cat("more than ", kMaxRecords, " entries"));
}

Result<bool> Value::boolean() const {
  if (kind() != Kind::kBool) return wrong("true or false");
  return Access::get(*this).get_bool().value_unsafe();
}

Result<std::string_view> Value::bytes() const {
  if (kind() != Kind::kString) return wrong("a string");
  return Access::get(*this).get_string().value_unsafe();
}

Result<std::string_view> Value::string(std::string_view nul_error) const {
  GANTRY_LET(const std::string_view text, bytes());
  if (text.find('\0') != std::string_view::npos) return fail(nul_error);
  return text;
}

Result<int64_t> Value::integer(int64_t min, int64_t max) const {
  int64_t number = 0;
  if (kind() != Kind::kNumber || Access::get(*this).get_int64().get(number) != simdjson::SUCCESS || number < min ||
      number > max) {
    return wrong(cat("a whole number from ", min, " to ", max));
  }
  return number;
}

Result<uint64_t> Value::natural(uint64_t max) const {
  uint64_t number = 0;
  if (kind() != Kind::kNumber || Access::get(*this).get_uint64().get(number) != simdjson::SUCCESS || number > max) {
    return wrong(cat("a whole number from 0 to ", max));
  }
  return number;
}

Result<size_t> Value::array_size() const {
  if (kind() != Kind::kArray) return wrong("an array");
  // The parser's own count saturates, which is fine for a capacity.
  return Access::get(*this).get_array().value_unsafe().size();
}

Result<> Value::items(Result<> (*visit)(void*, const Value&), void* visitor) const {
  if (kind() != Kind::kArray) return wrong("an array");
  size_t index = 0;
  const dom::array array = Access::get(*this).get_array().value_unsafe();
  for (const dom::element element : array) {
    const Place place(place_, index++);
    GANTRY_TRY(visit(visitor, Access::make(element, &place)));
  }
  return {};
}

Result<> Value::members(Result<> (*visit)(void*, std::string_view, const Value&), void* visitor) const {
  if (kind() != Kind::kObject) return wrong("an object");
  const dom::object object = Access::get(*this).get_object().value_unsafe();
  for (const dom::key_value_pair& member : object) {
    const Place place(place_, member.key);
    const Value value = Access::make(member.value, &place);
    if (member.key.find('\0') != std::string_view::npos) return value.fail("a key must not contain a NUL byte");
    GANTRY_TRY(visit(visitor, member.key, value));
  }
  return {};
}

Result<> Value::pick(std::span<const std::string_view> names, std::span<Value> found) const {
  if (kind() != Kind::kObject) return wrong("an object");
  const dom::object object = Access::get(*this).get_object().value_unsafe();
  for (const dom::key_value_pair& member : object) {
    for (size_t i = 0; i < names.size(); ++i) {
      if (names[i] == member.key) {
        found[i] = Access::make(member.value, place_);
        break;
      }
    }
  }
  return {};
}

bool Value::has(std::string_view name) const {
  Value found;
  return pick(std::span(&name, 1), std::span(&found, 1)).has_value() && found.present();
}

struct Document::Impl {
  explicit Impl(std::string_view name) : place(name) {}
  dom::parser parser;
  dom::element root;
  Place place;
};

Document::Document(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Document::Document(Document&&) noexcept = default;
Document& Document::operator=(Document&&) noexcept = default;
Document::~Document() = default;

Value Document::root() const {
  return Value::Access::make(impl_->root, &impl_->place);
}

namespace {

/// simdjson's code for this processor. It would execute several CPUID instructions to find it, each an exit of 6 us in
/// a virtual machine; libc has done so already.
const simdjson::implementation* best_implementation() {
  const auto& all = simdjson::get_available_implementations();
  const simdjson::implementation* found = nullptr;
#if defined(__x86_64__) && __has_include(<sys/platform/x86.h>)
  const bool carryless = CPU_FEATURE_ACTIVE(PCLMULQDQ);
  if (carryless && CPU_FEATURE_ACTIVE(AVX2) && CPU_FEATURE_ACTIVE(BMI1) && CPU_FEATURE_ACTIVE(BMI2)) {
    found = all["haswell"];
  } else if (carryless && CPU_FEATURE_ACTIVE(SSE4_2)) {
    found = all["westmere"];
  } else {
    found = all["fallback"];
  }
#endif
  return found != nullptr ? found : all.detect_best_supported();
}

void choose_implementation() {
  static const simdjson::implementation* const best = best_implementation();
  simdjson::get_active_implementation() = best;
}

std::string place_of(std::string_view bytes, size_t offset) {
  const std::string_view before = bytes.substr(0, offset);
  const auto line = static_cast<size_t>(std::count(before.begin(), before.end(), '\n')) + 1;
  const size_t column = offset - (line == 1 ? 0 : before.rfind('\n') + 1) + 1;
  return cat("line ", line, ", column ", column, ": ");
}

/// Content with everything but a whole number that simdjson cannot hold.
struct NumberCheck : rapidjson::BaseReaderHandler<rapidjson::UTF8<>, NumberCheck> {
  bool RawNumber(const char* digits, rapidjson::SizeType length, bool /*copied*/) {
    const std::string_view text(digits, length);
    if (text.find_first_of(".eE") != std::string_view::npos || parse_number<int64_t>(text) ||
        parse_number<uint64_t>(text)) {
      return true;
    }
    too_large = text;
    return false;
  }
  std::string too_large;
};

}  // namespace

Result<Document> Document::parse(std::string_view bytes, std::string_view name) {
  if (bytes.size() > kMaxBytes) {
    return gantry::fail(cat(name, ": ", bytes.size(), " bytes; at most ", kMaxBytes, " (4 MiB) are accepted"));
  }
  if (trim(bytes).empty()) return gantry::fail(cat(name, ": EOF: the document is empty"));
  choose_implementation();
  auto impl = std::make_unique<Impl>(name);
  simdjson::error_code err = impl->parser.allocate(bytes.size(), kMaxDepth);
  if (err == simdjson::SUCCESS) err = impl->parser.parse(bytes.data(), bytes.size()).get(impl->root);
  switch (err) {
    case simdjson::SUCCESS:
      return Document(std::move(impl));
    case simdjson::DEPTH_ERROR:
      return gantry::fail(cat(name, ": nested deeper than ", kMaxDepth, " levels"));
    case simdjson::MEMALLOC:
      return gantry::fail(cat(name, ": not enough memory to parse ", bytes.size(), " bytes"));
    case simdjson::UTF8_ERROR:
      return gantry::fail(cat(name, ": not valid UTF-8"));
    default:
      return gantry::fail(cat(name, ": ", describe_syntax_error(bytes)));
  }
}

std::string describe_syntax_error(std::string_view bytes) {
  // simdjson says that a document is wrong, not where; RapidJSON's iterative reader does, and never recurses.
  namespace rj = rapidjson;
  rj::Reader reader;
  NumberCheck check;
  rj::MemoryStream stream(bytes.data(), bytes.size());
  constexpr unsigned kFlags = rj::kParseIterativeFlag | rj::kParseValidateEncodingFlag | rj::kParseNumbersAsStringsFlag;
  const rj::ParseResult result = reader.Parse<kFlags>(stream, check);
  if (!result.IsError()) return "not valid JSON";  // the two disagree, for instance about 1e999
  const size_t offset = std::min(result.Offset(), bytes.size());
  if (!check.too_large.empty()) {
    const size_t start = std::min(stream.Tell(), bytes.size()) - check.too_large.size();
    return cat(place_of(bytes, start), one_line(check.too_large), " is no 64-bit number");
  }
  if (trim(bytes.substr(offset)).empty()) return "not valid JSON: unexpected EOF";
  std::string_view why = rj::GetParseError_En(result.Code());
  if (why.ends_with('.')) why.remove_suffix(1);
  return cat(place_of(bytes, offset), "not valid JSON: ", why);
}

}  // namespace gantry::json
