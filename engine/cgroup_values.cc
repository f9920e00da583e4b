#include "engine/cgroup_values.h"

#include <algorithm>
#include <cmath>

#include "sys/text.h"

namespace gantry {

namespace {

bool wants_memory(const MemoryResources& m) {
  return m.limit || m.reservation || m.swap || m.kernel || m.kernel_tcp || m.swappiness || m.disable_oom_killer;
}

bool wants_cpu(const CpuResources& c) {
  return c.shares || c.period || c.quota || c.realtime_period || c.realtime_runtime || c.burst || c.idle;
}

bool wants_io(const BlkioResources& b) {
  return b.weight || b.leaf_weight || !b.weight_devices.empty() || !b.read_bps.empty() || !b.write_bps.empty() ||
         !b.read_iops.empty() || !b.write_iops.empty();
}

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

Result<> check_blkio_weight(const char* field, std::optional<uint64_t> weight) {
  constexpr uint64_t kMin = 10, kMax = 1000;
  if (!weight || *weight == 0 || (*weight >= kMin && *weight <= kMax)) return {};
  return fail(cat("linux.resources.blockIO.", field, " ", *weight, " is not from ", kMin, " to ", kMax));
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) { return c > ' ' && c != '/' && c != 0x7f; });
}

}  // namespace

bool wants(const Resources& r, CgroupPart part) {
  switch (part) {
    case CgroupPart::kPids:
      return r.pids_limit.has_value();
    case CgroupPart::kMemory:
      return wants_memory(r.memory);
    case CgroupPart::kIo:
      return wants_io(r.blkio);
    case CgroupPart::kCpu:
      return wants_cpu(r.cpu);
    case CgroupPart::kDevices:
      return true;
    case CgroupPart::kCpuset:
      return r.cpu.cpus || r.cpu.mems;
    case CgroupPart::kHugetlb:
      return !r.hugepages.empty();
    case CgroupPart::kRdma:
      return !r.rdma.empty();
    case CgroupPart::kNetCls:
      return r.network.class_id.has_value();
    case CgroupPart::kNetPrio:
      return !r.network.priorities.empty();
  }
  return false;
}

uint64_t cpu_weight_of_shares(uint64_t shares) {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  // A curve through (2, 1), (1024, 100) and (262144, 10000): the defaults of both versions meet.
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
  constexpr double kRounding = 1e-9;  // 10^2 may come out a hair above 100
  return static_cast<uint64_t>(std::ceil(std::pow(10.0, exponent) - kRounding));
}

uint64_t io_weight_of_blkio(uint64_t weight) {
  return weight <= 10 ? 1 : 1 + (weight - 10) * 9999 / 990;
}

std::string limit_or_max(int64_t limit) {
  return limit < 0 ? "max" : cat(limit);
}

std::string pids_max_v2(int64_t limit) {
  return limit == 0 ? "1" : limit_or_max(limit);
}

Result<> check_blkio_weights(const BlkioResources& blkio) {
  GANTRY_TRY(check_blkio_weight("weight", blkio.weight));
  GANTRY_TRY(check_blkio_weight("leafWeight", blkio.leaf_weight));
  for (const BlkioDevice& device : blkio.weight_devices) {
    GANTRY_TRY(check_blkio_weight("weightDevice: weight", device.weight));
    GANTRY_TRY(check_blkio_weight("weightDevice: leafWeight", device.leaf_weight));
  }
  return {};
}

Result<std::optional<int64_t>> swap_max_v2(int64_t limit, int64_t swap) {
  if (swap == 0) return limit == -1 ? std::optional<int64_t>(-1) : std::nullopt;
  if (swap == -1) return std::optional<int64_t>(-1);
  if (limit <= 0) return fail("unable to set swap limit without memory limit");
  if (swap < limit) return fail("memory+swap limit should be >= memory limit");
  return std::optional<int64_t>(swap - limit);
}

Result<std::string> unified_controller(const std::string& key) {
  if (key.find('/') != std::string::npos)
    return fail(cat("unified resource \"", key, "\" must be a file name (no slashes)"));
  const auto dot = key.find('.');
  const bool plain = std::ranges::all_of(key, [](char c) { return is_word(c) || c == '.' || c == '-'; });
  if (dot == std::string::npos || dot == 0 || dot + 1 == key.size() || !plain || key.find("..") != std::string::npos) {
    return fail(cat("unified resource \"", key, "\" must be in the form CONTROLLER.PARAMETER"));
  }
  return key.substr(0, dot);
}

Result<> check_page_size(const std::string& page_size) {
  const size_t digits = page_size.find_first_not_of("0123456789");
  const std::string_view unit = digits == std::string::npos ? "" : std::string_view(page_size).substr(digits);
  if (digits != 0 && (unit == "KB" || unit == "MB" || unit == "GB")) return {};
  return fail(cat("linux.resources.hugepageLimits: pageSize \"", page_size, "\" is not a number and KB, MB or GB"));
}

Result<std::string> rdma_line(const std::string& device, const RdmaLimit& limit) {
  if (!is_plain_name(device)) return fail(cat("linux.resources.rdma: \"", device, "\" is not a device name"));
  std::string line = device;
  if (limit.hca_handles) line += cat(" hca_handle=", *limit.hca_handles);
  if (limit.hca_objects) line += cat(" hca_object=", *limit.hca_objects);
  return line;
}

Result<std::string> priority_line(const std::string& interface, uint32_t priority) {
  if (!is_plain_name(interface))
    return fail(cat("linux.resources.network: \"", interface, "\" is not an interface name"));
  return cat(interface, ' ', priority);
}

std::string device_value(const BlkioDevice& device, uint64_t value) {
  return cat(device.major, ':', device.minor, ' ', value);
}

Result<std::optional<uint64_t>> swappiness_value(const MemoryResources& memory) {
  if (!memory.swappiness || *memory.swappiness == ~uint64_t{0}) return std::optional<uint64_t>();
  if (*memory.swappiness > 100) {
    return fail(cat("invalid memory swappiness value: ", *memory.swappiness, " (valid range is 0-100)"));
  }
  return memory.swappiness;
}

}  // namespace gantry
