// Names and numbers of Linux capabilities (capabilities(7)), and what this process may still grant.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "sys/result.h"

namespace gantry::sys {

/// The number of a capability by its configuration name: "CAP_KILL", any case, the prefix may be missing. Nothing for
/// a name that this build does not know, whether or not the kernel does.
std::optional<int> capability_number(std::string_view name);

/// "CAP_KILL" for 5; an empty view for a number without a name. Points to static storage.
std::string_view capability_name(int number);

/// All names this build knows, in the order of their numbers, without gaps from 0.
std::span<const std::string_view> capability_names();

/// The calling thread's bounding set as a mask: what a container can be given at most. Kernel numbers beyond 63 cannot
/// occur (capget(2) has two 32-bit words). Fails only where PR_CAPBSET_READ itself is refused.
Result<uint64_t> bounding_capabilities();

/// The calling thread's effective set (capget(2), version 3).
Result<uint64_t> effective_capabilities();

}  // namespace gantry::sys
