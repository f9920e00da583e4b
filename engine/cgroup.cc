// Making, opening and joining a container's cgroups. Limits are in cgroup_v1.cc and cgroup_v2.cc, waiting in
// cgroup_tasks.cc.
#include "engine/cgroup.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>

#include "engine/cgroup_setup.h"
#include "sys/cgroup_fs.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr mode_t kDirMode = 0755;
constexpr int kMkdirTries = 5;

Result<> check_leaf_path(CgroupMode mode, const std::string& path) {
  constexpr std::string_view root = "/sys/fs/cgroup/";
  bool fine = is_clean_path(path) && path != "/";
  if (fine && path.starts_with(root) && mode != CgroupMode::kV2)
    fine = path.find('/', root.size()) != std::string::npos;
  if (!fine || path == "/sys/fs/cgroup") return fail(cat("\"", path, "\" cannot be the cgroup of a container"));
  return {};
}

const CgroupHierarchy* hierarchy_of(const CgroupHost& host, const std::string& controller) {
  for (const CgroupHierarchy& one : host.hierarchies) {
    if (controller.empty() ? one.controllers.empty()
                           : std::ranges::find(one.controllers, controller) != one.controllers.end())
      return &one;
  }
  return nullptr;
}

Result<uint64_t> inode_of(const std::string& dir) {
  struct stat info;
  if (::lstat(dir.c_str(), &info) < 0) return fail_path(errno, "stat", dir);
  return info.st_ino;
}

/// Opens `file` in the cgroup `sub` below `dir`, which cannot lead anywhere else.
Result<sys::Fd> open_beneath(const std::string& dir, const std::string& sub, const char* file, int flags) {
  const sys::Fd base(::open(dir.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!base) return fail_path(errno, "openat2", dir);
  std::string name = sub.empty() ? "." : sub;
  if (file != nullptr) name = sub.empty() ? file : cat(sub, '/', file);
  open_how how{};
  how.flags = static_cast<uint64_t>(static_cast<unsigned>(flags | O_CLOEXEC));
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  sys::Fd fd(static_cast<int>(::syscall(SYS_openat2, base.get(), name.c_str(), &how, sizeof how)));
  if (!fd) return fail_path(errno, "openat2", cat(dir, '/', name));
  return fd;
}

}  // namespace

bool Cgroup::Dir::has(std::string_view controller) const {
  return std::ranges::find(controllers, controller) != controllers.end();
}

Result<Cgroup> Cgroup::open(const CgroupPaths& paths) {
  Cgroup cgroup;
  cgroup.paths_ = paths;
  for (const auto& [controller, path] : paths.dirs) {
    const auto same = std::ranges::find(cgroup.dirs_, path, &Dir::path);
    if (same != cgroup.dirs_.end()) {
      same->controllers.push_back(controller);
      continue;
    }
    GANTRY_TRY(check_leaf_path(paths.mode, path));
    cgroup.dirs_.push_back({{controller}, path});
  }
  if (cgroup.dirs_.empty()) return fail("the container has no cgroup");
  return cgroup;
}

Result<Cgroup> Cgroup::create(const CgroupHost& host, const CgroupPaths& paths) {
  GANTRY_LET(Cgroup cgroup, begin(host, paths));
  GANTRY_TRY(cgroup.complete(host));
  return cgroup;
}

Result<Cgroup> Cgroup::begin(const CgroupHost& host, const CgroupPaths& paths) {
  GANTRY_LET(Cgroup cgroup, open(paths));
  GANTRY_TRY(cgroup.make_leaves(host, true));
  return cgroup;
}

Result<> Cgroup::complete(const CgroupHost& host) {
  return make_leaves(host, false);
}

Result<> Cgroup::make_leaves(const CgroupHost& host, bool unified) {
  auto made = [&]() -> Result<> {
    for (Dir& dir : dirs_) {
      if (dir.unified() == unified) GANTRY_TRY(make_leaf(host, dir));
    }
    return check_fitness(unified);
  }();
  if (!made) {
    forget_reused(unified);
    undo_create();
  }
  return made;
}

