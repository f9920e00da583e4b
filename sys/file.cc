#include "sys/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <vector>

#include "sys/text.h"

namespace gantry::sys {

Result<Fd> open_file(const std::string& path, int flags, mode_t mode) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) return fail_path(errno, "open", path);
  return fd;
}

Result<Fd> open_at(const Fd& dir, const std::string& name, int flags, mode_t mode) {
  Fd fd(::openat(dir.get(), name.c_str(), flags | O_CLOEXEC, mode));
  if (!fd) return fail_path(errno, "open", name);
  return fd;
}

bool is_entry(const Fd& dir, const std::string& name, const Fd& fd) {
  struct stat open, named;
  if (::fstat(fd.get(), &open) < 0 || ::fstatat(dir.get(), name.c_str(), &named, AT_SYMLINK_NOFOLLOW) < 0) return false;
  return open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

Result<std::vector<std::string>> list_names(const Fd& dir) {
  GANTRY_LET(Fd own, open_at(dir, ".", O_RDONLY | O_DIRECTORY));
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(own.get()), &::closedir);
  if (!stream) return fail_errno(errno, "fdopendir");
  (void)own.release();
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* const entry = ::readdir(stream.get());
    if (entry == nullptr && errno != 0) return fail_errno(errno, "readdir");
    if (entry == nullptr) return names;
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
}

Result<std::string> read_all(const Fd& fd, size_t limit) {
  std::string bytes;
  std::array<char, 8192> chunk;
  for (;;) {
    const auto got = ::read(fd.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(errno, "read");
    if (got == 0) return bytes;
    if (bytes.size() + static_cast<size_t>(got) > limit) return fail(cat("larger than ", limit, " bytes"));
    bytes.append(chunk.data(), static_cast<size_t>(got));
  }
}

Result<std::string> read_file(const std::string& path, size_t limit) {
  GANTRY_LET(const Fd fd, open_file(path, O_RDONLY | O_NOCTTY));
  auto bytes = read_all(fd, limit);
  if (!bytes) return forward(std::move(bytes), path);
  return bytes;
}

Result<std::string> read_file_at(const Fd& dir, const std::string& name, size_t limit) {
  GANTRY_LET(const Fd fd, open_at(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
  auto bytes = read_all(fd, limit);
  if (!bytes) return forward(std::move(bytes), name);
  return bytes;
}

Result<> write_file(const std::string& path, std::string_view bytes) {
  GANTRY_LET(const Fd fd, open_file(path, O_WRONLY));
  if (::write(fd.get(), bytes.data(), bytes.size()) < 0) return fail_path(errno, "write", path);
  return {};
}

Result<> write_all(const Fd& fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto put = ::write(fd.get(), bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return fail_errno(errno, "write");
    bytes.remove_prefix(static_cast<size_t>(put));
  }
  return {};
}

Result<> replace_file_at(const Fd& dir, const std::string& name, std::string_view bytes, mode_t mode) {
  // One writer at a time holds the container's lock: a fixed temp name is enough, and a stale one is our own.
  const std::string temp = "." + name + ".new";
  if (::unlinkat(dir.get(), temp.c_str(), 0) < 0 && errno != ENOENT) return fail_path(errno, "unlink", temp);
  GANTRY_LET(const Fd fd, open_at(dir, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode));
  auto written = write_all(fd, bytes);
  if (!written) {
    ::unlinkat(dir.get(), temp.c_str(), 0);
    return forward(std::move(written), temp);
  }
  if (::renameat(dir.get(), temp.c_str(), dir.get(), name.c_str()) < 0) return fail_path(errno, "rename", temp);
  return {};
}

Result<> write_pid_file(const std::string& path, pid_t pid) {
  const auto slash = path.rfind('/');
  const auto name_at = slash == std::string::npos ? 0 : slash + 1;
  const std::string temp = path.substr(0, name_at) + "." + path.substr(name_at);
  ::unlink(temp.c_str());  // what a killed gantry left must not stop the next one
  GANTRY_LET(const Fd fd, open_file(temp, O_WRONLY | O_CREAT | O_EXCL | O_SYNC, 0666));
  auto written = write_all(fd, cat(pid));
  if (written && ::rename(temp.c_str(), path.c_str()) < 0) written = fail_path(errno, "rename", temp);
  if (!written) ::unlink(temp.c_str());
  return written;
}

Result<std::string> absolute_path(std::string_view path) {
  if (path.empty() || path.front() == '/') return std::string(path);
  std::array<char, 4096> cwd;
  if (::getcwd(cwd.data(), cwd.size()) == nullptr) return fail_errno(errno, "getcwd");
  return cat(std::string_view(cwd.data()), "/", path);
}

namespace {

// Depth is bounded by what we ourselves create below a state directory; anything deeper is not ours.
constexpr int kMaxTreeDepth = 16;

Result<> remove_entries(Fd dir, int depth);

Result<> remove_entry(int dir, const char* name, int depth) {
  if (::unlinkat(dir, name, 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return fail_path(errno, "unlink", name);
  Fd sub(::openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!sub) return fail_path(errno, "open", name);
  GANTRY_TRY(remove_entries(std::move(sub), depth + 1));
  if (::unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT) return fail_path(errno, "rmdir", name);
  return {};
}

Result<> remove_entries(Fd dir, int depth) {
  if (depth > kMaxTreeDepth) return fail_errno(ELOOP, "remove tree");
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(dir.get()), &::closedir);
  if (!stream) return fail_errno(errno, "fdopendir");
  const int number = dir.release();
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    GANTRY_TRY(remove_entry(number, entry->d_name, depth));
  }
  return {};
}

}  // namespace

Result<> remove_tree_at(const Fd& dir, const std::string& name) {
  return remove_entry(dir.get(), name.c_str(), 0);
}

}  // namespace gantry::sys
