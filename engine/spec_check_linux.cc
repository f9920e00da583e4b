#include <algorithm>
#include <iterator>

#include "engine/json.h"
#include "engine/spec_check.h"
#include "engine/spec_check_parts.h"
#include "sys/text.h"

namespace gantry {

using json::quoted;

namespace {

constexpr size_t kMaxRanges = 340;  // the kernel's UID_GID_MAP_MAX_EXTENTS, user_namespaces(7)

bool maps(const std::vector<IdMapping>& map, uint32_t id) {
  return std::any_of(map.begin(), map.end(), [id](const IdMapping& range) {
    return id >= range.container_id && id - range.container_id < range.size;
  });
}

bool overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size) {
  return uint64_t{a} < uint64_t{b} + b_size && uint64_t{b} < uint64_t{a} + a_size;
}

Result<> check_paths(const Spec& spec) {
  for (const NamespaceSpec& ns : spec.namespaces) {
    if (ns.path.empty()) continue;
    const bool bad = ns.path.front() != '/' || ns.path.find_first_of(std::string_view(",\0", 2)) != std::string::npos;
    if (bad)
      return fail(cat("invalid namespace path ", json::one_line(ns.path), ": it must be absolute, without a comma"));
  }
  return {};
}

/// Ids the process takes must exist in the new user namespace (PR-21).
Result<> check_mapped(const Spec& spec) {
  if (!maps(spec.uid_mappings, 0)) return fail("user namespaces enabled, but no user mapping found");
  if (!maps(spec.gid_mappings, 0)) return fail("user namespaces enabled, but no group mapping found");
  if (!spec.process) return {};
  const User& user = spec.process->user;
  if (!maps(spec.uid_mappings, user.uid)) {
    return fail(cat("cannot setuid to unmapped uid ", user.uid, " in user namespace"));
  }
  if (!maps(spec.gid_mappings, user.gid)) {
    return fail(cat("cannot setgid to unmapped gid ", user.gid, " in user namespace"));
  }
  for (const gid_t gid : user.additional_gids) {
    if (!maps(spec.gid_mappings, gid)) {
      return fail(cat("cannot setgid to unmapped gid ", gid, " in user namespace"));
    }
  }
  return {};
}

Result<> check_user_namespace(const Spec& spec) {
  const bool mappings = !spec.uid_mappings.empty() || !spec.gid_mappings.empty();
  if (!spec.ns(NamespaceType::kUser).wanted) {
    if (mappings) return fail("user namespace mappings specified, but user namespace isn't enabled in the config");
    return {};
  }
  if (!mappings) {
    if (spec.joins(NamespaceType::kUser)) return {};
    return fail("user namespaces enabled, but no namespace path to join nor mappings to apply specified");
  }
  if (spec.uid_mappings.empty()) return fail("user namespaces enabled, but no uid mappings found");
  if (spec.gid_mappings.empty()) return fail("user namespaces enabled, but no gid mappings found");
  GANTRY_TRY(check_id_map(spec.uid_mappings, "config.json: linux.uidMappings"));
  GANTRY_TRY(check_id_map(spec.gid_mappings, "config.json: linux.gidMappings"));
  return check_mapped(spec);
}

Result<> check_time_offset(const std::optional<TimeOffset>& offset, std::string_view clock) {
  if (offset && offset->nanosecs >= 1'000'000'000) {
    return fail(
        cat("config.json: linux.timeOffsets.", clock, ".nanosecs: ", offset->nanosecs, " is not below 1000000000"));
  }
  return {};
}

Result<> check_time_namespace(const Spec& spec) {
  if (!spec.time_monotonic && !spec.time_boottime) return {};
  if (!spec.ns(NamespaceType::kTime).wanted) {
    return fail("time namespace offsets specified, but time namespace isn't enabled in the config");
  }
  if (spec.joins(NamespaceType::kTime)) {
    return fail("time namespace enabled, but both namespace path and time offsets specified; give only one of them");
  }
  GANTRY_TRY(check_time_offset(spec.time_monotonic, "monotonic"));
  return check_time_offset(spec.time_boottime, "boottime");
}

constexpr std::string_view kIpcSysctls[] = {
    "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
    "kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced",
};

Result<> check_sysctl(const Spec& spec, std::string_view name) {
  const auto path = sysctl_path(name);
  if (!path) return fail(cat("config.json: linux.sysctl: ", quoted(name), " is not the name of a sysctl"));
  const auto wanted = [&spec](NamespaceType type) { return spec.ns(type).wanted; };
  const std::string_view text = *path;
  if (text.starts_with("net/")) {
    if (wanted(NamespaceType::kNetwork)) return {};
    return fail(cat("sysctl ", quoted(name), " not allowed in host network namespace"));
  }
  if (text == "kernel/hostname") {
    return fail(cat("sysctl ", quoted(name), " is not allowed as it conflicts with the OCI \"hostname\" field"));
  }
  const bool ipc = text.starts_with("fs/mqueue/") ||
                   std::find(std::begin(kIpcSysctls), std::end(kIpcSysctls), text) != std::end(kIpcSysctls);
  const bool separate = (ipc && wanted(NamespaceType::kIpc)) ||
                        (text == "kernel/domainname" && wanted(NamespaceType::kUts)) ||
                        (text.starts_with("user/") && wanted(NamespaceType::kUser));
  if (!separate) return fail(cat("sysctl ", quoted(name), " is not in a separate kernel namespace"));
  return {};
}

}  // namespace

Result<> check_id_map(const std::vector<IdMapping>& map, std::string_view place) {
  if (map.size() > kMaxRanges) return fail(cat(place, ": ", map.size(), " ranges; the kernel takes 340"));
  constexpr uint64_t kIds = uint64_t{1} << 32;
  for (size_t i = 0; i < map.size(); ++i) {
    const IdMapping& range = map[i];
    if (range.size == 0) return fail(cat(place, '[', i, "].size: 0; a range has at least one id"));
    if (uint64_t{range.container_id} + range.size >= kIds || uint64_t{range.host_id} + range.size >= kIds) {
      return fail(cat(place, '[', i, "].size: ", range.size, " ids go beyond the last id 4294967294"));
    }
    for (size_t j = 0; j < i; ++j) {
      if (overlap(range.container_id, range.size, map[j].container_id, map[j].size) ||
          overlap(range.host_id, range.size, map[j].host_id, map[j].size)) {
        return fail(cat(place, '[', i, "]: overlaps with [", j, ']'));
      }
    }
  }
  return {};
}

std::optional<std::string> sysctl_path(std::string_view name) {
  std::string path(name);
  // As sysctl(8): the first separator says which one it is, and the other one stands for itself.
  const size_t first = name.find_first_of("./");
  if (first == std::string_view::npos) return std::nullopt;
  if (name[first] == '.') {
    for (char& c : path) c = c == '.' ? '/' : c == '/' ? '.' : c;
  }
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == "." || part == "..") return std::nullopt;
  }
  return path;
}

Result<> check_namespaces(const Spec& spec) {
  GANTRY_TRY(check_paths(spec));
  GANTRY_TRY(check_user_namespace(spec));
  return check_time_namespace(spec);
}

Result<> check_sysctls(const Spec& spec) {
  for (const auto& [name, value] : spec.sysctl) GANTRY_TRY(check_sysctl(spec, name));
  return {};
}

}  // namespace gantry
