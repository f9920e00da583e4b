// Device rules: what v1 is told and what the cgroup2 program answers, against the plain meaning of the rules.
#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <stdexcept>

#include "engine/cgroup_devices.h"
#include "sys/bpf.h"

namespace gantry {
namespace {

constexpr int64_t kAny = DevicePermission::kAny;

struct Request {
  char type;
  uint32_t major, minor;
  uint8_t access;
};

bool speaks_of(const DevicePermission& rule, const Request& request) {
  return (rule.type == 'a' || rule.type == request.type) && (rule.major == kAny || rule.major == request.major) &&
         (rule.minor == kAny || rule.minor == request.minor);
}

/// For each access wanted, the last rule that speaks of it must allow it.
bool meant(const std::vector<DevicePermission>& rules, const Request& request) {
  for (const uint8_t bit : {kDeviceMknod, kDeviceRead, kDeviceWrite}) {
    if ((request.access & bit) == 0) continue;
    bool allowed = false;
    for (const DevicePermission& rule : rules) {
      if (speaks_of(rule, request) && (rule.access & bit) != 0) allowed = rule.allow;
    }
    if (!allowed) return false;
  }
  return true;
}

/// The few instructions the generator uses; anything else, a jump outside or no answer throws.
bool run(const std::vector<bpf_insn>& program, const Request& request) {
  const uint32_t type = request.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
  const bpf_cgroup_dev_ctx context{static_cast<uint32_t>(request.access) << 16 | type, request.major, request.minor};
  uint64_t r[11] = {};
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const bpf_insn& i = program[pc];
    const uint64_t operand = BPF_SRC(i.code) == BPF_X ? r[i.src_reg] : static_cast<uint64_t>(int64_t{i.imm});
    switch (i.code & ~BPF_X) {
      case BPF_LDX | BPF_MEM | BPF_W: {
        uint32_t word = 0;
        std::memcpy(&word, reinterpret_cast<const char*>(&context) + i.off, 4);
        r[i.dst_reg] = word;
        break;
      }
      case BPF_ALU | BPF_MOV:
      case BPF_ALU64 | BPF_MOV:
        r[i.dst_reg] = static_cast<uint32_t>(operand);
        break;
      case BPF_ALU | BPF_AND:
        r[i.dst_reg] = static_cast<uint32_t>(r[i.dst_reg] & operand);
        break;
      case BPF_ALU | BPF_RSH:
        r[i.dst_reg] = static_cast<uint32_t>(r[i.dst_reg]) >> operand;
        break;
      case BPF_JMP | BPF_JNE:
        if (r[i.dst_reg] != operand) pc += static_cast<size_t>(i.off);
        break;
      case BPF_JMP | BPF_JEQ:
        if (r[i.dst_reg] == operand) pc += static_cast<size_t>(i.off);
        break;
      case BPF_JMP | BPF_EXIT:
        return r[0] != 0;
      default:
        throw std::runtime_error("instruction not known");
    }
  }
  throw std::runtime_error("no answer");
}

/// What the kernel makes of the writes (security/device_cgroup.c): one exception must cover the whole request when the
/// general answer is no; any overlap counts when it is yes.
bool run_v1(const DeviceWrites& writes, const Request& request) {
  for (const std::string& text : writes.exceptions) {
    char type = 0;
    char major[16] = {}, minor[16] = {}, access[8] = {};
    REQUIRE(std::sscanf(text.c_str(), "%c %15[^:]:%15s %7s", &type, major, minor, access) == 4);
    if (type != request.type) continue;
    if (std::string_view(major) != "*" && std::stoul(major) != request.major) continue;
    if (std::string_view(minor) != "*" && std::stoul(minor) != request.minor) continue;
    const std::string_view has(access);
    unsigned bits = 0;
    if (has.find('m') != has.npos) bits |= kDeviceMknod;
    if (has.find('r') != has.npos) bits |= kDeviceRead;
    if (has.find('w') != has.npos) bits |= kDeviceWrite;
    if (writes.allow_first ? (bits & request.access) != 0 : (request.access & ~bits) == 0) return !writes.allow_first;
  }
  return writes.allow_first;
}

DevicePermission rule(bool allow, char type, int64_t major, int64_t minor, int access) {
  return {allow, type, major, minor, static_cast<uint8_t>(access)};
}

std::vector<DevicePermission> random_rules(std::mt19937& random) {
  const auto pick = [&random](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  std::vector<DevicePermission> rules;
  for (int count = pick(9); count > 0; --count) {
    const int major = pick(4), minor = pick(4);
    rules.push_back(
        rule(pick(2) == 0, "abc"[pick(3)], major == 3 ? kAny : major, minor == 3 ? kAny : minor, 1 + pick(7)));
    if (pick(5) == 0) rules.push_back(rule(pick(2) == 0, 'a', kAny, kAny, kDeviceAll));
  }
  return rules;
}

}  // namespace

TEST_CASE("the runtime's rules come after the config's") {
  const auto plain = device_permissions({});
  REQUIRE(plain);
  CHECK(plain->size() == 11);
  const auto given =
      device_permissions({{false, 'a', {}, {}, true, true, true}, {true, 'c', 10, -1, true, false, false}});
  REQUIRE(given);
  CHECK(given->front().everything());
  CHECK((*given)[1] == rule(true, 'c', 10, kAny, kDeviceRead));
  CHECK(given->size() == 13);
}

TEST_CASE("rules that mean nothing are named") {
  const auto error = [](DeviceRule one) {
    const std::vector<DeviceRule> rules(1, one);
    const auto done = device_permissions(rules);
    return done ? std::string() : done.error().text;
  };
  CHECK(error({true, 'c', 1, 3, false, false, false}) == "device access at 0 field cannot be empty");
  CHECK(error({true, 'x', 1, 3, true, true, true}) == "linux.resources.devices[0].type: \"x\" is not a, b or c");
  CHECK(error({true, 'c', -2, 3, true, true, true}) == "linux.resources.devices[0].major: -2 is not a device number");
  CHECK(error({true, 'c', 1, int64_t{1} << 40, true, true, true}).find("minor") != std::string::npos);
}

TEST_CASE("v1 gets one general answer and the fewest exceptions") {
  const auto usual = device_writes_v1(*device_permissions({{false, 'a', {}, {}, true, true, true}}));
  REQUIRE(usual);
  CHECK_FALSE(usual->allow_first);
  CHECK(usual->exceptions == std::vector<std::string>{"c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm",
                                                      "c 5:0 rwm", "c 1:5 rwm", "c 1:9 rwm", "c 136:* rwm", "c 5:2 rwm",
                                                      "c 10:200 rwm"});
  const auto open = device_writes_v1(*device_permissions({{true, 'a', {}, {}, true, true, true}}));
  CHECK(open->allow_first);
  CHECK(open->exceptions.empty());
  // A wider rule makes the narrower ones superfluous; a repeated one joins its twin.
  const auto wide = device_writes_v1({rule(true, 'c', 1, 3, kDeviceRead), rule(true, 'c', 1, 3, kDeviceWrite),
                                      rule(true, 'c', 1, kAny, kDeviceAll), rule(true, 'b', 8, 0, kDeviceRead)});
  CHECK(wide->exceptions == std::vector<std::string>{"c 1:* rwm", "b 8:0 r"});
}

TEST_CASE("a hole that v1 cannot make is refused, not forgotten") {
  const auto hole = device_writes_v1({rule(true, 'c', 1, kAny, kDeviceAll), rule(false, 'c', 1, 3, kDeviceWrite)});
  REQUIRE_FALSE(hole);
  CHECK(hole.error().text.find("deny c 1:3 w") != std::string::npos);
  // Podman's list denies fuse before anything wider is allowed: nothing to forbid yet.
  CHECK(device_writes_v1({rule(false, 'c', 10, 229, kDeviceAll), rule(true, 'c', kAny, kAny, kDeviceMknod)}));
}

TEST_CASE("program and v1 files answer as the rules mean, for thousands of random lists") {
  std::mt19937 random(20);
  int compared_v1 = 0;
  for (int list = 0; list < 1500; ++list) {
    const auto rules = random_rules(random);
    const auto program = device_program(rules);
    const auto writes = device_writes_v1(rules);
    for (const char type : {'b', 'c'}) {
      for (uint32_t device = 0; device < 16; ++device) {
        for (const uint8_t access : {uint8_t{1}, uint8_t{2}, uint8_t{4}, uint8_t{6}}) {
          const Request request{type, device / 4, device % 4, access};
          const bool want = meant(rules, request);
          if (run(program, request) != want) FAIL("the program differs in list " << list);
          // v1 wants one exception for read and write together, so a pair of rules may be narrower there.
          if (!writes || access == 6) continue;
          ++compared_v1;
          if (run_v1(*writes, request) != want) FAIL("v1 differs in list " << list);
        }
      }
    }
  }
  CHECK(compared_v1 > 10'000);
}

TEST_CASE("host: the kernel's verifier takes every program", "[.][host]") {
  std::mt19937 random(7);
  for (int list = 0; list < 200; ++list) {
    const auto loaded = sys::bpf_load_device_program(device_program(random_rules(random)));
    if (!loaded) FAIL(loaded.error().text);
  }
}

}  // namespace gantry
