#include "engine/seal.h"

#include <array>
#include <cstdint>

#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::string_view kIntegrity = ",\"integrity\":\"";

/// What CRC-32 (IEEE 802.3) makes of four bits: two steps for each byte, and a table of one cache line.
constexpr std::array<uint32_t, 16> kNibbles = [] {
  std::array<uint32_t, 16> table{};
  for (uint32_t value = 0; value < table.size(); ++value) {
    uint32_t crc = value;
    for (int bit = 0; bit < 4; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    table[value] = crc;
  }
  return table;
}();

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    crc = (crc >> 4) ^ kNibbles[crc & 15];
    crc = (crc >> 4) ^ kNibbles[crc & 15];
  }
  return ~crc;
}

std::string hex(uint32_t value) {
  std::string digits(8, '0');
  for (auto digit = digits.rbegin(); value != 0; ++digit, value >>= 4) *digit = "0123456789abcdef"[value & 15];
  return digits;
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
