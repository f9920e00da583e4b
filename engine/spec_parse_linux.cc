// linux of config.json, but for resources and seccomp.
#include <sys/mount.h>
#include <sys/stat.h>

#include "engine/json.h"
#include "engine/mount_options.h"
#include "engine/spec_names.h"
#include "engine/spec_read.h"
#include "sys/text.h"

namespace gantry {

using json::Field;
using json::into;
using json::Value;

namespace {

struct NamespaceEntry {
  std::string type, path;
};

Result<> read_namespace(const Value& value, Spec& out) {
  static constexpr Field<NamespaceEntry> kFields[] = {
      {"type", into<&NamespaceEntry::type>},
      {"path", into<&NamespaceEntry::path>},
  };
  NamespaceEntry entry;
  GANTRY_TRY(json::read_fields(value, kFields, entry));
  const std::string shown = cat("namespace {", json::quoted(entry.type), ' ', json::quoted(entry.path), '}');
  const auto type = namespace_type(entry.type);
  if (!type) return value.fail(shown + " does not exist");
  NamespaceSpec& wanted = out.ns(*type);
  if (wanted.wanted) return value.fail("malformed spec file: duplicated ns" + shown.substr(sizeof "namespace" - 1));
  wanted.wanted = true;
  wanted.path = std::move(entry.path);
  return {};
}

Result<> read_namespaces(const Value& value, Spec& out) {
  return value.each_item([&out](const Value& item) { return read_namespace(item, out); });
}

Result<> read_time_offset(const Value& value, std::optional<TimeOffset>& out) {
  static constexpr Field<TimeOffset> kFields[] = {
      {"secs", into<&TimeOffset::secs>},
      {"nanosecs", into<&TimeOffset::nanosecs>},
  };
  return json::read_fields(value, kFields, out.emplace());
}

Result<> read_time_offsets(const Value& value, Spec& out) {
  static constexpr Field<Spec> kFields[] = {
      {"monotonic", [](const Value& v, Spec& spec) { return read_time_offset(v, spec.time_monotonic); }},
      {"boottime", [](const Value& v, Spec& spec) { return read_time_offset(v, spec.time_boottime); }},
  };
  // The object is a map in runc: a clock it does not know is an error there too.
  GANTRY_TRY(value.each_member([](std::string_view key, const Value& member) -> Result<> {
    if (key == "monotonic" || key == "boottime") return {};
    return member.fail("unknown clock; use monotonic or boottime");
  }));
  return json::read_fields(value, kFields, out);
}

Result<> device_type(const Value& value, Device& out) {
  GANTRY_LET(const std::string_view type, value.string());
  if (type == "c" || type == "u") {
    out.type = S_IFCHR;
  } else if (type == "b") {
    out.type = S_IFBLK;
  } else if (type == "p") {
    out.type = S_IFIFO;
  } else {
    return value.fail(cat("invalid device type ", json::quoted(type), "; use c, b, u or p"));
  }
  return {};
}

Result<> device_mode(const Value& value, Device& out) {
  // Callers put st_mode here, with the type in it (LX-07).
  GANTRY_TRY(json::read(value, out.mode));
  out.mode &= 07777;
  return {};
}

}  // namespace

Result<> read(const Value& value, Device& out) {
  static constexpr Field<Device> kFields[] = {
      {"path", into<&Device::path>},   {"type", device_type},     {"major", into<&Device::major>},
      {"minor", into<&Device::minor>}, {"fileMode", device_mode}, {"uid", into<&Device::uid>},
      {"gid", into<&Device::gid>},
  };
  GANTRY_TRY(json::read_fields(value, kFields, out));
  if (out.type == 0) return value.fail("device without a type; use c, b, u or p");
  return {};
}

namespace {

Result<> read_sysctl(const Value& value, Spec& out) {
  return read_pairs(value, out.sysctl);
}

Result<> read_propagation(const Value& value, Spec& out) {
  GANTRY_LET(const std::string_view word, value.string());
  out.rootfs_propagation = propagation_flags(word);
  if (out.rootfs_propagation == 0 && !word.empty()) {
    return fail(cat("config.json: linux.rootfsPropagation=", json::one_line(word), " is not supported"));
  }
  return {};
}

constexpr Field<Spec> kFields[] = {
    {"namespaces", read_namespaces},
    {"uidMappings", into<&Spec::uid_mappings>},
    {"gidMappings", into<&Spec::gid_mappings>},
    {"timeOffsets", read_time_offsets},
    {"devices", into<&Spec::devices>},
    {"cgroupsPath", into<&Spec::cgroups_path>},
    {"resources", into<&Spec::resources>},
    {"sysctl", read_sysctl},
    {"seccomp", read_seccomp},
    {"rootfsPropagation", read_propagation},
    {"maskedPaths", into<&Spec::masked_paths>},
    {"readonlyPaths", into<&Spec::readonly_paths>},
    {"mountLabel", into<&Spec::mount_label>},
    {"intelRdt", json::refused<Spec>},
    {"netDevices", json::refused<Spec>},
    {"memoryPolicy", json::refused<Spec>},
    {"personality", json::refused<Spec>},
};

}  // namespace

Result<> read_linux(const Value& value, Spec& out) {
  out.has_linux = true;
  return json::read_fields(value, kFields, out);
}

}  // namespace gantry
