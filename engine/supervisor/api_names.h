// The methods' names, in the order of api::Call.
#pragma once

#include <array>
#include <string_view>
#include <variant>

#include "engine/supervisor/api.h"

namespace gantry::api {

inline constexpr std::array<std::string_view, std::variant_size_v<Call>> kMethods{
    "Up", "Wait", "Stop", "Remove", "Signal", "Pause", "Resume", "ReopenLog", "List", "Status",
};

inline constexpr std::string_view kFailed = "gantry.supervisor.Failed";

}  // namespace gantry::api
