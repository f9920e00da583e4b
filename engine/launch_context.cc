#include "engine/launch_context.h"

#include <algorithm>
#include <array>

#include "sys/file.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr size_t kMountinfoLimit = 64u << 20;

/// "cpu,cpuacct": what a mount of the hierarchy names.
std::string joined(const std::vector<std::string>& controllers) {
  std::string text;
  for (const std::string& controller : controllers) text.append(text.empty() ? "" : ",").append(controller);
  return text;
}

/// `dir` below `mountpoint`, starting with a slash.
std::string below(const std::string& mountpoint, const std::string& dir) {
  return dir.starts_with(mountpoint) ? dir.substr(mountpoint.size()) : dir;
}

}  // namespace

void fill_cgroup_context(const CgroupHost& host, const CgroupPaths& paths, PlanContext& context) {
  context.cgroup_mode = paths.mode == CgroupMode::kV2 ? PlanCgroups::kV2 : PlanCgroups::kV1;
  for (const auto& [controller, dir] : paths.dirs) {
    const auto owner = std::find_if(host.hierarchies.begin(), host.hierarchies.end(), [&](const auto& hierarchy) {
      const auto& names = hierarchy.controllers;
      return controller.empty() ? names.empty() : std::find(names.begin(), names.end(), controller) != names.end();
    });
    if (owner == host.hierarchies.end()) continue;
    if (controller.empty()) {
      context.v2_container_path = dir;
      continue;
    }
    // Controllers that are mounted together have an entry each; the hierarchy is one.
    if (controller != owner->controllers.front()) continue;
    context.v1.push_back({owner->mountpoint, joined(owner->controllers), below(owner->mountpoint, dir)});
  }
}

std::vector<std::string> cgroup2_options(const std::vector<sys::MountEntry>& mounts) {
  constexpr std::array<std::string_view, 6> kKnown{"nsdelegate",         "favordynmods",
                                                   "memory_localevents", "memory_recursiveprot",
                                                   "pids_localevents",   "memory_hugetlb_accounting"};
  const auto found = std::ranges::find(mounts, "cgroup2", &sys::MountEntry::fs_type);
  if (found == mounts.end()) return {};
  std::vector<std::string> options;
  for (const std::string_view option : split(found->super_options, ','))
    if (std::ranges::find(kKnown, option) != kKnown.end()) options.emplace_back(option);
  return options;
}

Result<> fill_cgroup2_options(const Spec& spec, PlanContext& context) {
  if (spec.creates(NamespaceType::kCgroup)) return {};
  const bool needed = std::ranges::any_of(spec.mounts, [&context](const Mount& mount) {
    return mount.type == "cgroup2" || (mount.type == "cgroup" && context.cgroup_mode == PlanCgroups::kV2);
  });
  if (!needed) return {};
  GANTRY_LET(const std::string text, sys::read_file("/proc/self/mountinfo", kMountinfoLimit));
  GANTRY_LET(const std::vector<sys::MountEntry> mounts, sys::parse_mountinfo(text));
  context.v2_options = cgroup2_options(mounts);
  return {};
}

std::map<std::string, std::string> namespace_paths(const Spec& spec, pid_t pid) {
  constexpr std::array<std::pair<const char*, const char*>, kNamespaceTypes> names{{{"NEWNS", "mnt"},
                                                                                    {"NEWPID", "pid"},
                                                                                    {"NEWNET", "net"},
                                                                                    {"NEWIPC", "ipc"},
                                                                                    {"NEWUTS", "uts"},
                                                                                    {"NEWUSER", "user"},
                                                                                    {"NEWCGROUP", "cgroup"},
                                                                                    {"NEWTIME", "time"}}};
  std::map<std::string, std::string> paths;
  for (size_t type = 0; type < kNamespaceTypes; ++type)
    if (spec.namespaces[type].wanted)
      paths.emplace(names[type].first, cat("/proc/", pid, "/ns/", std::string_view(names[type].second)));
  return paths;
}

}  // namespace gantry
