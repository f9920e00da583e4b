#include <unistd.h>

#include <catch2/catch.hpp>

#include "engine/supervisor/suspects.h"

namespace gantry {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

/// What a successor sees: the same memory, mapped again.
Suspects successor(const Suspects& of) {
  auto adopted = Suspects::adopt(sys::Fd(::dup(of.memfd().get())));
  REQUIRE(adopted);
  return std::move(*adopted);
}

TEST_CASE("what was worked on in three crashes within ten seconds is guilty, and only that") {
  auto made = Suspects::make();
  REQUIRE(made);
  for (int crash = 1; crash <= 3; ++crash) {
    made->begin(7);
    made->begin(static_cast<uint32_t>(100 + crash));  // another bystander each time
    made->begin(8);
    made->end(8, true);
    Suspects next = successor(*made);
    const auto guilty = next.after_crash(crash * kSecond);
    if (crash < 3)
      CHECK(guilty.empty());
    else
      CHECK(guilty == std::vector<uint32_t>{7});
  }
}

TEST_CASE("crashes further apart than ten seconds do not add up") {
  auto made = Suspects::make();
  REQUIRE(made);
  for (int crash = 1; crash <= 6; ++crash) {
    made->begin(7);
    CHECK(made->after_crash(crash * 11 * kSecond).empty());
  }
}

TEST_CASE("a supervisor that was killed from outside says nothing about what it worked on") {
  auto made = Suspects::make();
  REQUIRE(made);
  for (int round = 1; round <= 2; ++round) {
    made->begin(7);
    CHECK(made->after_crash(round).empty());
  }
  for (int round = 0; round < 5; ++round) {
    made->begin(7);
    made->after_kill();
  }
  CHECK(made->after_crash(3).empty());
}

TEST_CASE("an operation that comes through forgives") {
  auto made = Suspects::make();
  REQUIRE(made);
  for (int round = 0; round < 5; ++round) {
    made->begin(7);
    CHECK(made->after_crash(round * kSecond).empty());
    made->begin(7);
    made->end(7, true);
  }
}

TEST_CASE("more containers than places: nothing breaks, and places come back") {
  auto made = Suspects::make();
  REQUIRE(made);
  for (uint32_t key = 1; key <= Suspects::kPlaces + 10; ++key) made->begin(key);
  for (uint32_t key = 1; key <= Suspects::kPlaces + 10; ++key) made->end(key, true);
  for (int crash = 1; crash <= 3; ++crash) {
    made->begin(5000);
    CHECK(made->after_crash(crash).size() == (crash == 3 ? 1u : 0u));
  }
}

TEST_CASE("memory that is not ours is refused") {
  const auto other = Suspects::adopt(sys::Fd(::dup(STDIN_FILENO)));
  REQUIRE_FALSE(other);
}

}  // namespace
}  // namespace gantry
