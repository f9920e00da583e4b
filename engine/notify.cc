#include "engine/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

#include "engine/verbs.h"
#include "io/readable.h"
#include "io/scope.h"
#include "io/stream.h"
#include "io/watch.h"
#include "sys/file.h"
#include "sys/pipe.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kBarrierMs = 30'000;

/// A datagram socket connected to the manager.
Result<sys::Fd> connect_host(const std::string& host) {
  sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (host.size() >= sizeof address.sun_path) return fail(cat("NOTIFY_SOCKET ", host, ": longer than 107 bytes"));
  std::memcpy(address.sun_path, host.data(), host.size());
  if (host.front() == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + host.size());
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) < 0)
    return fail_path(errno, "connect NOTIFY_SOCKET", host);
  return socket;
}

/// BARRIER=1 with a pipe's write end: EOF says that the manager has handled all before it (sd_notify(3)).
io::Task<Result<>> barrier(io::Loop& loop, int socket) {
  GANTRY_CO_LET(sys::Pipe pipe, sys::Pipe::open());
  const std::string_view text = "BARRIER=1";
  const io::Deadline deadline = io::Deadline::in_ms(kBarrierMs);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  const std::array<int, 1> passed{pipe.write.get()};
  const std::span<const int> fds(passed);
  GANTRY_CO_TRY(co_await io::send_msg(loop, socket, bytes, fds, deadline));
  pipe.write.reset();
  const io::Wake wake = co_await io::wait_fd(loop, pipe.read.get(), POLLIN, deadline);
  if (wake == io::Wake::kTimeout) log_warning("Timeout after waiting 30s for barrier. Ignored.");
  co_return Result<>();
}

/// The first line of a datagram that begins with READY=, skipping all others.
io::Task<Result<std::string>> await_ready(io::Loop& loop, int socket) {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    std::array<std::byte, 4096> buffer;
    std::vector<sys::Fd> ignored;
    const std::span<std::byte> into(buffer);
    Result<size_t> got = co_await io::recv_msg(loop, socket, into, ignored, never);
    if (!got && got.error().sys_errno == EMSGSIZE) continue;
    if (!got) co_return forward(std::move(got));
    const std::string_view text(reinterpret_cast<const char*>(buffer.data()), *got);
    for (const std::string_view line : split(text, '\n'))
      if (line.starts_with("READY=")) co_return std::string(line);
  }
}

}  // namespace

Result<> make_notify_dir(const sys::Fd& state_dir) {
  if (::mkdirat(state_dir.get(), kNotifyDir, 0755) < 0) return fail_path(errno, "mkdir", kNotifyDir);
  if (::fchmodat(state_dir.get(), kNotifyDir, 0755, 0) < 0) return fail_path(errno, "chmod", kNotifyDir);
  return {};
}

Result<NotifyRelay> NotifyRelay::open(const sys::Fd& state_dir) {
  const char* host = std::getenv("NOTIFY_SOCKET");
  sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(errno, "socket");
  // Through /proc/self/fd: a state root of any length fits.
  const std::string path = cat("/proc/self/fd/", state_dir.get(), "/", kNotifyDir, "/notify.sock");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ::unlink(path.c_str());
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return fail_path(errno, "bind", "notify.sock");
  if (::chmod(path.c_str(), 0777) < 0) return fail_path(errno, "chmod", "notify.sock");
  return NotifyRelay(std::move(socket), host == nullptr ? "" : host);
}

io::Task<Result<>> NotifyRelay::forward_ready(io::Loop& loop, pid_t init, int init_pidfd) {
  if (host_.empty()) co_return Result<>();
  const io::Deadline never = io::Deadline::never();
  auto ready = await_ready(loop, socket_.get());
  auto death = io::wait_pidfd(loop, init_pidfd, never);
  auto raced = co_await io::race(loop, std::move(ready), std::move(death));
  if (!raced.a_first || !raced.a) co_return Result<>();
  GANTRY_CO_LET(const sys::Fd host, connect_host(host_));
  for (const std::string& text : {cat(*raced.a, "\n"), cat("MAINPID=", init, "\n")})
    if (::send(host.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0)
      co_return fail_path(errno, "send NOTIFY_SOCKET", host_);
  Result<> done = co_await barrier(loop, host.get());
  co_return done;
}

}  // namespace gantry