Result<> Cgroup::make_leaf(const CgroupHost& host, Dir& dir) {
  const CgroupHierarchy* const hierarchy = hierarchy_of(host, dir.controllers.front());
  if (hierarchy == nullptr || !dir.path.starts_with(hierarchy->mountpoint + "/")) {
    return fail(cat("cgroup \"", dir.path, "\" is in no hierarchy of this host"));
  }
  // Somebody's undo may remove a parent between our two steps.
  for (int tries = 0;; ++tries) {
    if (::mkdir(dir.path.c_str(), kDirMode) == 0) {
      dir.fresh = true;
      break;
    }
    if (errno == EEXIST) break;
    if (errno != ENOENT || tries == kMkdirTries) return fail_path(errno, "mkdir", dir.path);
    GANTRY_TRY(make_parents(*hierarchy, dir.path));
  }
  if (dir.has("cpuset")) return fill_cpuset(hierarchy->mountpoint, dir.path, dir.fresh);
  if (dir.unified()) unified_mount_ = hierarchy->mountpoint;
  if (dir.unified() && mode() == CgroupMode::kV2) {
    GANTRY_LET(available_, enable_controllers(hierarchy->mountpoint, dir.path));
  }
  return {};
}

Result<> Cgroup::make_parents(const CgroupHierarchy& hierarchy, const std::string& leaf) {
  const bool cpuset = std::ranges::find(hierarchy.controllers, "cpuset") != hierarchy.controllers.end();
  for (size_t at = leaf.find('/', hierarchy.mountpoint.size() + 1); at != std::string::npos;
       at = leaf.find('/', at + 1)) {
    const std::string parent = leaf.substr(0, at);
    if (::mkdir(parent.c_str(), kDirMode) < 0) {
      if (errno == EEXIST) continue;
      return fail_path(errno, "mkdir", parent);
    }
    made_parents_.push_back(parent);
    if (cpuset) GANTRY_TRY(prepare_cpuset_parent(hierarchy.mountpoint, parent));
  }
  return {};
}

Result<> Cgroup::check_fitness(bool unified) const {
  size_t processes = 0;
  bool reused = false;
  for (const Dir& dir : dirs_) {
    if (dir.fresh || dir.unified() != unified) continue;
    reused = true;
    GANTRY_LET(const auto pids, sys::cgroup_pids(dir.path));
    processes = std::max(processes, pids.size());
  }
  if (!reused) return {};
  if (processes > 0) return fail(cat("container's cgroup is not empty: ", processes, " process(es) found"));
  GANTRY_LET(const bool is_frozen, frozen());
  if (is_frozen) return fail("container's cgroup unexpectedly frozen");
  return {};
}

void Cgroup::undo_create() {
  for (const Dir& dir : dirs_) {
    if (dir.fresh) ::rmdir(dir.path.c_str());
  }
  remove_made_parents();
}

/// Leaves that were refused, or not even looked at, are somebody else's.
void Cgroup::forget_reused(bool unified) {
  std::erase_if(dirs_, [unified](const Dir& dir) { return dir.unified() == unified && !dir.fresh; });
}

Result<std::vector<CgroupClaim>> Cgroup::claims(bool unified) const {
  std::vector<CgroupClaim> claims;
  for (const Dir& dir : dirs_) {
    if (dir.unified() != unified) continue;
    GANTRY_LET(const uint64_t inode, inode_of(dir.path));
    claims.push_back({dir.path, inode});
  }
  return claims;
}

void Cgroup::forget_unclaimed(const std::vector<CgroupClaim>& claims) {
  std::erase_if(dirs_, [&](const Dir& dir) {
    const auto claim = std::ranges::find(claims, dir.path, &CgroupClaim::path);
    const auto inode = inode_of(dir.path);
    if (claim != claims.end() && inode && *inode == claim->inode) return false;
    unclaimed_.push_back(dir.path);
    return true;
  });
}

void Cgroup::remove_made_parents() {
  for (auto parent = made_parents_.rbegin(); parent != made_parents_.rend(); ++parent) ::rmdir(parent->c_str());
  made_parents_.clear();
}

const Cgroup::Dir* Cgroup::find(std::string_view controller) const {
  for (const Dir& dir : dirs_) {
    if (dir.has(controller)) return &dir;
  }
  return nullptr;
}

const Cgroup::Dir& Cgroup::process_dir() const {
  if (mode() == CgroupMode::kV2) return dirs_.front();
  // Whoever freezes must list what the freezer holds; the others are as good as each other.
  for (const std::string_view controller : {"freezer", "devices", "pids", "name=systemd"}) {
    if (const Dir* const dir = find(controller); dir != nullptr) return *dir;
  }
  return dirs_.front();
}

