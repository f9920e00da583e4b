#include "engine/spec_check.h"

#include <algorithm>
#include <bitset>

#include "engine/json.h"
#include "engine/spec_check_parts.h"
#include "engine/spec_names.h"
#include "engine/spec_template.h"
#include "sys/text.h"

namespace gantry {

using json::one_line;
using json::quoted;

namespace {

constexpr uint32_t kNoId = ~uint32_t{0};  // setresuid(2) takes it as "leave as it is"
constexpr size_t kMaxGroups = 65536;      // NGROUPS_MAX
constexpr size_t kMaxHostname = 64;       // __NEW_UTS_LEN
constexpr std::string_view kNoSelinux =
    "selinux label is specified in config, but selinux is disabled or not supported";

Result<> check_env(const Process& process, std::string_view place) {
  for (size_t i = 0; i < process.env.size(); ++i) {
    const std::string& entry = process.env[i];
    const size_t equals = entry.find('=');
    if (equals == std::string::npos) {
      return fail(cat(place, ".env[", i, "]: ", quoted(entry), ": invalid environment variable: missing '='"));
    }
    if (equals == 0) {
      return fail(cat(place, ".env[", i, "]: ", quoted(entry), ": invalid environment variable: name cannot be empty"));
    }
  }
  return {};
}

Result<> check_rlimits(const Process& process, std::string_view place) {
  std::bitset<RLIM_NLIMITS> seen;
  for (size_t i = 0; i < process.rlimits.size(); ++i) {
    const Rlimit& limit = process.rlimits[i];
    const auto resource = static_cast<size_t>(limit.resource);
    const auto error = [&](std::string_view text) {
      return fail(cat(place, ".rlimits[", i, "]: ", rlimit_name(limit.resource), text));
    };
    if (resource >= seen.size()) return error(" is unknown");
    if (seen.test(resource)) return error(" is given twice");
    if (limit.soft > limit.hard) return error(cat(": soft ", limit.soft, " is above hard ", limit.hard));
    seen.set(resource);
  }
  return {};
}

Result<> check_console(const Process& process, std::string_view place) {
  if (!process.terminal || !process.console_size) return {};
  for (const uint64_t size : {process.console_size->rows, process.console_size->columns}) {
    if (size > UINT16_MAX) return fail(cat(place, ".consoleSize: ", size, " is above 65535"));  // struct winsize
  }
  return {};
}

Result<> check_user(const User& user, std::string_view place) {
  if (user.uid == kNoId) return fail(cat(place, ".user.uid: 4294967295 is not a user id"));
  if (user.gid == kNoId) return fail(cat(place, ".user.gid: 4294967295 is not a group id"));
  if (user.additional_gids.size() > kMaxGroups) {
    return fail(cat(place, ".user.additionalGids: ", user.additional_gids.size(), " groups; the kernel takes 65536"));
  }
  if (std::find(user.additional_gids.begin(), user.additional_gids.end(), kNoId) != user.additional_gids.end()) {
    return fail(cat(place, ".user.additionalGids: 4294967295 is not a group id"));
  }
  return {};
}

bool digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos &&
         (text.size() == 1 || text.front() != '0');
}

/// Semantic Versioning 2.0.0 as far as it matters: three numbers, then perhaps -pre-release and +build.
bool is_semver(std::string_view version) {
  const std::vector<std::string_view> parts = split(version.substr(0, version.find_first_of("-+")), '.');
  return parts.size() == 3 && std::all_of(parts.begin(), parts.end(), digits) && version.back() != '-' &&
         version.back() != '+';
}

Result<> check_top(const Spec& spec) {
  if (!spec.has_root) return fail("root must be specified");
  if (spec.root_path.empty())
    return fail("config.json: root.path: missing; name the directory of the root file system");
  if (spec.oci_version.empty())
    return fail(cat("config.json: ociVersion: missing; write for instance \"", kSpecVersion, "\""));
  if (!is_semver(spec.oci_version) || !spec.oci_version.starts_with("1.")) {
    return fail(cat("config.json: ociVersion: ", quoted(spec.oci_version), " is not supported; use a version 1.x.y"));
  }
  if (spec.annotations.contains("")) return fail("config.json: annotations: a key must not be empty");
  return {};
}

Result<> check_names(const Spec& spec) {
  const bool uts = spec.ns(NamespaceType::kUts).wanted;
  if (!spec.hostname.empty() && !uts) return fail("unable to set hostname without a private UTS namespace");
  if (!spec.domainname.empty() && !uts) return fail("unable to set domainname without a private UTS namespace");
  if (spec.hostname.size() > kMaxHostname) {
    return fail(cat("config.json: hostname: ", quoted(spec.hostname), " is longer than 64 bytes"));
  }
  if (spec.domainname.size() > kMaxHostname) {
    return fail(cat("config.json: domainname: ", quoted(spec.domainname), " is longer than 64 bytes"));
  }
  return {};
}

Result<> check_absolute(const std::vector<std::string>& paths, std::string_view name) {
  for (size_t i = 0; i < paths.size(); ++i) {
    if (!paths[i].starts_with('/')) {
      return fail(cat("config.json: linux.", name, '[', i, "]: ", quoted(paths[i]), " must be an absolute path"));
    }
  }
  return {};
}

Result<> check_protection(const Spec& spec) {
  const bool protects = !spec.masked_paths.empty() || !spec.readonly_paths.empty();
  if (protects && !spec.ns(NamespaceType::kMount).wanted) {
    return fail("unable to restrict sys entries without a private MNT namespace");
  }
  GANTRY_TRY(check_absolute(spec.masked_paths, "maskedPaths"));
  GANTRY_TRY(check_absolute(spec.readonly_paths, "readonlyPaths"));
  if (!spec.mount_label.empty()) return fail(std::string(kNoSelinux));
  return {};
}

Result<> check_devices(const Spec& spec) {
  for (size_t i = 0; i < spec.devices.size(); ++i) {
    const Device& device = spec.devices[i];
    const std::string place = cat("config.json: linux.devices[", i, ']');
    if (!device.path.starts_with('/') || lexical_path(device.path) == "/") {
      return fail(cat(place, ".path: ", quoted(device.path), " must be the absolute path of a device node"));
    }
    // The kernel's MAJOR and MINOR have 12 and 20 bits (linux/kdev_t.h).
    if (device.major >= 1U << 12) return fail(cat(place, ".major: ", device.major, " is above 4095"));
    if (device.minor >= 1U << 20) return fail(cat(place, ".minor: ", device.minor, " is above 1048575"));
  }
  return {};
}

}  // namespace

