#include "io/listener.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <optional>

#include "io/readable.h"
#include "io/timer.h"

namespace gantry::io {

namespace {

constexpr size_t kLongestPath = sizeof(sockaddr_un::sun_path) - 1;

/// The address of `path`, which fits.
sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), kLongestPath));
  return address;
}

Result<> check_path(const std::string& path, std::string_view what) {
  if (path.empty()) return fail(cat(what, ": the socket path is empty"));
  if (path.find('\0') != std::string::npos) return fail(cat(what, ": the socket path contains a NUL byte"));
  if (path.back() == '/') return fail(cat(what, " ", path, ": the socket path names a directory"));
  return {};
}

Result<> bind_short(const sys::Fd& socket, const std::string& real, const std::string& shown) {
  const sockaddr_un address = address_of(real);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0) {
    return fail_path(errno, "bind", shown);
  }
  return {};
}

Result<> bind_long(const sys::Fd& socket, const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  const sys::Fd dir(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail_path(errno, "bind", path);
  const std::string through = cat("/proc/self/fd/", dir.get(), "/");
  if (through.size() + name.size() <= kLongestPath) return bind_short(socket, cat(through, name), path);
  const std::string temporary = cat(".bind-", ::getpid(), "-", socket.get());
  GANTRY_TRY(bind_short(socket, cat(through, temporary), path));
  if (::renameat2(dir.get(), temporary.c_str(), dir.get(), name.c_str(), RENAME_NOREPLACE) < 0) {
    const int err = errno == EEXIST ? EADDRINUSE : errno;
    ::unlinkat(dir.get(), temporary.c_str(), 0);
    return fail_path(err, "bind", path);
  }
  return {};
}

/// One attempt: 0, or the errno.
int try_connect(const sys::Fd& socket, const std::string& path) {
  sys::Fd node;
  sockaddr_un address{};
  if (path.size() <= kLongestPath) {
    address = address_of(path);
  } else {
    node = sys::Fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!node) return errno;
    address = address_of(cat("/proc/self/fd/", node.get()));
  }
  return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

}  // namespace

Listener::Listener(Loop& loop, sys::Fd listening) : loop_(&loop), fd_(std::move(listening)), spare_(fd_.duplicate()) {
  const int flags = ::fcntl(fd_.get(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(fd_.get(), F_SETFL, flags | O_NONBLOCK);
}

Result<Listener> Listener::bind_unix(Loop& loop, const std::string& path, mode_t mode, int type) {
  GANTRY_TRY(check_path(path, "bind"));
  sys::Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno(errno, "socket");
  // bind(2) gives the file the mode of the socket's inode less the umask: no moment with wider rights.
  if (::fchmod(socket.get(), mode) < 0) return fail_path(errno, "chmod", path);
  GANTRY_TRY(path.size() <= kLongestPath ? bind_short(socket, path, path) : bind_long(socket, path));
  if (::listen(socket.get(), SOMAXCONN) < 0) return fail_path(errno, "listen", path);
  return Listener(loop, std::move(socket));
}

Listener::Next Listener::try_accept(Result<sys::Fd>& connection) {
  sys::Fd accepted(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (accepted) {
    connection = std::move(accepted);
    return Next::kConnection;
  }
  switch (errno) {
    case EINTR:
    case ECONNABORTED:
      return Next::kRetry;
    case EAGAIN:
      return Next::kWait;
    case EMFILE:
      if (!spare_) return Next::kBackOff;
      turn_away();
      // Not at once again: without a number the kernel says EMFILE even when nobody is in the queue.
      return Next::kWait;
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return Next::kBackOff;
    default:
      connection = fail_errno(errno, "accept");
      return Next::kConnection;
  }
}

void Listener::turn_away() {
  spare_.reset();
  const sys::Fd refused(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (refused) ++turned_away_;
}

Task<Result<sys::Fd>> Listener::accept(Deadline deadline) {
  Result<sys::Fd> connection;
  Wake wake = co_await checkpoint(*loop_);
  while (wake == Wake::kReady) {
    if (!spare_) spare_ = fd_.duplicate();
    switch (try_accept(connection)) {
      case Next::kConnection:
        co_return std::move(connection);
      case Next::kRetry:
        wake = co_await checkpoint(*loop_);
        break;
      case Next::kWait:
        wake = co_await wait_fd(*loop_, fd_.get(), POLLIN, deadline);
        break;
      case Next::kBackOff: {
        const Deadline pause = deadline.or_sooner(Deadline::in_ms(50));
        wake = co_await sleep_until(*loop_, pause);
        if (wake == Wake::kTimeout && !deadline.expired()) wake = Wake::kReady;
        break;
      }
    }
  }
  co_return fail_wake(wake, "accept");
}

Task<Result<sys::Fd>> connect_unix(Loop& loop, std::string path, Deadline deadline, int type) {
  GANTRY_CO_TRY(check_path(path, "connect"));
  sys::Fd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) co_return fail_errno(errno, "socket");
  Wake wake = co_await checkpoint(loop);
  for (int64_t pause_ms = 1; wake == Wake::kReady; pause_ms = std::min<int64_t>(pause_ms * 2, 50)) {
    const int err = try_connect(socket, path);
    if (err == 0) co_return std::move(socket);
    // Only a full queue is worth waiting for, and nothing tells when it is not full any more.
    if (err != EAGAIN && err != EINTR) co_return fail_path(err, "connect", path);
    const Deadline pause = deadline.or_sooner(Deadline::in_ms(pause_ms));
    wake = co_await sleep_until(loop, pause);
    if (wake == Wake::kTimeout && !deadline.expired()) wake = Wake::kReady;
  }
  const std::string what = cat("connect ", path);
  co_return fail_wake(wake, what);
}

}  // namespace gantry::io
