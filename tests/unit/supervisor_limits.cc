#include "engine/supervisor/limits.h"

#include <catch2/catch.hpp>

using namespace gantry;

namespace {

LimitsUse plenty() {
  LimitsUse use;
  use.files_max = 1024;
  use.files_used = 40;
  use.runs = 10;
  use.cgroups = {{"/sys/fs/cgroup/pids/a", 100, 20}};
  use.terminals_max = 4096;
  use.terminals_reserved = 1024;
  use.terminals_used = 3;
  return use;
}

std::string refusal(const LimitsUse& use, bool terminal) {
  const auto checked = check_limits(use, terminal);
  return checked ? "" : checked.error().text;
}

}  // namespace

TEST_CASE("a supervisor with room admits") {
  CHECK(refusal(plenty(), true).empty());
}

TEST_CASE("descriptors run out by what is open or by what runs could open") {
  LimitsUse use = plenty();
  use.files_used = use.files_max - kFilesReserved - kFilesPerRun;
  CHECK(refusal(use, false).empty());
  ++use.files_used;
  CHECK(refusal(use, false).starts_with("RLIMIT_NOFILE of the supervisor is 1024,"));
  use = plenty();
  use.files_used = 0;
  use.files_max = 10000;
  use.runs = (use.files_max - kFilesReserved) / kFilesPerRun - 1;
  CHECK(refusal(use, false).empty());
  ++use.runs;
  CHECK(refusal(use, false).find("LimitNOFILE=") != std::string::npos);
}

TEST_CASE("the keeper holds its descriptors under high numbers") {
  LimitsUse use = plenty();
  use.files_max = 700;
  use.runs = 57;
  CHECK(refusal(use, false).empty());
  ++use.runs;
  CHECK_FALSE(refusal(use, false).empty());
}

TEST_CASE("the process limit of any cgroup above counts") {
  LimitsUse use = plenty();
  use.cgroups.push_back({"/sys/fs/cgroup/pids", 1000, 1000 - kProcessesPerStart});
  CHECK(refusal(use, false).empty());
  ++use.cgroups.back().current;
  CHECK(refusal(use, false) ==
        "pids.max of the supervisor's cgroup /sys/fs/cgroup/pids is 1000 and 998 processes are in it: raise it "
        "(TasksMax= of the unit)");
}

TEST_CASE("terminals matter to those that want one") {
  LimitsUse use = plenty();
  use.terminals_used = 3071;
  CHECK(refusal(use, true).empty());
  ++use.terminals_used;
  CHECK(refusal(use, false).empty());
  CHECK(refusal(use, true).starts_with("kernel.pty.max is 4096, of which 1024"));
  use.terminals_max = use.terminals_reserved = 0;
  CHECK(refusal(use, true).empty());
}

TEST_CASE("who wants a terminal") {
  CHECK_FALSE(wants_terminal("{}"));
  CHECK_FALSE(wants_terminal(R"({"ociVersion":"1.0.0","process":{"terminal":false,"args":["x"],"cwd":"/"}})"));
  CHECK(wants_terminal(R"({"ociVersion":"1.0.0","process":{"terminal":true,"args":["x"],"cwd":"/"}})"));
}

TEST_CASE("this process has room") {
  const LimitsUse use = look_at_limits(0, true);
  CHECK(use.files_max > 0);
  CHECK(use.terminals_max > 0);
}
