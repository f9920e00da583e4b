#include "engine/go_quote.h"

#include <cstdint>

namespace gantry {

namespace {

struct Rune {
  uint32_t code = 0;
  size_t bytes = 0;  ///< 0: no valid UTF-8 starts here
};

Rune decode(std::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return {};
  uint32_t code = first & (0x7fU >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3fU);
  }
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < least[length] || code > 0x10ffff || surrogate ? Rune{} : Rune{code, length};
}

void append_hex(std::string& out, char mark, uint32_t code, int digits) {
  out.append({'\\', mark});
  for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4) out.push_back("0123456789abcdef"[code >> shift & 0xf]);
}

// Spaces other than ' ', format and private characters; a short list instead of Unicode's tables.
bool invisible(uint32_t code) {
  return (code >= 0x80 && code <= 0xa0) || code == 0xad || (code >= 0x2000 && code <= 0x200f) ||
         (code >= 0x2028 && code <= 0x202f) || (code >= 0x205f && code <= 0x206f) || code == 0x3000 ||
         (code >= 0xe000 && code <= 0xf8ff) || code == 0xfeff || (code >= 0xfff0 && code <= 0xfffb) || code >= 0xe0000;
}

void append_ascii(std::string& out, char c) {
  constexpr std::string_view raw = "\a\b\f\n\r\t\v\\\"", names = "abfnrtv\\\"";
  if (const auto at = raw.find(c); at != std::string_view::npos) {
    out.append({'\\', names[at]});
  } else if (c < ' ' || c == '\x7f') {
    append_hex(out, 'x', static_cast<unsigned char>(c), 2);
  } else {
    out.push_back(c);
  }
}

}  // namespace

std::string go_quote(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const Rune rune = decode(text);
    if (rune.bytes == 0) {
      append_hex(out, 'x', static_cast<unsigned char>(text[0]), 2);
    } else if (rune.bytes == 1) {
      append_ascii(out, text[0]);
    } else if (invisible(rune.code)) {
      rune.code > 0xffff ? append_hex(out, 'U', rune.code, 8) : append_hex(out, 'u', rune.code, 4);
    } else {
      out.append(text.substr(0, rune.bytes));
    }
    text.remove_prefix(rune.bytes == 0 ? 1 : rune.bytes);
  }
  return out + "\"";
}

}  // namespace gantry
