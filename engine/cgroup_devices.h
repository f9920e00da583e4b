// Which devices a container may use: the config's rules and the runtime's own, for v1 files and as a cgroup2 program.
//
// Pure. The last rule that speaks of a device and an access decides; without one the answer is no (RS-23).
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

enum DeviceAccess : uint8_t {
  kDeviceMknod = 1,
  kDeviceRead = 2,
  kDeviceWrite = 4,
  kDeviceAll = 7
};  // as BPF_DEVCG_ACC_*

/// A rule without alternatives left open.
struct DevicePermission {
  static constexpr int64_t kAny = -1;
  bool allow = false;
  char type = 'a';  ///< 'a', 'b' or 'c'
  int64_t major = kAny;
  int64_t minor = kAny;
  uint8_t access = 0;  ///< DeviceAccess
  bool operator==(const DevicePermission&) const = default;
  /// Every device, every access.
  bool everything() const { return type == 'a' && major == kAny && minor == kAny && access == kDeviceAll; }
};

/// The config's rules in order and then the runtime's: mknod of anything, the default nodes, ptys, tun.
Result<std::vector<DevicePermission>> device_permissions(const std::vector<DeviceRule>& rules);

/// What to write on v1. A fresh cgroup starts with its parent's rules, so the first write is always for "a".
struct DeviceWrites {
  bool allow_first = false;  ///< "a" goes to devices.allow and `exceptions` to devices.deny; else the reverse
  std::vector<std::string> exceptions;  ///< "c 1:3 rwm"
};

/// Reduces the rules to the fewest writes. v1 cannot make a hole in an exception: that is an error naming the rule.
Result<DeviceWrites> device_writes_v1(const std::vector<DevicePermission>& permissions);

/// The BPF_PROG_TYPE_CGROUP_DEVICE program for the rules.
std::vector<bpf_insn> device_program(const std::vector<DevicePermission>& permissions);

}  // namespace gantry
