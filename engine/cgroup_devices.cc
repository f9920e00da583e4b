#include "engine/cgroup_devices.h"

#include <algorithm>
#include <cstddef>
#include <limits>

#include "sys/text.h"

namespace gantry {

namespace {

constexpr int64_t kAny = DevicePermission::kAny;

/// RS-23: what every container may do besides.
constexpr DevicePermission kRuntimeRules[] = {
    {true, 'c', kAny, kAny, kDeviceMknod}, {true, 'b', kAny, kAny, kDeviceMknod},
    {true, 'c', 1, 3, kDeviceAll},       // null
    {true, 'c', 1, 8, kDeviceAll},       // random
    {true, 'c', 1, 7, kDeviceAll},       // full
    {true, 'c', 5, 0, kDeviceAll},       // tty
    {true, 'c', 1, 5, kDeviceAll},       // zero
    {true, 'c', 1, 9, kDeviceAll},       // urandom
    {true, 'c', 136, kAny, kDeviceAll},  // pts
    {true, 'c', 5, 2, kDeviceAll},       // ptmx
    {true, 'c', 10, 200, kDeviceAll},    // net/tun
};

std::string number_or_star(int64_t number) {
  return number == kAny ? "*" : cat(number);
}

std::string rule_text(const DevicePermission& rule) {
  std::string text = cat(rule.type, ' ', number_or_star(rule.major), ':', number_or_star(rule.minor), ' ');
  if ((rule.access & kDeviceRead) != 0) text.push_back('r');
  if ((rule.access & kDeviceWrite) != 0) text.push_back('w');
  if ((rule.access & kDeviceMknod) != 0) text.push_back('m');
  return text;
}

bool covers(int64_t wide, int64_t narrow) {
  return wide == kAny || wide == narrow;
}

/// Every device of `narrow` is one of `wide`.
bool covers(const DevicePermission& wide, const DevicePermission& narrow) {
  return wide.type == narrow.type && covers(wide.major, narrow.major) && covers(wide.minor, narrow.minor);
}

bool overlap(int64_t a, int64_t b) {
  return a == kAny || b == kAny || a == b;
}

bool overlap(const DevicePermission& a, const DevicePermission& b) {
  return a.type == b.type && overlap(a.major, b.major) && overlap(a.minor, b.minor);
}

/// What a v1 devices cgroup holds: an answer for everything, and exceptions from it.
class V1State {
 public:
  Result<> add(const DevicePermission& rule) {
    if (rule.everything()) {
      allow_ = rule.allow;
      exceptions_.clear();
      return {};
    }
    if (rule.type != 'a') return add_typed(rule);
    for (const char type : {'c', 'b'}) {
      DevicePermission typed = rule;
      typed.type = type;
      GANTRY_TRY(add_typed(typed));
    }
    return {};
  }

  DeviceWrites writes() const {
    DeviceWrites out{allow_, {}};
    for (const DevicePermission& one : exceptions_) {
      if (!implied(one)) out.exceptions.push_back(rule_text(one));
    }
    return out;
  }

 private:
  Result<> add_typed(const DevicePermission& rule) {
    if (rule.allow == allow_) return drop(rule);
    const auto same = std::ranges::find_if(exceptions_, [&](const DevicePermission& one) {
      return one.type == rule.type && one.major == rule.major && one.minor == rule.minor;
    });
    if (same == exceptions_.end()) {
      exceptions_.push_back(rule);
    } else {
      same->access |= rule.access;
    }
    return {};
  }

  /// The rule agrees with the general answer: it ends exceptions.
  Result<> drop(const DevicePermission& rule) {
    for (DevicePermission& one : exceptions_) {
      if ((one.access & rule.access) == 0 || !overlap(one, rule)) continue;
      if (!covers(rule, one)) {
        return fail(cat("linux.resources.devices: \"", rule.allow ? "allow " : "deny ", rule_text(rule),
                        "\" would make a hole in \"", rule_text(one),
                        "\", which cgroup v1 cannot: name the devices one by one"));
      }
      one.access = static_cast<uint8_t>(one.access & ~rule.access);
    }
    std::erase_if(exceptions_, [](const DevicePermission& one) { return one.access == 0; });
    return {};
  }

  /// Another exception says the same of more devices.
  bool implied(const DevicePermission& one) const {
    return std::ranges::any_of(exceptions_, [&one](const DevicePermission& other) {
      return &other != &one && covers(other, one) && (one.access & ~other.access) == 0;
    });
  }

