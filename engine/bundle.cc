#include "engine/bundle.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/json.h"
#include "engine/spec_parse.h"
#include "sys/text.h"

namespace gantry {

namespace {

std::string_view file_kind(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "a socket";
}

/// Where the directory is, as the kernel says it: the answer has no symlinks and needs no walk through the path.
Result<std::string> real_path(const sys::Fd& dir) {
  char path[PATH_MAX];
  const ssize_t length = ::readlink(cat("/proc/self/fd/", dir.get()).c_str(), path, sizeof path);
  if (length < 0) return fail_errno(errno, "readlink /proc/self/fd");
  return std::string(path, static_cast<size_t>(length));
}

Result<> read_all(const sys::Fd& file, std::string_view name, std::string& out) {
  size_t filled = 0;
  while (true) {
    if (filled == out.size()) {
      // Grown since fstat; stop just above the limit.
      if (filled > json::kMaxBytes) return {};
      out.resize(std::min(filled + 65536, json::kMaxBytes + 1));
    }
    const ssize_t got = ::read(file.get(), out.data() + filled, out.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_path(errno, "read", name);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  out.resize(filled);
  return {};
}

}  // namespace

Result<std::string> read_json_file(int dir_fd, const char* path, std::string_view name) {
  // O_NONBLOCK: opening a FIFO without a writer would wait for one.
  const sys::Fd file(::openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return fail_path(errno, "open", name);
  struct stat info = {};
  if (::fstat(file.get(), &info) != 0) return fail_path(errno, "stat", name);
  if (!S_ISREG(info.st_mode)) return fail(cat(name, " is ", file_kind(info.st_mode), ", not a regular file"));
  if (static_cast<uint64_t>(info.st_size) > json::kMaxBytes) {
    return fail(cat(name, " has ", info.st_size, " bytes; at most ", json::kMaxBytes, " (4 MiB) are accepted"));
  }
  std::string bytes;
  // One byte more than the file has, so that the second read meets the end without growing the text.
  bytes.resize(static_cast<size_t>(info.st_size) + 1);
  GANTRY_TRY(read_all(file, name, bytes));
  if (bytes.size() > json::kMaxBytes) {
    return fail(cat(name, " grew beyond ", json::kMaxBytes, " bytes (4 MiB) while it was read"));
  }
  return bytes;
}

Result<Bundle> open_bundle(std::string_view dir) {
  const std::string path(dir.empty() ? "." : dir);
  Bundle bundle;
  bundle.dir = sys::Fd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!bundle.dir) return fail_path(errno, "chdir", path);
  GANTRY_LET(bundle.path, real_path(bundle.dir));
  auto bytes = read_json_file(bundle.dir.get(), "config.json", "config.json");
  if (!bytes && bytes.error().sys_errno == ENOENT) {
    return std::unexpected(Error{"JSON specification file config.json not found", ENOENT});
  }
  if (!bytes) return forward(std::move(bytes));
  bundle.config_bytes = std::move(*bytes);
  GANTRY_LET(bundle.spec, parse_spec(bundle.config_bytes));
  return bundle;
}

Result<std::string> resolve_rootfs(const Bundle& bundle) {
  const std::string& path = bundle.spec.root_path;
  const std::string given = path.starts_with('/') ? path : cat(bundle.path, "/", path);
  const sys::Fd root(::open(given.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) return fail_path(errno, "root.path", given);
  return real_path(root);
}

}  // namespace gantry
