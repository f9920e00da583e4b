// state.json: what is written is read, and nothing damaged is believed.
#include <catch2/catch.hpp>
#include <string>

#include "engine/state_store.h"

namespace gantry {
namespace {

constexpr std::string_view kBoot = "0f9c2f4e-0000-4000-8000-000000000001";

ContainerRecord sample() {
  ContainerRecord record;
  record.id = "web-1";
  record.bundle = "/bundles/we\"b\n";
  record.rootfs = "/bundles/web/rootfs";
  record.phase = Phase::kCommitted;
  record.pid = 4242;
  record.start_time = 18446744073709551615u;
  record.created = "2026-11-22T10:00:00.000000001Z";
  record.annotations = {{"a", "1"}, {"integrity", ",\"integrity\":\"0:0:0\"}"}};
  record.cgroup_mode = "hybrid";
  record.cgroup_paths = {{"memory", "/sys/fs/cgroup/memory/x"}, {"", "/sys/fs/cgroup/unified/x"}};
  record.namespace_paths = {{"NEWNET", "/proc/4242/ns/net"}};
  record.private_pid_ns = false;
  record.notify_socket = true;
  record.create_runtime_begun = true;
  return record;
}

TEST_CASE("SD-02 a record survives writing and reading") {
  const ContainerRecord record = sample();
  const LoadedRecord loaded = decode_record(encode_record(record, kBoot), "web-1", kBoot);
  REQUIRE(loaded.health == RecordHealth::kGood);
  CHECK(loaded.record.pid == record.pid);
  CHECK(loaded.record.start_time == record.start_time);
  CHECK(loaded.record.bundle == record.bundle);
  CHECK(loaded.record.rootfs == record.rootfs);
  CHECK(loaded.record.phase == Phase::kCommitted);
  CHECK(loaded.record.created == record.created);
  CHECK(loaded.record.annotations == record.annotations);
  CHECK(loaded.record.cgroup_mode == record.cgroup_mode);
  CHECK(loaded.record.cgroup_paths == record.cgroup_paths);
  CHECK(loaded.record.namespace_paths == record.namespace_paths);
  CHECK_FALSE(loaded.record.private_pid_ns);
  CHECK(loaded.record.notify_socket);
  CHECK(loaded.record.create_runtime_begun);
}

TEST_CASE("a torn state file reads as crashed at every length") {
  const std::string bytes = encode_record(sample(), kBoot);
  for (size_t length = 0; length + 1 < bytes.size(); ++length) {
    const LoadedRecord loaded = decode_record(std::string_view(bytes).substr(0, length), "web-1", kBoot);
    INFO("length " << length);
    CHECK(loaded.health == RecordHealth::kCrashed);
    CHECK(loaded.record.id == "web-1");
  }
}

TEST_CASE("a flipped byte reads as crashed") {
  const std::string bytes = encode_record(sample(), kBoot);
  for (size_t at = 0; at + 1 < bytes.size(); ++at) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x01);
    INFO("byte " << at);
    CHECK(decode_record(flipped, "web-1", kBoot).health == RecordHealth::kCrashed);
  }
}

TEST_CASE("a record of another boot, or of another container, is not believed") {
  const std::string bytes = encode_record(sample(), kBoot);
  CHECK(decode_record(bytes, "web-1", "another-boot").health == RecordHealth::kCrashed);
  CHECK(decode_record(bytes, "web-2", kBoot).health == RecordHealth::kCrashed);
  CHECK(decode_record(bytes, "web-2", kBoot).record.id == "web-2");
}

TEST_CASE("impossible pids are not believed") {
  for (const pid_t pid : {-1, 1}) {
    ContainerRecord record = sample();
    record.pid = pid;
    CHECK(decode_record(encode_record(record, kBoot), "web-1", kBoot).health == RecordHealth::kCrashed);
  }
}

TEST_CASE("claims of this boot survive, whole lines only") {
  const std::vector<CgroupClaim> first{{"/sys/fs/cgroup/unified/a b", 18446744073709551615u}};
  const std::vector<CgroupClaim> second{{"/sys/fs/cgroup/pids/x", 7}};
  const std::string bytes = encode_claims(first, kBoot) + encode_claims(second, kBoot);
  CHECK(decode_claims(bytes, kBoot) == std::vector<CgroupClaim>{first.front(), second.front()});
  for (size_t length = 0; length < bytes.size(); ++length)
    CHECK(decode_claims(std::string_view(bytes).substr(0, length), kBoot).size() <= 1);
  CHECK(decode_claims(encode_claims(first, "another-boot") + bytes, kBoot).size() == 2);
}

TEST_CASE("nonsense claims nothing") {
  for (const std::string_view tail : {"", " ", " 1", " x /a", " -1 /a", " 1x /a", "  /a"})
    CHECK(decode_claims(std::string(kBoot) + std::string(tail) + "\n", kBoot).empty());
  CHECK(decode_claims("\n\n 1 /a\n", kBoot).empty());
}

}  // namespace
}  // namespace gantry
