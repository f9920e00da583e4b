// Values for cgroup files.
#include <catch2/catch.hpp>

#include "engine/cgroup_values.h"

namespace gantry {

TEST_CASE("cpu.shares become cpu.weight") {
  CHECK(cpu_weight_of_shares(2) == 1);
  CHECK(cpu_weight_of_shares(1) == 1);
  CHECK(cpu_weight_of_shares(1024) == 100);
  CHECK(cpu_weight_of_shares(262144) == 10000);
  CHECK(cpu_weight_of_shares(~uint64_t{0}) == 10000);
  uint64_t last = 0;
  for (uint64_t shares = 2; shares < 300'000; shares += 7) {
    const uint64_t weight = cpu_weight_of_shares(shares);
    REQUIRE(weight >= last);
    REQUIRE(weight >= 1);
    REQUIRE(weight <= 10000);
    last = weight;
  }
}

TEST_CASE("blkio weights become io weights") {
  CHECK(io_weight_of_blkio(10) == 1);
  CHECK(io_weight_of_blkio(500) == 4950);
  CHECK(io_weight_of_blkio(1000) == 10000);
}

TEST_CASE("limits") {
  CHECK(limit_or_max(-1) == "max");
  CHECK(limit_or_max(7) == "7");
  CHECK(limit_or_max(0) == "0");
  CHECK(pids_max_v2(0) == "1");
  CHECK(pids_max_v2(-1) == "max");
  CHECK(pids_max_v2(5) == "5");
}

TEST_CASE("a blockIO weight has the same range everywhere") {
  BlkioResources blkio;
  CHECK(check_blkio_weights(blkio));
  for (const uint16_t weight : std::vector<uint16_t>{0, 10, 1000}) {
    blkio.weight = weight;
    CHECK(check_blkio_weights(blkio));
  }
  for (const uint16_t weight : std::vector<uint16_t>{1, 9, 1001}) {
    blkio.weight = weight;
    CHECK_FALSE(check_blkio_weights(blkio));
  }
  blkio.weight = 5;
  CHECK(check_blkio_weights(blkio).error().text == "linux.resources.blockIO.weight 5 is not from 10 to 1000");
  blkio.weight.reset();
  blkio.weight_devices.emplace_back().leaf_weight = 1001;
  CHECK(check_blkio_weights(blkio).error().text ==
        "linux.resources.blockIO.weightDevice: leafWeight 1001 is not from 10 to 1000");
}

TEST_CASE("v1's memory+swap becomes v2's swap") {
  CHECK(*swap_max_v2(100, 150) == 50);
  CHECK(*swap_max_v2(100, 100) == 0);
  CHECK(*swap_max_v2(100, -1) == -1);
  CHECK(*swap_max_v2(-1, 0) == -1);
  CHECK(*swap_max_v2(100, 0) == std::nullopt);
  CHECK(*swap_max_v2(0, 0) == std::nullopt);
  CHECK(swap_max_v2(100, 50).error().text == "memory+swap limit should be >= memory limit");
  CHECK(swap_max_v2(0, 50).error().text == "unable to set swap limit without memory limit");
  CHECK_FALSE(swap_max_v2(-1, 50));
}

TEST_CASE("unified keys are file names of the cgroup itself") {
  CHECK(*unified_controller("memory.high") == "memory");
  CHECK(*unified_controller("hugetlb.2MB.max") == "hugetlb");
  CHECK(*unified_controller("cgroup.max.depth") == "cgroup");
  CHECK(unified_controller("../memory.high").error().text ==
        "unified resource \"../memory.high\" must be a file name (no slashes)");
  for (const std::string key : {"memory", "..", ".memory", "memory.", "a..b", "", "memory.high\n", "memory .high"}) {
    CHECK(unified_controller(key).error().text ==
          "unified resource \"" + key + "\" must be in the form CONTROLLER.PARAMETER");
  }
  CHECK_FALSE(unified_controller(std::string("memory.h\0x", 10)));
}

TEST_CASE("names that become parts of files and lines are checked") {
  CHECK(check_page_size("2MB"));
  CHECK(check_page_size("64KB"));
  for (const char* const size : {"", "MB", "2", "2mb", "2MB.x", "../2MB", "2 MB"}) CHECK_FALSE(check_page_size(size));
  CHECK(*rdma_line("mlx5_1", {3, {}}) == "mlx5_1 hca_handle=3");
  CHECK(*rdma_line("mlx5_1", {3, 4}) == "mlx5_1 hca_handle=3 hca_object=4");
  CHECK_FALSE(rdma_line("a b", {3, 4}));
  CHECK(*priority_line("eth0", 5) == "eth0 5");
  CHECK_FALSE(priority_line("eth0\neth1", 5));
}

TEST_CASE("swappiness is a percentage") {
  MemoryResources memory;
  CHECK(*swappiness_value(memory) == std::nullopt);
  memory.swappiness = ~uint64_t{0};
  CHECK(*swappiness_value(memory) == std::nullopt);
  memory.swappiness = 100;
  CHECK(*swappiness_value(memory) == 100);
  memory.swappiness = 101;
  CHECK(swappiness_value(memory).error().text == "invalid memory swappiness value: 101 (valid range is 0-100)");
}

}  // namespace gantry
