// What cgroups the host has, and where in them a container belongs.
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <optional>

#include "engine/cgroup.h"
#include "sys/cgroup_fs.h"
#include "sys/file.h"
#include "sys/mountinfo.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr size_t kProcCgroupLimit = 256u << 10;
constexpr size_t kMountinfoLimit = 64u << 20;

/// The type of the file system at `path` (linux/magic.h), 0 when there is none.
long fs_magic(const std::string& path) {
  struct statfs info{};
  return ::statfs(path.c_str(), &info) == 0 ? static_cast<long>(info.f_type) : 0;
}

Result<std::string> read_own_cgroups() {
  return sys::read_file("/proc/self/cgroup", kProcCgroupLimit);
}

Result<std::vector<sys::MountEntry>> read_mounts() {
  GANTRY_LET(const std::string text, sys::read_file("/proc/self/mountinfo", kMountinfoLimit));
  return sys::parse_mountinfo(text);
}

bool is_hierarchy(const sys::MountEntry& mount, const CgroupHierarchy& hierarchy) {
  if (hierarchy.controllers.empty()) return mount.fs_type == "cgroup2";
  return mount.fs_type == "cgroup" && sys::has_mount_option(mount.super_options, hierarchy.controllers.front());
}

/// Whether `path` is `prefix` or below it.
bool is_below(std::string_view path, std::string_view prefix) {
  if (prefix == "/") return true;
  return path.starts_with(prefix) && (path.size() == prefix.size() || path[prefix.size()] == '/');
}

/// The lines of /proc/self/cgroup, and the mounts: read when first needed.
class Surroundings {
 public:
  Result<std::string> base_directory(const CgroupHost& host, const CgroupHierarchy& hierarchy) {
    if (own_.empty()) {
      GANTRY_LET(const std::string text, read_own_cgroups());
      GANTRY_LET(own_, parse_proc_cgroup(text, ""));
    }
    std::string own = "/";
    for (const CgroupHierarchy& line : own_) {
      if (line.controllers == hierarchy.controllers) own = clean_path(line.own_path);
    }
    // Cgroups with processes cannot have children with controllers on v2: a sibling, not a child.
    if (host.mode == CgroupMode::kV2) return hierarchy.mountpoint + own.substr(0, own.rfind('/'));
    return own == "/" ? hierarchy.mountpoint : own_directory(hierarchy, own);
  }

 private:
  /// A mount may show only a part of its hierarchy.
  Result<std::string> own_directory(const CgroupHierarchy& hierarchy, const std::string& own) {
    if (!mounts_) {
      GANTRY_LET(mounts_, read_mounts());
    }
    for (const sys::MountEntry& mount : *mounts_) {
      if (mount.mountpoint != hierarchy.mountpoint || !is_hierarchy(mount, hierarchy)) continue;
      if (mount.root == "/") return hierarchy.mountpoint + own;
      if (is_below(own, mount.root)) return hierarchy.mountpoint + own.substr(mount.root.size());
    }
    return hierarchy.mountpoint;
  }

  std::vector<CgroupHierarchy> own_;
  std::optional<std::vector<sys::MountEntry>> mounts_;
};

bool is_controller(std::string_view name) {
  constexpr std::string_view known[] = {"cpu",  "cpuacct", "cpuset",  "memory",   "devices", "freezer", "blkio",
                                        "pids", "hugetlb", "net_cls", "net_prio", "rdma",    "misc",    "perf_event"};
  return std::ranges::find(known, name) != std::end(known);
}

/// The hierarchies by the names of the mountpoints, which are the same everywhere: a third of the price of asking
/// /proc/self/cgroup. Empty when one has an unknown name.
std::vector<CgroupHierarchy> hierarchies_by_name(const sys::Fd& dir, const std::string& root) {
  std::vector<CgroupHierarchy> found;
  struct stat top{};
  const auto names = sys::directory_names(dir);
  if (!names || ::fstat(dir.get(), &top) < 0) return {};
  for (const std::string& name : *names) {
    struct stat info{};
    if (::fstatat(dir.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) < 0 || info.st_dev == top.st_dev) continue;
    CgroupHierarchy one;
    one.mountpoint = cat(root, '/', name);
    if (name == "unified") {
      if (fs_magic(one.mountpoint) != CGROUP2_SUPER_MAGIC) continue;
    } else if (name == "systemd") {
      one.controllers.emplace_back("name=systemd");
    } else {
      for (const std::string_view controller : split(name, ',')) {
        if (!is_controller(controller)) return {};
        one.controllers.emplace_back(controller);
      }
    }
    found.push_back(std::move(one));
  }
  return found;
}

