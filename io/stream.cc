#include "io/stream.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <optional>

#include "io/fd_table.h"

namespace gantry::io {

namespace {

FdWaiter fd_waiter(Loop& loop, int fd, short events, Deadline deadline) {
  return FdWaiter(loop, fd, events, deadline);
}

Result<> set_nonblocking(int fd, std::string_view what) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail_errno(errno, what);
  if ((flags & O_NONBLOCK) == 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return fail_errno(errno, what);
  return {};
}

constexpr size_t kControlSize = CMSG_SPACE(kMaxFdsPerMessage * sizeof(int)) + 128;  // and credentials, if asked for

void take_fds(msghdr& message, std::vector<sys::Fd>& fds) {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

/// nullopt: nothing there yet.
Result<std::optional<size_t>> try_recv(int sock, std::span<std::byte> data, std::vector<sys::Fd>& fds) {
  alignas(cmsghdr) std::array<char, kControlSize> control;
  iovec bytes{data.data(), data.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(sock, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return std::nullopt;
  if (got < 0) return fail_errno(errno, "recvmsg");
  std::vector<sys::Fd> came;
  take_fds(message, came);
  if (message.msg_flags & MSG_CTRUNC) {
    return std::unexpected(Error{"recvmsg: descriptors lost: too many in one message or too many open files", EMFILE});
  }
  if (message.msg_flags & MSG_TRUNC) {
    return std::unexpected(Error{cat("recvmsg: message longer than ", data.size(), " bytes"), EMSGSIZE});
  }
  for (sys::Fd& fd : came) fds.push_back(std::move(fd));
  return static_cast<size_t>(got);
}

ssize_t send_with_fds(int sock, std::span<const std::byte> data, std::span<const int> fds) {
  alignas(cmsghdr) std::array<char, kControlSize> control;
  iovec bytes{const_cast<std::byte*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  std::memset(control.data(), 0, control.size());
  message.msg_control = control.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* const part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(part), fds.data(), fds.size_bytes());
  return ::sendmsg(sock, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/// Bytes sent; nullopt: no room yet.
Result<std::optional<size_t>> try_send(int sock, std::span<const std::byte> data, std::span<const int> fds) {
  ssize_t sent = 0;
  do {
    sent = fds.empty() ? ::send(sock, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                       : send_with_fds(sock, data, fds);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno == EAGAIN) return std::nullopt;
  if (sent < 0) return fail_errno(errno, fds.empty() ? "send" : "sendmsg");
  return static_cast<size_t>(sent);
}

}  // namespace

Task<Result<size_t>> read_some(Loop& loop, int fd, std::span<std::byte> into, Deadline deadline) {
  GANTRY_CO_TRY(set_nonblocking(fd, "read"));
  Wake wake = co_await checkpoint(loop);
  while (wake == Wake::kReady) {
    const ssize_t got = ::read(fd, into.data(), into.size());
    if (got >= 0) co_return static_cast<size_t>(got);
    if (errno == EINTR) continue;
    if (errno != EAGAIN) co_return fail_errno(errno, "read");
    wake = co_await fd_waiter(loop, fd, POLLIN, deadline);
  }
  co_return fail_wake(wake, "read");
}

Task<Result<>> write_all(Loop& loop, int fd, std::span<const std::byte> from, Deadline deadline) {
  GANTRY_CO_TRY(set_nonblocking(fd, "write"));
  Wake wake = co_await checkpoint(loop);
  while (wake == Wake::kReady) {
    if (from.empty()) co_return Result<>();
    const ssize_t put = ::write(fd, from.data(), from.size());
    if (put >= 0) {
      from = from.subspan(static_cast<size_t>(put));
      if (!from.empty()) wake = co_await checkpoint(loop);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) co_return fail_errno(errno, "write");
    wake = co_await fd_waiter(loop, fd, POLLOUT, deadline);
  }
  co_return fail_wake(wake, "write");
}

Task<Result<size_t>> recv_msg(Loop& loop, int sock, std::span<std::byte> data, std::vector<sys::Fd>& fds,
                              Deadline deadline) {
  Wake wake = co_await checkpoint(loop);
  while (wake == Wake::kReady) {
    GANTRY_CO_LET(const std::optional<size_t> got, try_recv(sock, data, fds));
    if (got) co_return *got;
    wake = co_await fd_waiter(loop, sock, POLLIN, deadline);
  }
  co_return fail_wake(wake, "recvmsg");
}

Task<Result<>> send_msg(Loop& loop, int sock, std::span<const std::byte> data, std::span<const int> fds,
                        Deadline deadline) {
  if (fds.size() > kMaxFdsPerMessage) co_return fail(cat("sendmsg: ", fds.size(), " descriptors in one message"));
  Wake wake = co_await checkpoint(loop);
  while (wake == Wake::kReady) {
    GANTRY_CO_LET(const std::optional<size_t> sent, try_send(sock, data, fds));
    if (sent) {
      data = data.subspan(*sent);
      fds = {};
      if (data.empty()) co_return Result<>();
      wake = co_await checkpoint(loop);
    } else {
      wake = co_await fd_waiter(loop, sock, POLLOUT, deadline);
    }
  }
  co_return fail_wake(wake, "sendmsg");
}

}  // namespace gantry::io
