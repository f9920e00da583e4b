// What becomes of a definition when a run ends: whether another one is due, and when.
#include <catch2/catch.hpp>
#include <vector>

#include "engine/supervisor/definition.h"

namespace gantry {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

api::Exit exit_of(int code, int signal = 0) {
  api::Exit exit;
  exit.known = true;
  exit.code = code;
  exit.signal = signal;
  return exit;
}

Definition definition_of(api::Restart when, unsigned max_retries = 0) {
  Definition made;
  made.restart = {when, max_retries};
  return made;
}

TEST_CASE("only a run that began, and lived for ten seconds, forgives the failures before it") {
  struct Row {
    bool begun;
    int64_t lived_ns;
    uint32_t failures;
  };
  // A start may take long: a prestart hook that was stuck for minutes and then killed is no healthy run.
  for (const Row& row : {Row{true, 0, 4}, Row{true, 10 * kSecond - 1, 4}, Row{true, 10 * kSecond, 0}, Row{false, 0, 4},
                         Row{false, 10 * kSecond, 4}, Row{false, 3600 * kSecond, 4}}) {
    INFO("begun " << row.begun << ", lived " << row.lived_ns);
    Definition definition = definition_of(api::Restart::kAlways);
    definition.failures = 3;
    definition.started_ns = 77;
    CHECK(definition.end_run(exit_of(1), row.begun, 77 + row.lived_ns));
    CHECK(definition.failures == row.failures);
    CHECK(definition.run == 2);
    CHECK(definition.last_run == 1);
    CHECK_FALSE(definition.ended());
  }
}

TEST_CASE("each failure doubles the back-off, up to a minute") {
  Definition definition = definition_of(api::Restart::kAlways);
  std::vector<int64_t> waits;
  for (definition.failures = 0; definition.failures < 12; ++definition.failures)
    waits.push_back(definition.back_off_ms());
  CHECK(waits == std::vector<int64_t>{0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000});
  for (const uint32_t many : {16u, 17u, 64u, 1u << 31, ~0u}) {
    definition.failures = many;
    CHECK(definition.back_off_ms() == 60'000);
  }
}

TEST_CASE("which ends are followed by another run") {
  struct Row {
    api::Restart when;
    unsigned max_retries;
    api::Exit exit;
    bool stopped, quarantined, again;
  };
  const api::Exit unknown;
  using api::Restart;
  const Row rows[] = {
      {Restart::kNo, 0, exit_of(1), false, false, false},
      {Restart::kNo, 0, unknown, false, false, false},
      {Restart::kAlways, 0, exit_of(0), false, false, true},
      {Restart::kAlways, 0, unknown, false, false, true},
      {Restart::kAlways, 0, exit_of(0), true, false, false},
      {Restart::kAlways, 0, exit_of(1), false, true, false},
      {Restart::kOnFailure, 0, exit_of(0), false, false, false},
      {Restart::kOnFailure, 0, exit_of(1), false, false, true},
      {Restart::kOnFailure, 0, exit_of(0, 9), false, false, true},
      {Restart::kOnFailure, 0, unknown, false, false, true},
      {Restart::kOnFailure, 2, exit_of(1), false, false, true},
      {Restart::kOnFailure, 2, exit_of(1), true, false, false},
  };
  for (const Row& row : rows) {
    INFO("row " << &row - rows);
    Definition definition = definition_of(row.when, row.max_retries);
    definition.stopped_by_user = row.stopped;
    definition.quarantined = row.quarantined;
    CHECK(definition.end_run(row.exit, true, 0) == row.again);
    CHECK(definition.run == (row.again ? 2u : 1u));
    CHECK(definition.restarts == (row.again ? 1u : 0u));
    CHECK(definition.ended() != row.again);
  }
}

TEST_CASE("retries are counted, whether or not the runs began") {
  Definition definition = definition_of(api::Restart::kOnFailure, 3);
  CHECK(definition.end_run(exit_of(1), true, 0));
  CHECK(definition.end_run(api::Exit(), false, 0));
  CHECK(definition.end_run(exit_of(1), true, 0));
  CHECK_FALSE(definition.end_run(exit_of(1), true, 0));
  CHECK(definition.restarts == 3);
  CHECK(definition.run == 4);
}

TEST_CASE("the keeper's word for a run names the key and the run, and no other") {
  Definition one = definition_of(api::Restart::kNo), other = one;
  one.key = 0xfedcba98;
  other.key = 0xfedcba99;
  CHECK(one.owner() != other.owner());
  CHECK(Definition::key_of(one.owner()) == one.key);
  const uint64_t before = one.owner();
  ++one.run;
  CHECK(one.owner() != before);
  CHECK(Definition::key_of(one.owner()) == one.key);
  CHECK(static_cast<uint32_t>(one.owner()) == 2);
}

}  // namespace
}  // namespace gantry
