// Points in time as records show them.
#pragma once

#include <cstdint>
#include <string>

namespace gantry {

/// Nanoseconds on CLOCK_REALTIME.
int64_t realtime_ns();
/// Nanoseconds on CLOCK_MONOTONIC.
int64_t monotonic_ns();

/// RFC 3339 with nine digits, UTC: "2026-01-02T03:04:05.000000006Z".
std::string utc_text(int64_t realtime);

}  // namespace gantry