Result<> check_process_at(const Process& process, std::string_view place, std::vector<std::string>& warnings) {
  if (process.cwd.empty()) return fail("Cwd property must not be empty");
  if (process.cwd.front() != '/') return fail("Cwd must be an absolute path");
  if (process.args.empty()) return fail("args must not be empty");
  if (!process.selinux_label.empty()) return fail(std::string(kNoSelinux));
  GANTRY_TRY(check_console(process, place));
  GANTRY_TRY(check_env(process, place));
  GANTRY_TRY(check_rlimits(process, place));
  GANTRY_TRY(check_user(process.user, place));
  if (process.oom_score_adj && (*process.oom_score_adj < -1000 || *process.oom_score_adj > 1000)) {
    return fail(cat(place, ".oomScoreAdj: ", *process.oom_score_adj, " is outside -1000 to 1000"));
  }
  if (process.capabilities && !process.capabilities->unknown.empty()) {
    std::string names;
    for (const std::string& name : process.capabilities->unknown) {
      names.append(names.empty() ? "" : " ").append(one_line(name));
    }
    warnings.push_back(cat("ignoring unknown or unavailable capabilities: [", names, ']'));
  }
  return {};
}

Result<> check_process(const Process& process, std::vector<std::string>& warnings) {
  return check_process_at(process, "process", warnings);
}

Result<> check_spec(const Spec& spec, std::vector<std::string>& warnings) {
  warnings.insert(warnings.end(), spec.parse_warnings.begin(), spec.parse_warnings.end());
  if (spec.process) GANTRY_TRY(check_process_at(*spec.process, "config.json: process", warnings));
  GANTRY_TRY(check_top(spec));
  GANTRY_TRY(check_namespaces(spec));
  GANTRY_TRY(check_names(spec));
  GANTRY_TRY(check_protection(spec));
  GANTRY_TRY(check_mounts(spec));
  GANTRY_TRY(check_host_mounts(spec));
  GANTRY_TRY(check_sysctls(spec));
  GANTRY_TRY(check_devices(spec));
  if (spec.seccomp) GANTRY_TRY(check_seccomp_profile(*spec.seccomp));
  return check_hooks(spec.hooks);
}

}  // namespace gantry
