// linux.resources, also what `update --resources` is given.
#include <algorithm>

#include "engine/json.h"
#include "engine/spec_read.h"
#include "sys/text.h"

namespace gantry {

using json::Field;
using json::into;
using json::Value;

namespace {

/// A device number in a rule: -1 and null both mean any.
Result<> rule_number(const Value& value, std::optional<int64_t>& out) {
  GANTRY_LET(const int64_t number, value.integer(-1, std::numeric_limits<uint32_t>::max()));
  out = number < 0 ? std::nullopt : std::optional(number);
  return {};
}

Result<> rule_type(const Value& value, DeviceRule& out) {
  GANTRY_LET(const std::string_view type, value.string());
  if (type.empty()) return {};
  if (type != "a" && type != "b" && type != "c") {
    return value.fail(cat("invalid cgroup device type ", json::quoted(type), "; use a, b or c"));
  }
  out.type = type.front();
  return {};
}

Result<> rule_access(const Value& value, DeviceRule& out) {
  GANTRY_LET(const std::string_view access, value.string());
  for (const char c : access) {
    if (c == 'r') {
      out.read = true;
    } else if (c == 'w') {
      out.write = true;
    } else if (c == 'm') {
      out.mknod = true;
    } else {
      return value.fail(cat("invalid access ", json::quoted(access), "; use letters of rwm"));
    }
  }
  return {};
}

}  // namespace

Result<> read(const Value& value, DeviceRule& out) {
  static constexpr Field<DeviceRule> kFields[] = {
      {"allow", into<&DeviceRule::allow>},
      {"type", rule_type},
      {"major", [](const Value& v, DeviceRule& rule) { return rule_number(v, rule.major); }},
      {"minor", [](const Value& v, DeviceRule& rule) { return rule_number(v, rule.minor); }},
      {"access", rule_access},
  };
  return json::read_fields(value, kFields, out);
}

Result<> read(const Value& value, BlkioDevice& out) {
  static constexpr Field<BlkioDevice> kFields[] = {
      {"major", into<&BlkioDevice::major>},   {"minor", into<&BlkioDevice::minor>},
      {"weight", into<&BlkioDevice::weight>}, {"leafWeight", into<&BlkioDevice::leaf_weight>},
      {"rate", into<&BlkioDevice::rate>},
  };
  return json::read_fields(value, kFields, out);
}

namespace {

/// "64KB", "2MB", "1GB": it becomes part of a file name, so nothing else is let through.
Result<> page_size(const Value& value, HugepageLimit& out) {
  GANTRY_TRY(json::read(value, out.page_size));
  const std::string_view size = out.page_size;
  const bool good = size.size() >= 3 && size.size() <= 24 && size.back() == 'B' &&
                    std::string_view("KMG").find(size[size.size() - 2]) != std::string_view::npos &&
                    size.front() != '0' && size.find_first_not_of("0123456789") == size.size() - 2;
  if (!good) return value.fail(cat("invalid page size ", json::quoted(size), "; write it like 2MB"));
  return {};
}

}  // namespace

Result<> read(const Value& value, HugepageLimit& out) {
  static constexpr Field<HugepageLimit> kFields[] = {
      {"pageSize", page_size},
      {"limit", into<&HugepageLimit::limit>},
  };
  GANTRY_TRY(json::read_fields(value, kFields, out));
  if (out.page_size.empty()) return value.fail("pageSize is missing; write it like 2MB");
  return {};
}

namespace {

struct Priority {
  std::string name;
  uint32_t priority = 0;
};

Result<> read_memory(const Value& value, Resources& out) {
  using M = MemoryResources;
  static constexpr Field<M> kFields[] = {
      {"limit", into<&M::limit>},
      {"reservation", into<&M::reservation>},
      {"swap", into<&M::swap>},
      {"kernel", into<&M::kernel>},
      {"kernelTCP", into<&M::kernel_tcp>},
      {"swappiness", into<&M::swappiness>},
      {"disableOOMKiller", into<&M::disable_oom_killer>},
      {"useHierarchy", into<&M::use_hierarchy>},
      {"checkBeforeUpdate", into<&M::check_before_update>},
  };
  return json::read_fields(value, kFields, out.memory);
}

Result<> read_cpu(const Value& value, Resources& out) {
  using C = CpuResources;
  static constexpr Field<C> kFields[] = {
      {"shares", into<&C::shares>},
      {"quota", into<&C::quota>},
      {"period", into<&C::period>},
      {"burst", into<&C::burst>},
      {"realtimeRuntime", into<&C::realtime_runtime>},
      {"realtimePeriod", into<&C::realtime_period>},
      {"cpus", into<&C::cpus>},
      {"mems", into<&C::mems>},
      {"idle", into<&C::idle>},
  };
  return json::read_fields(value, kFields, out.cpu);
}

Result<> read_pids(const Value& value, Resources& out) {
  static constexpr Field<Resources> kFields[] = {{"limit", into<&Resources::pids_limit>}};
  return json::read_fields(value, kFields, out);
}

Result<> read_blkio(const Value& value, Resources& out) {
  using B = BlkioResources;
  static constexpr Field<B> kFields[] = {
      {"weight", into<&B::weight>},
      {"leafWeight", into<&B::leaf_weight>},
      {"weightDevice", into<&B::weight_devices>},
      {"throttleReadBpsDevice", into<&B::read_bps>},
      {"throttleWriteBpsDevice", into<&B::write_bps>},
      {"throttleReadIOPSDevice", into<&B::read_iops>},
      {"throttleWriteIOPSDevice", into<&B::write_iops>},
  };
  return json::read_fields(value, kFields, out.blkio);
}

Result<> read_priorities(const Value& value, NetworkResources& out) {
  static constexpr Field<Priority> kFields[] = {
      {"name", into<&Priority::name>},
      {"priority", into<&Priority::priority>},
  };
  out.priorities.clear();
  return value.each_item([&out](const Value& item) -> Result<> {
    Priority entry;
    GANTRY_TRY(json::read_fields(item, kFields, entry));
    if (out.priorities.size() >= json::kMaxRecords) return item.too_many();
    out.priorities.emplace_back(std::move(entry.name), entry.priority);
    return {};
  });
}

Result<> read_network(const Value& value, Resources& out) {
  static constexpr Field<NetworkResources> kFields[] = {
      {"classID", into<&NetworkResources::class_id>},
      {"priorities", read_priorities},
  };
  return json::read_fields(value, kFields, out.network);
}

Result<> read_rdma(const Value& value, Resources& out) {
  static constexpr Field<RdmaLimit> kFields[] = {
      {"hcaHandles", into<&RdmaLimit::hca_handles>},
      {"hcaObjects", into<&RdmaLimit::hca_objects>},
  };
  out.rdma.clear();
  return value.each_member([&out](std::string_view device, const Value& limits) -> Result<> {
    if (out.rdma.size() >= json::kMaxRecords) return limits.too_many();
    RdmaLimit& limit = out.rdma[std::string(device)] = RdmaLimit{};
    return limits.present() ? json::read_fields(limits, kFields, limit) : Result<>{};
  });
}

/// Keys are file names below the cgroup: anything with a slash could leave it (RS-24).
Result<> read_unified(const Value& value, Resources& out) {
  GANTRY_TRY(read_pairs(value, out.unified));
  for (const auto& [name, text] : out.unified) {
    if (name.find('/') != std::string::npos) {
      return value.fail(cat("unified resource ", json::quoted(name), " must be a file name (no slashes)"));
    }
    const size_t dot = name.find('.');
    if (dot == 0 || dot == std::string::npos || dot + 1 == name.size()) {
      return value.fail(cat("unified resource ", json::quoted(name), " must be in the form CONTROLLER.PARAMETER"));
    }
  }
  return {};
}

Result<> read_device_rules(const Value& value, Resources& out) {
  GANTRY_TRY(json::read(value, out.devices));
  for (size_t i = 0; i < out.devices.size(); ++i) {
    const DeviceRule& rule = out.devices[i];
    if (!rule.read && !rule.write && !rule.mknod) {
      return value.fail(cat("device access at ", i, " field cannot be empty"));
    }
  }
  return {};
}

constexpr Field<Resources> kFields[] = {
    {"devices", read_device_rules},
    {"memory", read_memory},
    {"cpu", read_cpu},
    {"pids", read_pids},
    {"blockIO", read_blkio},
    {"hugepageLimits", into<&Resources::hugepages>},
    {"network", read_network},
    {"rdma", read_rdma},
    {"unified", read_unified},
};

}  // namespace

Result<> read(const Value& value, Resources& out) {
  return json::read_fields(value, kFields, out);
}

}  // namespace gantry