Result<sys::Fd> Cgroup::open_sub(const Dir& dir, const std::vector<SubCgroup>& subs, const char* file,
                                 int flags) const {
  for (const SubCgroup& sub : subs) {
    const bool meant = sub.controllers.empty() ||
                       std::ranges::any_of(sub.controllers, [&dir](const std::string& name) { return dir.has(name); });
    if (meant) return open_beneath(dir.path, sub.path, file, flags);
  }
  return open_beneath(dir.path, "", file, flags);
}

/// "No internal processes": a leaf whose children have controllers takes none (EBUSY at the write).
Result<sys::Fd> Cgroup::unified_procs(const Dir& dir, pid_t init) const {
  if (init > 0) {
    const auto given = sys::read_cgroup_value(dir.path, "cgroup.subtree_control");
    if (given && !given->empty()) {
      GANTRY_LET(const std::string now, cgroup2_path_of(init, mode()));
      if (!now.starts_with(dir.path + "/")) return fail(cat("init is in \"", now, "\", not below \"", dir.path, '"'));
      return open_beneath(dir.path, now.substr(dir.path.size() + 1), "cgroup.procs", O_WRONLY);
    }
  }
  return sys::open_cgroup_file(dir.path, "cgroup.procs", O_WRONLY);
}

Result<std::vector<sys::Fd>> Cgroup::join_fds(const std::vector<SubCgroup>& subs, bool with_unified, pid_t init) const {
  for (const SubCgroup& sub : subs) {
    for (const std::string& name : sub.controllers) {
      if (find(name) == nullptr) return fail(cat("unknown controller ", name, " in SubCgroupPaths"));
    }
  }
  std::vector<sys::Fd> fds;
  fds.reserve(dirs_.size());
  for (const Dir& dir : dirs_) {
    if (dir.unified() && mode() != CgroupMode::kV2 && !with_unified) continue;
    const char* const file = dir.unified() ? "cgroup.procs" : "tasks";
    auto fd = !subs.empty()   ? open_sub(dir, subs, file, O_WRONLY)
              : dir.unified() ? unified_procs(dir, init)
                              : sys::open_cgroup_file(dir.path, file, O_WRONLY);
    if (!fd) return forward(std::move(fd));
    fds.push_back(std::move(*fd));
  }
  return fds;
}

std::vector<std::string> Cgroup::task_files() const {
  std::vector<std::string> files;
  for (const Dir& dir : dirs_) {
    if (!dir.unified()) files.push_back(dir.path + "/tasks");
  }
  return files;
}

Result<sys::Fd> Cgroup::unified_dir(const std::vector<SubCgroup>& subs) const {
  const Dir* const tree = unified();
  if (tree == nullptr) return sys::Fd();
  if (subs.empty()) return sys::open_file(tree->path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  return open_sub(*tree, subs, nullptr, O_PATH | O_DIRECTORY);
}

bool Cgroup::unified_is_fresh() const {
  const Dir* const tree = unified();
  return tree != nullptr && tree->fresh;
}

Result<std::vector<pid_t>> Cgroup::pids_recursive() const {
  if (dirs_.empty()) return std::vector<pid_t>();  // creation was refused
  return sys::cgroup_pids(process_dir().path);
}

Result<bool> Cgroup::empty() const {
  GANTRY_LET(const auto pids, pids_recursive());
  return pids.empty();
}

std::string Cgroup::crowding(uint64_t wanted) const {
  const Dir* const v1 = find("pids");
  const Dir* const pids = v1 != nullptr ? v1 : unified();
  if (pids == nullptr) return {};
  const auto limit = sys::read_cgroup_value(pids->path, "pids.max");
  const auto now = sys::read_cgroup_value(pids->path, "pids.current");
  if (!limit || !now) return {};
  const auto most = parse_number<uint64_t>(*limit);  // not for "max"
  if (!most || parse_number<uint64_t>(*now).value_or(0) + wanted <= *most) return {};
  return cat("pids.max is ", *limit, " and pids.current ", *now);
}

uint64_t Cgroup::oom_kills() const {
  const Dir* const memory = mode() == CgroupMode::kV2 ? unified() : find("memory");
  if (memory == nullptr) return 0;
  const auto text = sys::read_cgroup(memory->path, memory->unified() ? "memory.events" : "memory.oom_control");
  return text ? parse_number<uint64_t>(sys::find_key(*text, "oom_kill")).value_or(0) : 0;
}

}  // namespace gantry
