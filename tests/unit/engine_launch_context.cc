// What the plan builder is told about the host.
#include "engine/launch_context.h"

#include <catch2/catch.hpp>

using namespace gantry;

TEST_CASE("MT-16 the options of cgroup2 as mountinfo has them") {
  const auto options = [](const char* text) { return cgroup2_options(*sys::parse_mountinfo(text)); };
  CHECK(options("30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 "
                "rw,seclabel,nsdelegate,memory_recursiveprot\n") ==
        std::vector<std::string>{"nsdelegate", "memory_recursiveprot"});
  CHECK(options("30 24 0:26 / /a rw - tmpfs nsdelegate rw,nsdelegate\n31 24 0:27 / /b rw - cgroup2 c ro\n").empty());
  CHECK(options("").empty());
}
