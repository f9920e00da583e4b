// SE-18: what may be done in which status.
#include <catch2/catch.hpp>

#include "engine/lifecycle.h"

namespace gantry {
namespace {

TEST_CASE("LC-09 start only what is created") {
  CHECK(permits(Status::kCreated, Verb::kStart));
  for (const Status status : {Status::kCreating, Status::kRunning, Status::kPaused, Status::kStopped})
    CHECK_FALSE(permits(status, Verb::kStart));
}

TEST_CASE("LC-10 kill whatever has a process") {
  for (const Status status : {Status::kCreating, Status::kCreated, Status::kRunning, Status::kPaused})
    CHECK(permits(status, Verb::kKill));
  CHECK_FALSE(permits(Status::kStopped, Verb::kKill));
}

TEST_CASE("KD-07 delete what is stopped or created") {
  CHECK(permits(Status::kStopped, Verb::kDelete));
  CHECK(permits(Status::kCreated, Verb::kDelete));
  for (const Status status : {Status::kCreating, Status::kRunning, Status::kPaused})
    CHECK_FALSE(permits(status, Verb::kDelete));
}

TEST_CASE("KD-12 KD-13 pause and resume") {
  CHECK(permits(Status::kRunning, Verb::kPause));
  CHECK(permits(Status::kCreated, Verb::kPause));
  CHECK_FALSE(permits(Status::kPaused, Verb::kPause));
  CHECK(permits(Status::kPaused, Verb::kResume));
  CHECK_FALSE(permits(Status::kRunning, Verb::kResume));
}

TEST_CASE("EX-18 EX-19 EX-21 exec") {
  CHECK(permits(Status::kCreated, Verb::kExec));
  CHECK(permits(Status::kRunning, Verb::kExec));
  CHECK_FALSE(permits(Status::kPaused, Verb::kExec));
  CHECK_FALSE(permits(Status::kStopped, Verb::kExec));
}

TEST_CASE("UP-08 update runs on everything alive") {
  CHECK(permits(Status::kPaused, Verb::kUpdate));
  CHECK_FALSE(permits(Status::kStopped, Verb::kUpdate));
}

TEST_CASE("SL-02 names") {
  CHECK(status_name(Status::kCreating) == "creating");
  CHECK(status_name(Status::kStopped) == "stopped");
}

}  // namespace
}  // namespace gantry