/// The same by what the kernel says, wherever below `root` it is mounted.
Result<std::vector<CgroupHierarchy>> hierarchies_by_mount(const std::string& root) {
  GANTRY_LET(const std::string text, read_own_cgroups());
  GANTRY_LET(auto hierarchies, parse_proc_cgroup(text, root));
  GANTRY_LET(const auto mounts, read_mounts());
  std::vector<CgroupHierarchy> found;
  for (CgroupHierarchy& hierarchy : hierarchies) {
    const auto here = std::ranges::find_if(mounts, [&](const sys::MountEntry& mount) {
      return mount.mountpoint.starts_with(root + "/") && is_hierarchy(mount, hierarchy);
    });
    if (here == mounts.end()) continue;
    hierarchy.mountpoint = here->mountpoint;
    found.push_back(std::move(hierarchy));
  }
  return found;
}

}  // namespace

const char* cgroup_mode_name(CgroupMode mode) {
  switch (mode) {
    case CgroupMode::kV1:
      return "v1";
    case CgroupMode::kHybrid:
      return "hybrid";
    case CgroupMode::kV2:
      break;
  }
  return "v2";
}

Result<CgroupMode> parse_cgroup_mode(std::string_view name) {
  for (const auto mode : {CgroupMode::kV1, CgroupMode::kHybrid, CgroupMode::kV2}) {
    if (name == cgroup_mode_name(mode)) return mode;
  }
  return fail(cat("cgroup mode \"", name, "\" is not v1, hybrid or v2"));
}

const CgroupHierarchy* CgroupHost::unified() const {
  for (const CgroupHierarchy& hierarchy : hierarchies) {
    if (hierarchy.controllers.empty()) return &hierarchy;
  }
  return nullptr;
}

Result<std::vector<CgroupHierarchy>> parse_proc_cgroup(std::string_view text, const std::string& root) {
  std::vector<CgroupHierarchy> hierarchies;
  for (const std::string_view line : split(text, '\n')) {
    if (line.empty()) continue;
    const auto first = line.find(':');
    const auto second = first == std::string_view::npos ? first : line.find(":/", first + 1);
    if (second == std::string_view::npos)
      return fail(cat("/proc/self/cgroup: \"", line, "\" is not ID:CONTROLLERS:PATH"));
    const std::string_view names = line.substr(first + 1, second - first - 1);
    CgroupHierarchy hierarchy;
    hierarchy.own_path = line.substr(second + 1);
    if (names.empty()) {
      hierarchy.mountpoint = root + "/unified";
    } else {
      for (const std::string_view name : split(names, ',')) hierarchy.controllers.emplace_back(name);
      hierarchy.mountpoint = cat(root, '/', names.starts_with("name=") ? names.substr(5) : names);
    }
    hierarchies.push_back(std::move(hierarchy));
  }
  return hierarchies;
}

