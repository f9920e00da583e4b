#include "engine/json_write.h"

#include <variant>

#include "engine/json_rapid.h"

namespace gantry::json {

namespace rj = rapidjson;

struct Writer::Impl {
  rj::StringBuffer buffer;
  std::variant<rj::Writer<rj::StringBuffer>, rj::PrettyWriter<rj::StringBuffer>> writer;

  explicit Impl(Layout layout) {
    if (layout == Layout::kLine) {
      writer.emplace<0>(buffer);
      return;
    }
    auto& pretty = writer.emplace<1>(buffer);
    if (layout == Layout::kTab) {
      pretty.SetIndent('\t', 1);
    } else {
      pretty.SetIndent(' ', layout == Layout::kTwoSpaces ? 2 : 4);
    }
  }

  template <class F>
  void with(F&& f) {
    std::visit(std::forward<F>(f), writer);
  }
};

Writer::Writer(Layout layout) : impl_(std::make_unique<Impl>(layout)) {}
Writer::~Writer() = default;

Writer& Writer::begin_object() {
  impl_->with([](auto& w) { w.StartObject(); });
  return *this;
}

Writer& Writer::end_object() {
  impl_->with([](auto& w) { w.EndObject(); });
  return *this;
}

Writer& Writer::begin_array() {
  impl_->with([](auto& w) { w.StartArray(); });
  return *this;
}

Writer& Writer::end_array() {
  impl_->with([](auto& w) { w.EndArray(); });
  return *this;
}

Writer& Writer::key(std::string_view name) {
  const std::string text = valid_utf8(name);
  impl_->with([&text](auto& w) { w.Key(text.data(), static_cast<rj::SizeType>(text.size())); });
  return *this;
}

Writer& Writer::value(std::string_view text) {
  const std::string clean = valid_utf8(text);
  impl_->with([&clean](auto& w) { w.String(clean.data(), static_cast<rj::SizeType>(clean.size())); });
  return *this;
}

Writer& Writer::value(bool yes) {
  impl_->with([yes](auto& w) { w.Bool(yes); });
  return *this;
}

Writer& Writer::null() {
  impl_->with([](auto& w) { w.Null(); });
  return *this;
}

Writer& Writer::put_signed(int64_t number) {
  impl_->with([number](auto& w) { w.Int64(number); });
  return *this;
}

Writer& Writer::put_unsigned(uint64_t number) {
  impl_->with([number](auto& w) { w.Uint64(number); });
  return *this;
}

std::string Writer::take() {
  return std::string(impl_->buffer.GetString(), impl_->buffer.GetSize());
}

namespace {

/// Length of the valid sequence at the front of `text`, 0 if there is none (RFC 3629).
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto more = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return more(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    const bool overlong = first == 0xE0 && byte(1) < 0xA0;
    const bool surrogate = first == 0xED && byte(1) > 0x9F;
    return more(1) && more(2) && !overlong && !surrogate ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    const bool overlong = first == 0xF0 && byte(1) < 0x90;
    const bool too_large = first == 0xF4 && byte(1) > 0x8F;
    return more(1) && more(2) && more(3) && !overlong && !too_large ? 4 : 0;
  }
  return 0;
}

}  // namespace

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = sequence_length(text);
    if (length == 0) {
      out += "\xEF\xBF\xBD";
      text.remove_prefix(1);
    } else {
      out.append(text.substr(0, length));
      text.remove_prefix(length);
    }
  }
  return out;
}

}  // namespace gantry::json
