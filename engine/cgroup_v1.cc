// Limits on v1: one directory for each controller.
#include "engine/cgroup_apply.h"
#include "engine/cgroup_devices.h"
#include "sys/cgroup_fs.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr const char* kMemoryLimit = "memory.limit_in_bytes";
constexpr const char* kSwapLimit = "memory.memsw.limit_in_bytes";

}  // namespace

const char* controller_v1(CgroupPart part) {
  switch (part) {
    case CgroupPart::kPids:
      return "pids";
    case CgroupPart::kMemory:
      return "memory";
    case CgroupPart::kIo:
      return "blkio";
    case CgroupPart::kCpu:
      return "cpu";
    case CgroupPart::kDevices:
      return "devices";
    case CgroupPart::kCpuset:
      return "cpuset";
    case CgroupPart::kHugetlb:
      return "hugetlb";
    case CgroupPart::kRdma:
      return "rdma";
    case CgroupPart::kNetCls:
      return "net_cls";
    case CgroupPart::kNetPrio:
      break;
  }
  return "net_prio";
}

Result<> CgroupV1::set(CgroupPart part, const std::vector<std::string>& made_parents) {
  const Resources& r = change_.resources;
  switch (part) {
    case CgroupPart::kPids:
      return write("pids.max", limit_or_max(*r.pids_limit));
    case CgroupPart::kMemory:
      return memory();
    case CgroupPart::kIo:
      return blkio();
    case CgroupPart::kCpu:
      return cpu(made_parents);
    case CgroupPart::kDevices:
      return devices();
    case CgroupPart::kCpuset:
      return cpuset();
    case CgroupPart::kHugetlb:
      return hugetlb("limit_in_bytes");
    case CgroupPart::kRdma:
      return rdma();
    case CgroupPart::kNetCls:
      return write("net_cls.classid", cat(*r.network.class_id));
    case CgroupPart::kNetPrio:
      for (const auto& [interface, priority] : r.network.priorities) {
        GANTRY_LET(const std::string line, priority_line(interface, priority));
        GANTRY_TRY(write("net_prio.ifpriomap", line));
      }
      return {};
  }
  return {};
}

Result<> CgroupV1::memory() {
  const MemoryResources& m = change_.resources.memory;
  GANTRY_TRY(memory_limits(m.limit.value_or(0), m.swap.value_or(0)));
  if (m.reservation && *m.reservation != 0) GANTRY_TRY(write("memory.soft_limit_in_bytes", cat(*m.reservation)));
  if (m.kernel || m.kernel_tcp) change_.warnings.push_back("Kernel memory settings are ignored and will be removed");
  if (m.disable_oom_killer && (*m.disable_oom_killer || change_.update)) {
    GANTRY_TRY(write("memory.oom_control", *m.disable_oom_killer ? "1" : "0"));
  }
  GANTRY_LET(const auto swappiness, swappiness_value(m));
  return swappiness ? write("memory.swappiness", cat(*swappiness)) : Result<>();
}

/// memory <= memory+swap must hold after each write: which goes first depends on the direction.
Result<> CgroupV1::memory_limits(int64_t limit, int64_t swap) {
  if (limit == -1 && swap == 0) {
    // "Unlimited" without a word on swap means both; without swap accounting there is only one.
    const auto lifted = memory_swap(-1);
    if (!lifted && !missing(lifted)) return lifted;
    return memory_limit(limit);
  }
  if (limit > 0 && swap > 0 && swap < limit) return fail("memory+swap limit should be >= memory limit");
  bool swap_first = false;
  if (limit != 0 && swap != 0 && change_.update) {
    const auto current = sys::read_cgroup_value(dir_, kSwapLimit);
    const auto bytes = current ? parse_number<int64_t>(*current) : std::nullopt;
    swap_first = bytes && (swap == -1 || swap > *bytes);
  }
  if (swap_first) GANTRY_TRY(memory_swap(swap));
  if (limit != 0) GANTRY_TRY(memory_limit(limit));
  if (swap != 0 && !swap_first) return memory_swap(swap);
  return {};
}

Result<> CgroupV1::memory_limit(int64_t limit) {
  auto done = write(kMemoryLimit, cat(limit));
  if (done || done.error().sys_errno != EBUSY) return done;
  GANTRY_LET(const std::string usage, sys::read_cgroup_value(dir_, "memory.usage_in_bytes"));
  GANTRY_LET(const std::string peak, sys::read_cgroup_value(dir_, "memory.max_usage_in_bytes"));
  return std::unexpected(Error{
      cat("unable to set memory limit to ", limit, " (current usage: ", usage, ", peak usage: ", peak, ")"), EBUSY});
}

Result<> CgroupV1::memory_swap(int64_t swap) {
  return write(kSwapLimit, cat(swap));
}

Result<> CgroupV1::cpu(const std::vector<std::string>& made_parents) {
  const CpuResources& c = change_.resources.cpu;
  // A child's real-time share must fit into its parent's, which is 0 in a new one.
  for (const std::string& parent : made_parents) GANTRY_TRY(realtime(parent));
  GANTRY_TRY(realtime(dir_));
  if (c.shares && *c.shares != 0) GANTRY_TRY(cpu_shares(*c.shares));
  GANTRY_TRY(cpu_bandwidth());
  return c.idle ? write("cpu.idle", cat(*c.idle)) : Result<>();
}