Result<CgroupHost> probe_cgroup_host(const std::string& root) {
  CgroupHost host;
  host.root = root;
  const sys::Fd dir(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail_path(errno, "open", root);
  struct statfs info{};
  if (::fstatfs(dir.get(), &info) < 0) return fail_path(errno, "statfs", root);
  if (info.f_type == CGROUP2_SUPER_MAGIC) {
    host.hierarchies.push_back({{}, root, ""});
    return host;
  }
  host.hierarchies = hierarchies_by_name(dir, root);
  if (host.hierarchies.empty()) {
    GANTRY_LET(host.hierarchies, hierarchies_by_mount(root));
  }
  if (host.hierarchies.empty()) return fail(cat("no cgroups are mounted below ", root, ": mount cgroup2 there"));
  host.mode = host.unified() != nullptr ? CgroupMode::kHybrid : CgroupMode::kV1;
  return host;
}

Result<CgroupPaths> resolve_cgroup(const CgroupHost& host, std::string_view cgroups_path, std::string_view id) {
  const bool absolute = cgroups_path.starts_with('/');
  const std::string inner = clean_path(cgroups_path.empty() ? id : cgroups_path);
  if (inner == "/") {
    return fail(
        cat("linux.cgroupsPath \"", cgroups_path, "\" is no cgroup of its own: name one, such as \"/", id, "\""));
  }
  if (inner.find_first_of(std::string_view("\n\0", 2)) != std::string::npos) {
    return fail("linux.cgroupsPath has a newline or NUL byte");
  }
  CgroupPaths paths{host.mode, {}};
  Surroundings surroundings;
  for (const CgroupHierarchy& hierarchy : host.hierarchies) {
    std::string base = hierarchy.mountpoint;
    if (!absolute) {
      GANTRY_LET(base, surroundings.base_directory(host, hierarchy));
    }
    if (hierarchy.controllers.empty()) paths.dirs.emplace_back("", base + inner);
    for (const std::string& controller : hierarchy.controllers) paths.dirs.emplace_back(controller, base + inner);
  }
  return paths;
}

Result<std::vector<SubCgroup>> parse_sub_cgroups(CgroupMode mode, const std::vector<std::string>& arguments) {
  std::vector<SubCgroup> subs;
  std::vector<std::string_view> seen;
  for (const std::string& argument : arguments) {
    SubCgroup sub;
    const auto colon = argument.find(':');
    if (colon == std::string::npos && arguments.size() != 1) {
      return fail(cat("invalid --cgroup argument: ", argument, " (missing <controller>: prefix)"));
    }
    if (colon != std::string::npos) {
      for (const std::string_view name : split(std::string_view(argument).substr(0, colon), ',')) {
        if (name.empty()) return fail(cat("invalid --cgroup argument: ", argument, " (empty <controller> prefix)"));
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
          return fail(cat("invalid --cgroup argument(s): controller ", name, " specified multiple times"));
        }
        if (mode == CgroupMode::kV2) return fail(cat("unknown controller ", name, " in SubCgroupPaths"));
        seen.push_back(name);
        sub.controllers.emplace_back(name);
      }
    }
    const std::string_view path = std::string_view(argument).substr(colon == std::string::npos ? 0 : colon + 1);
    int depth = 0;
    for (const std::string_view part : split(path, '/')) {
      if (part == "..") --depth;
      if (!part.empty() && part != "." && part != "..") ++depth;
      if (depth < 0) return fail(cat("bad sub cgroup path: ", path));
    }
    sub.path = clean_path(path).substr(1);
    subs.push_back(std::move(sub));
  }
  return subs;
}

Result<std::string> cgroup2_path_of(pid_t pid, CgroupMode mode) {
  GANTRY_LET(const std::string text, sys::read_file(cat("/proc/", pid, "/cgroup"), kProcCgroupLimit));
  GANTRY_LET(const auto lines, parse_proc_cgroup(text, ""));
  for (const CgroupHierarchy& line : lines) {
    if (!line.controllers.empty()) continue;
    return cat(mode == CgroupMode::kV2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified", line.own_path);
  }
  return fail(cat("/proc/", pid, "/cgroup has no cgroup2 line"));
}

std::optional<uid_t> cgroup_owner(const Spec& spec) {
  const bool writable = std::ranges::any_of(spec.mounts, [](const Mount& mount) {
    return (mount.type == "cgroup" || mount.type == "cgroup2") && (mount.flags.set & MOUNT_ATTR_RDONLY) == 0;
  });
  if (!writable || !spec.creates(NamespaceType::kCgroup) || !spec.process) return std::nullopt;
  const uid_t uid = spec.process->user.uid;
  if (!spec.ns(NamespaceType::kUser).wanted) return uid;
  for (const IdMapping& map : spec.uid_mappings) {
    if (uid >= map.container_id && uid - map.container_id < map.size) return map.host_id + (uid - map.container_id);
  }
  return std::nullopt;
}

Result<sys::Fd> cgroup2_dir_of(pid_t pid, CgroupMode mode) {
  GANTRY_LET(const std::string path, cgroup2_path_of(pid, mode));
  return sys::open_file(path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
}

}  // namespace gantry
