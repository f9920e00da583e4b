#include "sys/cgroup_fs.h"

#include <dirent.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstdint>

#include "sys/file.h"
#include "sys/text.h"

namespace gantry::sys {

namespace {

constexpr size_t kFileLimit = 16u << 20;
constexpr int kDirFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

struct Level {
  std::string name;
  std::vector<std::string> children;
};

std::string join(const std::string& dir, std::string_view file) {
  return cat(dir, '/', file);
}

/// cgroup.procs of a threaded cgroup cannot be read (EOPNOTSUPP): its threads can.
Result<std::string> read_members(const Fd& dir) {
  auto text = read_cgroup_at(dir, "cgroup.procs");
  if (!text && text.error().sys_errno == EOPNOTSUPP) text = read_cgroup_at(dir, "cgroup.threads");
  return text;
}

}  // namespace

Result<std::vector<std::string>> directory_names(const Fd& dir) {
  std::vector<std::string> names;
  alignas(8) char buffer[8192];
  for (;;) {
    const long got = ::syscall(SYS_getdents64, dir.get(), buffer, sizeof buffer);
    if (got < 0) {
      if (cgroup_gone(errno)) return names;
      return fail_errno(errno, "read cgroup directory");
    }
    if (got == 0) return names;
    for (long at = 0; at < got;) {
      const auto* entry = reinterpret_cast<const dirent64*>(buffer + at);
      const std::string_view name(entry->d_name);
      if (entry->d_type == DT_DIR && name != "." && name != "..") names.emplace_back(name);
      at += entry->d_reclen;
    }
  }
}

Result<Fd> open_cgroup_file(const std::string& dir, std::string_view file, int flags) {
  const std::string path = join(dir, file);
  Fd fd(::open(path.c_str(), flags | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_path(errno, "open", path);
  return fd;
}

Result<> write_cgroup(const Fd& file, std::string_view path, std::string_view value) {
  const ssize_t put = ::write(file.get(), value.data(), value.size());
  if (put == static_cast<ssize_t>(value.size())) return {};
  const int err = put < 0 ? errno : EIO;
  return forward<void>(fail_path(err, "write", path), cat("failed to write \"", value, "\""));
}

Result<> write_cgroup(const std::string& dir, std::string_view file, std::string_view value) {
  GANTRY_LET(const Fd fd, open_cgroup_file(dir, file, O_WRONLY));
  return write_cgroup(fd, join(dir, file), value);
}

Result<std::string> read_cgroup(const std::string& dir, std::string_view file) {
  GANTRY_LET(const Fd fd, open_cgroup_file(dir, file, O_RDONLY));
  auto text = read_all(fd, kFileLimit);
  if (!text) return forward(std::move(text), join(dir, file));
  if (!text->empty() && text->back() == '\n') text->pop_back();
  return text;
}

Result<std::string> read_cgroup_value(const std::string& dir, std::string_view file) {
  GANTRY_LET(const Fd fd, open_cgroup_file(dir, file, O_RDONLY));
  char text[4096];
  const ssize_t got = ::read(fd.get(), text, sizeof text);
  if (got < 0) return fail_path(errno, "read", join(dir, file));
  std::string value(text, static_cast<size_t>(got));
  if (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Result<std::string> read_cgroup_at(const Fd& dir, const char* file) {
  const Fd fd(::openat(dir.get(), file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_path(errno, "open", file);
  return read_all(fd, kFileLimit);
}

std::string_view find_key(std::string_view text, std::string_view key) {
  for (const std::string_view line : split(text, '\n')) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ')
      return line.substr(key.size() + 1);
  }
  return {};
}

Result<> walk_cgroups(const std::string& top, bool prune, const std::function<Result<>(const Fd& dir)>& leaving) {
  Fd current(::open(top.c_str(), kDirFlags));
  if (!current) {
    if (cgroup_gone(errno)) return {};
    return fail_path(errno, "open", top);
  }
  std::vector<Level> levels;
  GANTRY_LET(auto names, directory_names(current));
  levels.push_back({"", std::move(names)});
  for (;;) {
    if (Level& level = levels.back(); !level.children.empty()) {
      std::string name = std::move(level.children.back());
      level.children.pop_back();
      Fd child(::openat(current.get(), name.c_str(), kDirFlags));
      if (!child) {
        if (cgroup_gone(errno)) continue;
        return fail_path(errno, "open", join(top, name));
      }
      GANTRY_LET(auto below, directory_names(child));
      levels.push_back({std::move(name), std::move(below)});
      current = std::move(child);
      continue;
    }
    GANTRY_TRY(leaving(current));
    if (levels.size() == 1) return {};
    Fd parent(::openat(current.get(), "..", kDirFlags));
    if (!parent) {
      if (cgroup_gone(errno)) return {};
      return fail_path(errno, "open the parent of", join(top, levels.back().name));
    }
    current = std::move(parent);
    if (prune) ::unlinkat(current.get(), levels.back().name.c_str(), AT_REMOVEDIR);
    levels.pop_back();
  }
}

Result<std::vector<pid_t>> cgroup_pids(const std::string& top) {
  std::vector<pid_t> pids;
  GANTRY_TRY(walk_cgroups(top, false, [&pids](const Fd& dir) -> Result<> {
    const auto text = read_members(dir);
    if (!text) {
      if (cgroup_gone(text.error().sys_errno)) return {};
      return std::unexpected(text.error());
    }
    for (const std::string_view line : split(*text, '\n')) {
      if (const auto pid = parse_number<pid_t>(line); pid && *pid > 0) pids.push_back(*pid);
    }
    return {};
  }));
  std::sort(pids.begin(), pids.end());
  pids.erase(std::unique(pids.begin(), pids.end()), pids.end());
  return pids;
}

Result<> remove_cgroup(const std::string& top) {
  if (::rmdir(top.c_str()) == 0 || cgroup_gone(errno)) return {};
  if (errno == EBUSY || errno == ENOTEMPTY) {
    GANTRY_TRY(walk_cgroups(top, true, [](const Fd&) -> Result<> { return {}; }));
    if (::rmdir(top.c_str()) == 0 || cgroup_gone(errno)) return {};
  }
  return fail_path(errno, "remove", top);
}

}  // namespace gantry::sys