Result<> CgroupV1::realtime(const std::string& dir) const {
  const CpuResources& c = change_.resources.cpu;
  if (c.realtime_period && *c.realtime_period != 0) {
    GANTRY_TRY(sys::write_cgroup(dir, "cpu.rt_period_us", cat(*c.realtime_period)));
  }
  if (c.realtime_runtime && *c.realtime_runtime != 0) {
    GANTRY_TRY(sys::write_cgroup(dir, "cpu.rt_runtime_us", cat(*c.realtime_runtime)));
  }
  return {};
}

/// The kernel moves shares silently into its range; the caller should know.
Result<> CgroupV1::cpu_shares(uint64_t shares) {
  GANTRY_TRY(write("cpu.shares", cat(shares)));
  constexpr uint64_t kMin = 2, kMax = 262144;
  if (shares > kMax) return fail(cat("the maximum allowed cpu-shares is ", kMax));
  if (shares < kMin) return fail(cat("the minimum allowed cpu-shares is ", kMin));
  return {};
}

Result<> CgroupV1::cpu_bandwidth() {
  const CpuResources& c = change_.resources.cpu;
  const bool period = c.period && *c.period != 0, quota = c.quota && *c.quota != 0;
  // Old quota over new period, or new burst over old quota, may be too much although the new pair is fine: so what is
  // refused is tried again after the quota.
  bool period_again = false, burst_again = false;
  if (period) {
    auto done = write("cpu.cfs_period_us", cat(*c.period));
    period_again = quota && refused(done);
    if (!done && !period_again) return done;
  }
  if (c.burst) {
    auto done = write("cpu.cfs_burst_us", cat(*c.burst));
    burst_again = quota && refused(done);
    if (!done && !burst_again) return done;
  }
  if (quota) GANTRY_TRY(write("cpu.cfs_quota_us", cat(*c.quota)));
  if (period_again) GANTRY_TRY(write("cpu.cfs_period_us", cat(*c.period)));
  if (burst_again) GANTRY_TRY(write("cpu.cfs_burst_us", cat(*c.burst)));
  return {};
}

Result<> CgroupV1::blkio() {
  const BlkioResources& b = change_.resources.blkio;
  GANTRY_TRY(blkio_weights());
  const std::pair<const char*, const std::vector<BlkioDevice>*> throttles[] = {
      {"blkio.throttle.read_bps_device", &b.read_bps},
      {"blkio.throttle.write_bps_device", &b.write_bps},
      {"blkio.throttle.read_iops_device", &b.read_iops},
      {"blkio.throttle.write_iops_device", &b.write_iops},
  };
  for (const auto& [file, devices] : throttles) {
    for (const BlkioDevice& device : *devices) GANTRY_TRY(write(file, device_value(device, device.rate.value_or(0))));
  }
  return {};
}

/// Weights belong to a scheduler: "blkio.weight" was CFQ's, BFQ has names of its own.
Result<> CgroupV1::blkio_weights() {
  const BlkioResources& b = change_.resources.blkio;
  GANTRY_TRY(check_blkio_weights(b));
  const auto either = [this](const char* name, const char* bfq_name, const std::string& value) -> Result<> {
    auto done = write(name, value);
    return missing(done) ? write(bfq_name, value) : done;
  };
  if (b.weight && *b.weight != 0) GANTRY_TRY(either("blkio.weight", "blkio.bfq.weight", cat(*b.weight)));
  if (b.leaf_weight && *b.leaf_weight != 0) GANTRY_TRY(write("blkio.leaf_weight", cat(*b.leaf_weight)));
  for (const BlkioDevice& device : b.weight_devices) {
    if (device.weight && *device.weight != 0) {
      GANTRY_TRY(either("blkio.weight_device", "blkio.bfq.weight_device", device_value(device, *device.weight)));
    }
    if (device.leaf_weight && *device.leaf_weight != 0) {
      GANTRY_TRY(write("blkio.leaf_weight_device", device_value(device, *device.leaf_weight)));
    }
  }
  return {};
}

Result<> CgroupV1::devices() {
  GANTRY_LET(const auto permissions, device_permissions(change_.resources.devices));
  GANTRY_LET(const DeviceWrites writes, device_writes_v1(permissions));
  const char* const general = writes.allow_first ? "devices.allow" : "devices.deny";
  const char* const special = writes.allow_first ? "devices.deny" : "devices.allow";
  GANTRY_TRY(write(general, "a"));
  if (writes.exceptions.empty()) return {};
  GANTRY_LET(const sys::Fd file, sys::open_cgroup_file(dir_, special, O_WRONLY));
  const std::string path = cat(dir_, '/', special);
  for (const std::string& rule : writes.exceptions) GANTRY_TRY(sys::write_cgroup(file, path, rule));
  return {};
}

}  // namespace gantry
