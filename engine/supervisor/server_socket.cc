#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>

#include "engine/supervisor/server.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kLockLimitMs = 5000;
constexpr int64_t kAnswerLimitMs = 1000;

/// Makes what is missing of an absolute directory path, 0700 whatever the umask.
Result<> make_directories(const std::string& path) {
  for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), 0700) < 0 && errno != EEXIST) return fail_path(errno, "mkdir", part);
    if (end == std::string::npos) return {};
  }
}

Result<sys::Fd> open_directory(const std::string& path) {
  GANTRY_TRY(make_directories(path));
  sys::Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail_path(errno, "open", path);
  struct stat info{};
  if (::fstat(dir.get(), &info) < 0) return fail_path(errno, "stat", path);
  const bool others_write = (info.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (info.st_mode & S_ISVTX) == 0;
  if (others_write || (info.st_uid != 0 && info.st_uid != ::geteuid()))
    return fail(cat("socket directory ", path, ": others can put a socket there; make it mode 0700 and your own"));
  return dir;
}

/// Two supervisors that start at the same time must not take each other's socket for a stale one.
io::Task<Result<>> lock_directory(io::Loop& loop, int dir, std::string path) {
  const io::Deadline deadline = io::Deadline::in_ms(kLockLimitMs);
  constexpr std::chrono::milliseconds kPause(5);
  while (::flock(dir, LOCK_EX | LOCK_NB) < 0) {
    if (errno != EWOULDBLOCK && errno != EINTR) co_return fail_path(errno, "flock", path);
    const io::Wake wake = co_await io::sleep_for(loop, kPause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "listen");
    if (deadline.expired())
      co_return fail(cat("socket directory ", path, " is locked: another supervisor is starting there"));
  }
  co_return Result<>();
}

/// Takes away a socket that nobody answers on.
io::Task<Result<>> remove_stale(io::Loop& loop, int dir, std::string path, int type) {
  const std::string name = path.substr(path.rfind('/') + 1);
  struct stat info{};
  if (::fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) co_return Result<>();
    co_return fail_path(errno, "stat", path);
  }
  if (!S_ISSOCK(info.st_mode))
    co_return std::unexpected(Error{cat("socket ", path, ": a file that is no socket is in the way"), EADDRINUSE});
  const io::Deadline deadline = io::Deadline::in_ms(kAnswerLimitMs);
  const Result<sys::Fd> answer = co_await io::connect_unix(loop, path, deadline, type);
  // A full queue that nobody serves is somebody, too: perhaps one that is stopped.
  if (answer || io::is_timeout(answer.error()))
    co_return std::unexpected(Error{cat("a supervisor is already running at ", path), EADDRINUSE});
  if (answer.error().sys_errno != ECONNREFUSED) co_return std::unexpected(answer.error());
  if (::unlinkat(dir, name.c_str(), 0) < 0 && errno != ENOENT) co_return fail_path(errno, "unlink", path);
  co_return Result<>();
}

Result<int> socket_option(const sys::Fd& socket, int option, const char* name) {
  int value = 0;
  socklen_t size = sizeof value;
  if (::getsockopt(socket.get(), SOL_SOCKET, option, &value, &size) < 0)
    return fail_errno(errno, cat("inherited socket: getsockopt ", name));
  return value;
}

}  // namespace

io::Task<Result<io::Listener>> listen_at(io::Loop& loop, std::string path, int type) {
  if (!path.starts_with('/')) co_return fail(cat("socket \"", path, "\": must be an absolute path"));
  const size_t slash = path.rfind('/');
  if (slash + 1 == path.size()) co_return fail(cat("socket ", path, ": the path names a directory"));
  const std::string directory = slash == 0 ? "/" : path.substr(0, slash);
  GANTRY_CO_LET(const sys::Fd dir, open_directory(directory));
  GANTRY_CO_TRY(co_await lock_directory(loop, dir.get(), directory));
  GANTRY_CO_TRY(co_await remove_stale(loop, dir.get(), path, type));
  co_return io::Listener::bind_unix(loop, path, 0600, type);
}

Result<io::Listener> adopt_listener(io::Loop& loop, sys::Fd socket, int wanted) {
  GANTRY_LET(const int domain, socket_option(socket, SO_DOMAIN, "SO_DOMAIN"));
  GANTRY_LET(const int type, socket_option(socket, SO_TYPE, "SO_TYPE"));
  GANTRY_LET(const int listens, socket_option(socket, SO_ACCEPTCONN, "SO_ACCEPTCONN"));
  if (domain != AF_UNIX || type != wanted || listens == 0)
    return fail(cat("inherited socket: must be a Unix ", std::string_view(wanted == SOCK_STREAM ? "stream" : "packet"),
                    " socket that listens"));
  return io::Listener(loop, std::move(socket));
}

}  // namespace gantry
