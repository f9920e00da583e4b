#include <algorithm>
#include <iterator>

#include "engine/json.h"
#include "engine/spec_check_parts.h"
#include "sys/text.h"

namespace gantry {

namespace {

/// The files of /proc that a mount may cover; anything else there is how a container would forge what the kernel says.
constexpr std::string_view kProcFiles[] = {
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
};

Result<> check_destination(const Mount& mount, std::string_view place) {
  if (mount.destination.empty()) return fail(cat(place, ".destination: missing; name an absolute path"));
  const std::string path = lexical_path(mount.destination);
  if (path == "/") return fail(cat(place, ".destination: ", json::quoted(mount.destination), " is the root itself"));
  // Symlinks may still lead into /proc: whoever mounts checks again on what the path resolves to.
  if (path == "/proc" && !mount.bind && mount.type != "proc") {
    return fail(cat(place, ": ", json::quoted(path), " cannot be mounted because it is not of type proc"));
  }
  if (path.starts_with("/proc/") &&
      std::find(std::begin(kProcFiles), std::end(kProcFiles), path) == std::end(kProcFiles)) {
    return fail(cat(place, ": ", json::quoted(path), " cannot be mounted because it is inside /proc"));
  }
  return {};
}

Result<> check_source(const Mount& mount, std::string_view place) {
  if (mount.remount) return {};
  if (mount.bind && mount.source.empty()) return fail(cat(place, ".source: missing; a bind mount needs one"));
  if (!mount.bind && mount.type.empty()) {
    return fail(cat(place, ".type: missing; name a file system or add the option \"bind\""));
  }
  return {};
}

Result<> check_idmap(const Mount& mount, const Spec& spec, std::string_view place) {
  if (!mount.idmap) return {};
  if (!mount.bind) return fail(cat(place, ": id-mapped mounts are only supported for bind-mounts"));
  const bool own_user_namespace = spec.ns(NamespaceType::kUser).wanted;
  const bool none = mount.uid_mappings.empty() && mount.gid_mappings.empty();
  if (none ? !own_user_namespace : mount.uid_mappings.empty() || mount.gid_mappings.empty()) {
    return fail(cat(place, ": id-mapped mounts must have both uid and gid mappings specified"));
  }
  GANTRY_TRY(check_id_map(mount.uid_mappings, cat(place, ".uidMappings")));
  return check_id_map(mount.gid_mappings, cat(place, ".gidMappings"));
}

}  // namespace

std::string lexical_path(std::string_view path) {
  std::vector<std::string_view> kept;
  for (const std::string_view part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!kept.empty()) kept.pop_back();
    } else {
      kept.push_back(part);
    }
  }
  std::string out;
  for (const std::string_view part : kept) out.append("/").append(part);
  return out.empty() ? "/" : out;
}

Result<> check_host_mounts(const Spec& spec) {
  if (spec.ns(NamespaceType::kMount).wanted) return {};
  const auto refuse = [](std::string_view what, std::string_view why) {
    return fail(cat("config.json: ", what, ": ", why,
                    " without a mount namespace; remove it or add {\"type\": \"mount\"} to linux.namespaces"));
  };
  constexpr std::string_view kOnHost = "would be mounted on the host";
  if (!spec.mounts.empty()) {
    return refuse(cat("mounts[0] ", json::one_line(spec.mounts.front().destination)), kOnHost);
  }
  if (spec.root_readonly) return refuse("root.readonly", kOnHost);
  if (spec.rootfs_propagation != 0) return refuse("linux.rootfsPropagation", "would change the host's mounts");
  if (spec.ns(NamespaceType::kUser).wanted) {
    return refuse("linux.namespaces: user", "cannot be given device nodes, which are mounted,");
  }
  return {};
}

Result<> check_mounts(const Spec& spec) {
  for (size_t i = 0; i < spec.mounts.size(); ++i) {
    const Mount& mount = spec.mounts[i];
    const std::string place = cat("config.json: mounts[", i, ']');
    GANTRY_TRY(check_destination(mount, place));
    GANTRY_TRY(check_source(mount, place));
    if (mount.bind && !mount.data.empty()) {
      return fail(cat(place, ' ', json::one_line(mount.destination), ": option ", json::quoted(mount.data.front()),
                      ": bind mounts cannot have any filesystem-specific options applied"));
    }
    GANTRY_TRY(check_idmap(mount, spec, place));
  }
  return {};
}

}  // namespace gantry
