// Limits on cgroup2: one directory for all controllers.
#include <algorithm>

#include "engine/cgroup_apply.h"
#include "engine/cgroup_devices.h"
#include "sys/bpf.h"
#include "sys/cgroup_fs.h"
#include "sys/text.h"

namespace gantry {

const char* controller_v2(CgroupPart part) {
  switch (part) {
    case CgroupPart::kIo:
      return "io";
    case CgroupPart::kNetCls:
    case CgroupPart::kNetPrio:
      return nullptr;
    default:
      return controller_v1(part);
  }
}

bool CgroupV2::has(std::string_view controller) const {
  return std::ranges::find(controllers_, controller) != controllers_.end();
}

Result<> CgroupV2::set(CgroupPart part) {
  const char* const name = controller_v2(part);
  if (name == nullptr) {
    change_.warnings.push_back(cat("linux.resources.network is ignored: cgroup v2 has no ", controller_v1(part)));
    return {};
  }
  if (part != CgroupPart::kDevices && !has(name)) {
    return fail(cat("cannot set ", name, " limit: controller \"", name, "\" is not available in ", dir_));
  }
  switch (part) {
    case CgroupPart::kPids:
      return write("pids.max", pids_max_v2(*change_.resources.pids_limit));
    case CgroupPart::kMemory:
      return memory();
    case CgroupPart::kIo:
      return io();
    case CgroupPart::kCpu:
      return cpu();
    case CgroupPart::kDevices:
      return devices();
    case CgroupPart::kCpuset:
      return cpuset();
    case CgroupPart::kHugetlb:
      return hugetlb("max");
    case CgroupPart::kRdma:
      return rdma();
    case CgroupPart::kNetCls:
    case CgroupPart::kNetPrio:
      break;
  }
  return {};
}

Result<> CgroupV2::memory() {
  const MemoryResources& m = change_.resources.memory;
  int64_t limit = m.limit.value_or(0);
  const int64_t swap = m.swap.value_or(0);
  if (m.check_before_update && *m.check_before_update) GANTRY_TRY(memory_check(limit, swap));
  if (limit == 0 && swap > 0 && change_.update) {
    // Swap alone is meant together with the limit in force.
    GANTRY_LET(const std::string current, sys::read_cgroup_value(dir_, "memory.max"));
    limit = parse_number<int64_t>(current).value_or(-1);
  }
  GANTRY_LET(const auto swap_max, swap_max_v2(limit, swap));
  if (swap_max) {
    const auto done = write("memory.swap.max", limit_or_max(*swap_max));
    // A kernel without swap has no such file: "none" and "any" are both true then.
    if (!done && !(missing(done) && *swap_max <= 0)) return done;
  }
  if (m.limit && *m.limit != 0) GANTRY_TRY(write("memory.max", limit_or_max(*m.limit)));
  if (m.reservation && *m.reservation != 0) GANTRY_TRY(write("memory.low", limit_or_max(*m.reservation)));
  if (m.kernel || m.kernel_tcp) change_.warnings.push_back("Kernel memory settings are ignored and will be removed");
  GANTRY_TRY(swappiness_value(m));
  if (m.swappiness || (m.disable_oom_killer && *m.disable_oom_killer)) {
    change_.warnings.push_back("linux.resources.memory: swappiness and disableOOMKiller are ignored on cgroup v2");
  }
  return {};
}

/// RS-08: memory.max below the use would kill instead of failing.
Result<> CgroupV2::memory_check(int64_t limit, int64_t swap) const {
  if (limit <= 0 && swap <= 0) return {};
  GANTRY_LET(const std::string text, sys::read_cgroup_value(dir_, "memory.current"));
  const auto usage = parse_number<int64_t>(text).value_or(0);
  if (limit > 0 && limit < usage) return fail(cat("rejecting memory limit ", limit, " < usage ", usage));
  if (swap <= 0) return {};
  const auto swapped = sys::read_cgroup_value(dir_, "memory.swap.current");
  const int64_t both = usage + (swapped ? parse_number<int64_t>(*swapped).value_or(0) : 0);
  if (swap < both) return fail(cat("rejecting memory+swap limit ", swap, " < usage ", both));
  return {};
}

Result<> CgroupV2::cpu() {
  const CpuResources& c = change_.resources.cpu;
  if (c.idle) GANTRY_TRY(write("cpu.idle", cat(*c.idle)));
  if (c.shares && *c.shares != 0) GANTRY_TRY(write("cpu.weight", cat(cpu_weight_of_shares(*c.shares))));
  bool burst_again = false;
  if (c.burst) {
    auto done = write("cpu.max.burst", cat(*c.burst));
    // It may not exceed the quota: perhaps the new one.
    burst_again = refused(done);
    if (!done && !burst_again) return done;
  }
  GANTRY_TRY(cpu_max());
  if (burst_again) GANTRY_TRY(write("cpu.max.burst", cat(*c.burst)));
  if ((c.realtime_period && *c.realtime_period != 0) || (c.realtime_runtime && *c.realtime_runtime != 0)) {
    change_.warnings.push_back("linux.resources.cpu: realtimeRuntime and realtimePeriod are ignored on cgroup v2");
  }
  return {};
}

Result<> CgroupV2::cpu_max() {
  const CpuResources& c = change_.resources.cpu;
  const bool quota = c.quota && *c.quota != 0, period = c.period && *c.period != 0;
  if (!quota && !period) return {};
  std::string value = quota ? limit_or_max(*c.quota) : "max";
  if (!quota && change_.update) {
    GANTRY_LET(const std::string current, sys::read_cgroup_value(dir_, "cpu.max"));
    value = current.substr(0, current.find(' '));
  }
  // A quota alone leaves the period as it is, in the kernel too.
  if (period) value += cat(' ', *c.period);
  return write("cpu.max", value);
}

Result<> CgroupV2::io() {
  const BlkioResources& b = change_.resources.blkio;
  GANTRY_TRY(io_weights());
  const std::pair<const char*, const std::vector<BlkioDevice>*> throttles[] = {
      {"rbps", &b.read_bps}, {"wbps", &b.write_bps}, {"riops", &b.read_iops}, {"wiops", &b.write_iops}};
  for (const auto& [key, devices] : throttles) {
    for (const BlkioDevice& device : *devices) {
      const uint64_t rate = device.rate.value_or(0);
      const std::string limit = rate == 0 ? "max" : cat(rate);  // v1's 0 lifts the limit
      GANTRY_TRY(write("io.max", cat(device.major, ':', device.minor, ' ', key, '=', limit)));
    }
  }
  return {};
}

Result<> CgroupV2::io_weights() {
  const BlkioResources& b = change_.resources.blkio;
  GANTRY_TRY(check_blkio_weights(b));
  if (b.weight && *b.weight != 0) {
    auto done = write("io.bfq.weight", cat(*b.weight));
    if (missing(done)) done = write("io.weight", cat(io_weight_of_blkio(*b.weight)));
    GANTRY_TRY(done);
  }
  bool leaf = b.leaf_weight && *b.leaf_weight != 0;
  for (const BlkioDevice& device : b.weight_devices) {
    leaf = leaf || (device.leaf_weight && *device.leaf_weight != 0);
    if (!device.weight || *device.weight == 0) continue;
    auto done = write("io.bfq.weight", device_value(device, *device.weight));
    if (missing(done)) done = write("io.weight", device_value(device, io_weight_of_blkio(*device.weight)));
    GANTRY_TRY(done);
  }
  if (leaf) change_.warnings.push_back("linux.resources.blockIO: leafWeight is ignored on cgroup v2");
  return {};
}

Result<> CgroupV2::devices() {
  GANTRY_LET(const auto permissions, device_permissions(change_.resources.devices));
  GANTRY_LET(const sys::Fd program, sys::bpf_load_device_program(device_program(permissions)));
  const sys::Fd dir(::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir) return fail_path(errno, "open", dir_);
  return sys::bpf_attach_device_program(dir, program, fresh_);
}

Result<> CgroupV2::unified() {
  for (const auto& [key, value] : change_.resources.unified) {
    GANTRY_LET(const std::string controller, unified_controller(key));
    for (const std::string_view line : split(value, '\n')) {
      if (line.empty() && !value.empty()) continue;
      auto done = write(key, line);
      if (done) continue;
      const bool absent = done.error().sys_errno == ENOENT || done.error().sys_errno == EPERM;
      if (absent && controller != "cgroup" && !has(controller)) {
        return fail(cat("unified resource \"", key, "\" can't be set: controller \"", controller, "\" not available"));
      }
      return forward<void>(std::move(done), cat("unable to set unified resource \"", key, "\""));
    }
  }
  return {};
}

}  // namespace gantry
