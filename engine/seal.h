// What makes a record trustworthy: a last member "integrity" with the length, CRC and boot id of everything before it.
#pragma once

#include <string>
#include <string_view>

namespace gantry {

/// `object` is one JSON object on one line; the result has the member "integrity" at its end, and a newline.
std::string seal_json(std::string object, std::string_view boot_id);

/// Whether length and CRC fit, and the boot id, if `boot_id` is not empty. Total: any bytes are fine.
bool seal_is_intact(std::string_view bytes, std::string_view boot_id);

}  // namespace gantry