  bool allow_ = false;
  std::vector<DevicePermission> exceptions_;
};

// Registers of the program. R1 is the context; R3 holds the accesses that no rule has allowed yet.
constexpr uint8_t kScratch = BPF_REG_1, kType = BPF_REG_2, kLeft = BPF_REG_3, kMajor = BPF_REG_4, kMinor = BPF_REG_5;

bpf_insn instruction(int code, uint8_t dst, uint8_t src, int16_t offset, int32_t value) {
  bpf_insn out{};
  out.code = static_cast<uint8_t>(code);
  out.dst_reg = dst & 0xf;
  out.src_reg = src & 0xf;
  out.off = offset;
  out.imm = value;
  return out;
}

bpf_insn load(uint8_t dst, size_t offset) {
  return instruction(BPF_LDX | BPF_MEM | BPF_W, dst, BPF_REG_1, static_cast<int16_t>(offset), 0);
}
bpf_insn alu(int operation, uint8_t dst, int32_t value) {
  return instruction(BPF_ALU | operation | BPF_K, dst, 0, 0, value);
}
bpf_insn jump(int operation, uint8_t dst, int32_t value, size_t over) {
  return instruction(BPF_JMP | operation | BPF_K, dst, 0, static_cast<int16_t>(over), value);
}
void answer(std::vector<bpf_insn>& out, bool allow) {
  out.push_back(instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow ? 1 : 0));
  out.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

/// What a matching rule does; the last instruction may fall through to the next rule.
std::vector<bpf_insn> verdict(const DevicePermission& rule) {
  std::vector<bpf_insn> out;
  if (rule.access != kDeviceAll && rule.allow) {
    out.push_back(alu(BPF_AND, kLeft, kDeviceAll & ~rule.access));
    out.push_back(jump(BPF_JNE, kLeft, 0, 2));
  } else if (rule.access != kDeviceAll) {
    out.push_back(instruction(BPF_ALU | BPF_MOV | BPF_X, kScratch, kLeft, 0, 0));
    out.push_back(alu(BPF_AND, kScratch, rule.access));
    out.push_back(jump(BPF_JEQ, kScratch, 0, 2));
  }
  answer(out, rule.allow);
  return out;
}

void append_rule(std::vector<bpf_insn>& out, const DevicePermission& rule) {
  const std::vector<bpf_insn> body = verdict(rule);
  struct Test {
    uint8_t field;
    int64_t value;
  };
  std::vector<Test> tests;
  if (rule.type != 'a') tests.push_back({kType, rule.type == 'c' ? BPF_DEVCG_DEV_CHAR : BPF_DEVCG_DEV_BLOCK});
  if (rule.major != kAny) tests.push_back({kMajor, rule.major});
  if (rule.minor != kAny) tests.push_back({kMinor, rule.minor});
  for (size_t i = 0; i < tests.size(); ++i) {
    const auto value = static_cast<int32_t>(static_cast<uint32_t>(tests[i].value));
    out.push_back(jump(BPF_JNE, tests[i].field, value, tests.size() - i - 1 + body.size()));
  }
  out.insert(out.end(), body.begin(), body.end());
}

Result<int64_t> device_number(const std::optional<int64_t>& number, size_t index, const char* field) {
  if (!number || *number == kAny) return kAny;
  // Values above 2^31 would be sign-extended by the program's compare; no kernel has them (12 and 20 bits).
  if (*number < 0 || *number > std::numeric_limits<int32_t>::max()) {
    return fail(cat("linux.resources.devices[", index, "].", field, ": ", *number, " is not a device number"));
  }
  return *number;
}

}  // namespace

Result<std::vector<DevicePermission>> device_permissions(const std::vector<DeviceRule>& rules) {
  std::vector<DevicePermission> out;
  out.reserve(rules.size() + std::size(kRuntimeRules));
  for (size_t i = 0; i < rules.size(); ++i) {
    const DeviceRule& rule = rules[i];
    DevicePermission one{rule.allow, rule.type, kAny, kAny, 0};
    if (rule.type != 'a' && rule.type != 'b' && rule.type != 'c') {
      return fail(cat("linux.resources.devices[", i, "].type: \"", rule.type, "\" is not a, b or c"));
    }
    GANTRY_LET(one.major, device_number(rule.major, i, "major"));
    GANTRY_LET(one.minor, device_number(rule.minor, i, "minor"));
    one.access = static_cast<uint8_t>((rule.read ? kDeviceRead : 0) | (rule.write ? kDeviceWrite : 0) |
                                      (rule.mknod ? kDeviceMknod : 0));
    if (one.access == 0) return fail(cat("device access at ", i, " field cannot be empty"));
    out.push_back(one);
  }
  out.insert(out.end(), std::begin(kRuntimeRules), std::end(kRuntimeRules));
  return out;
}

Result<DeviceWrites> device_writes_v1(const std::vector<DevicePermission>& permissions) {
  V1State state;
  for (const DevicePermission& rule : permissions) GANTRY_TRY(state.add(rule));
  return state.writes();
}

std::vector<bpf_insn> device_program(const std::vector<DevicePermission>& permissions) {
  std::vector<bpf_insn> out;
  // access_type: the type in the lower half, the accesses in the upper.
  out.push_back(load(kLeft, offsetof(bpf_cgroup_dev_ctx, access_type)));
  out.push_back(instruction(BPF_ALU | BPF_MOV | BPF_X, kType, kLeft, 0, 0));
  out.push_back(alu(BPF_AND, kType, 0xffff));
  out.push_back(alu(BPF_RSH, kLeft, 16));
  out.push_back(load(kMajor, offsetof(bpf_cgroup_dev_ctx, major)));
  out.push_back(load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor)));
  // The last rule decides, so it comes first. Behind a rule for everything nothing is reachable, and the verifier
  // refuses unreachable code.
  for (auto rule = permissions.rbegin(); rule != permissions.rend(); ++rule) {
    append_rule(out, *rule);
    if (rule->everything()) return out;
  }
  answer(out, false);
  return out;
}

}  // namespace gantry
