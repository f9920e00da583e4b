// When output is let come together, with times that the test tells.
#include "engine/supervisor/copy_pace.h"

#include <catch2/catch.hpp>

namespace gantry {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr uint64_t kUsual = 64 << 10;
constexpr uint64_t kLarge = 1 << 20;

TEST_CASE("a line now and then is copied at once") {
  CopyPace pace(0);
  for (int64_t second = 1; second < 5; ++second) {
    const int64_t now = second * 1000 * kMs;
    const auto offset = static_cast<uint64_t>(second) * 80;
    pace.woken(now, offset - 80);
    CHECK_FALSE(pace.busy(now + 10'000, offset));
    CHECK_FALSE(pace.pause(kUsual));
    CHECK_FALSE(pace.busy(now + 20'000, offset));  // nothing more: wait
  }
}

TEST_CASE("a stream that always has a little more gets pauses from its second batch on") {
  CopyPace pace(0);
  pace.woken(1000 * kMs, 0);
  CHECK_FALSE(pace.busy(1000 * kMs + 10'000, 80));
  REQUIRE(pace.busy(1000 * kMs + 20'000, 160));
  CHECK(pace.pause(kUsual));
  CHECK(pace.busy(1002 * kMs, 20'000));
  CHECK(pace.pause(kUsual));
  CHECK_FALSE(pace.busy(1003 * kMs, 20'000));  // silent for the length of a pause
  CHECK_FALSE(pace.pause(kUsual));
}

TEST_CASE("a stream that wakes us again within a millisecond gets pauses") {
  CopyPace pace(0);
  pace.woken(1000 * kMs, 0);
  CHECK_FALSE(pace.busy(1000 * kMs + 10'000, 80));
  CHECK_FALSE(pace.busy(1000 * kMs + 20'000, 80));
  pace.woken(1000 * kMs + 300'000, 80);
  CHECK(pace.busy(1000 * kMs + 310'000, 160));
  CHECK(pace.pause(kUsual));
}

TEST_CASE("no pause that would fill the pipe") {
  CopyPace pace(0);
  pace.woken(1000 * kMs, 0);
  static_cast<void>(pace.busy(1000 * kMs + 10'000, 80));
  REQUIRE(pace.busy(1000 * kMs + 20'000, 160));
  REQUIRE(pace.pause(kLarge));
  REQUIRE(pace.busy(1002 * kMs, 700'000));
  CHECK(pace.pause(kLarge));
  REQUIRE(pace.busy(1004 * kMs, 1'400'000));
  CHECK_FALSE(pace.pause(kUsual));
  static_cast<void>(pace.busy(1004 * kMs + 10'000, 1'401'000));
  REQUIRE(pace.busy(1004 * kMs + 20'000, 1'402'000));
  REQUIRE(pace.pause(kLarge));
  REQUIRE(pace.busy(1005 * kMs, 2'402'000));
  CHECK_FALSE(pace.pause(kLarge));
}

}  // namespace
}  // namespace gantry
