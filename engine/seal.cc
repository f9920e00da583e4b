#include "engine/seal.h"

#include <array>
#include <cstdint>
#include <cstdio>

#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::string_view kIntegrity = ",\"integrity\":\"";

/// CRC-32 (IEEE 802.3), bitwise: a record has 2 KB.
uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

std::string hex(uint32_t value) {
  std::array<char, 9> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x", value);
  return digits.data();
}

}  // namespace

std::string seal_json(std::string object, std::string_view boot_id) {
  object.pop_back();  // the closing brace comes after the trailer
  const std::string trailer = cat(object.size(), ":", hex(crc32(object)), ":", boot_id);
  return object.append(kIntegrity).append(trailer).append("\"}\n");
}

bool seal_is_intact(std::string_view bytes, std::string_view boot_id) {
  const auto at = bytes.rfind(kIntegrity);
  if (at == std::string_view::npos) return false;
  auto trailer = bytes.substr(at + kIntegrity.size());
  const auto end = trailer.find('"');
  if (end == std::string_view::npos || trim(trailer.substr(end + 1)) != "}") return false;
  const auto parts = split(trailer.substr(0, end), ':');
  if (parts.size() != 3) return false;
  if (parts[0] != cat(at) || parts[1] != hex(crc32(bytes.substr(0, at)))) return false;
  return boot_id.empty() || parts[2] == boot_id;
}

}  // namespace gantry
