// Base64 (RFC 4648, with padding).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gantry {

std::string base64(std::string_view bytes);
/// Nothing for what is not the base64 of something.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace gantry
