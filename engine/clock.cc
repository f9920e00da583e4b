#include "engine/clock.h"

#include <array>
#include <ctime>
#include <string_view>

#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t read_clock(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * kSecond + now.tv_nsec;
}

}  // namespace

int64_t realtime_ns() {
  return read_clock(CLOCK_REALTIME);
}

int64_t monotonic_ns() {
  return read_clock(CLOCK_MONOTONIC);
}

std::string utc_text(int64_t realtime) {
  const time_t seconds = realtime / kSecond;
  tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 24> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::string nanos = cat(realtime % kSecond);
  nanos.insert(0, 9 - nanos.size(), '0');
  return cat(std::string_view(text.data(), length), ".", nanos, "Z");
}

}  // namespace gantry
