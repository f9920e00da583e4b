#include "io/endpoint.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <termios.h>

#include <algorithm>
#include <climits>

#include "io/readable.h"
#include "io/timer.h"

namespace gantry::io {

namespace {

bool is_terminal(int fd) {
  termios settings{};
  return ::tcgetattr(fd, &settings) == 0;
}

/// /dev/ptmx and the ptmx of any devpts: opening one again makes a new pty.
bool is_pty_master(const struct stat& info) {
  return S_ISCHR(info.st_mode) && major(info.st_rdev) == 5 && minor(info.st_rdev) == 2;
}

Endpoint::Moved moved(ssize_t result) {
  return result >= 0 ? Endpoint::Moved{static_cast<size_t>(result), 0} : Endpoint::Moved{0, errno};
}

template <class Call>
Endpoint::Moved retry(Call call) {
  Endpoint::Moved result{};
  do {
    result = moved(call());
  } while (result.err == EINTR);
  return result;
}

Task<Wake> one_turn(Loop& loop) {
  const Wake wake = co_await yield_now(loop);
  co_return wake;
}

/// For want of a descriptor to watch with.
Task<Wake> look_again(Loop& loop, Deadline deadline) {
  const Deadline pause = deadline.or_sooner(Deadline::in_ms(10));
  const Wake wake = co_await sleep_until(loop, pause);
  co_return wake == Wake::kTimeout && !deadline.expired() ? Wake::kReady : wake;
}

}  // namespace

Result<sys::Fd> reopen_nonblocking(int fd) {
  struct stat info{};
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fstat(fd, &info) < 0) return fail_errno(errno, "reopen");
  if (S_ISREG(info.st_mode)) {
    sys::Fd same(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!same) return fail_errno(errno, "reopen");
    return same;
  }
  if (S_ISSOCK(info.st_mode) || is_pty_master(info)) return fail_errno(ENXIO, "reopen");
  const int wanted = (flags & (O_ACCMODE | O_APPEND)) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
  sys::Fd own(::open(cat("/proc/self/fd/", fd).c_str(), wanted));
  if (!own) return fail_errno(errno, "reopen");
  return own;
}

Endpoint Endpoint::own(sys::Fd fd, Direction direction) {
  Endpoint end(-1, direction);
  end.own_ = std::move(fd);
  const int flags = ::fcntl(end.own_.get(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(end.own_.get(), F_SETFL, flags | O_NONBLOCK);
  end.terminal_ = is_terminal(end.own_.get());
  return end;
}

Endpoint Endpoint::borrow(int fd, Direction direction) {
  Endpoint end(fd, direction);
  struct stat info{};
  if (::fstat(fd, &info) < 0) {
    end.fd_ = -1;  // the number may soon be another file's
    return end;
  }
  end.terminal_ = S_ISCHR(info.st_mode) && is_terminal(fd);
  if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    if (Result<sys::Fd> own = reopen_nonblocking(fd)) {
      end.own_ = std::move(*own);
      return end;
    }
  }
  end.kind_ = S_ISSOCK(info.st_mode) ? Kind::kSocket : Kind::kGuarded;
  // A writable pipe takes PIPE_BUF bytes (pipe(7)); a writable terminal promises less than 256.
  end.piece_ = S_ISREG(info.st_mode) ? SSIZE_MAX : S_ISFIFO(info.st_mode) ? size_t{PIPE_BUF} : 128;
  return end;
}

bool Endpoint::guarded_ready() const {
  pollfd now{fd_, static_cast<short>(direction_ == Direction::kRead ? POLLIN : POLLOUT), 0};
  return ::poll(&now, 1, 0) != 0;
}

Endpoint::Moved Endpoint::try_read(std::span<std::byte> into) {
  Moved result{0, EAGAIN};
  if (kind_ == Kind::kOurs) {
    result = retry([&] { return ::read(number(), into.data(), into.size()); });
    if (result.err == EBADF && !own_) return {0, 0};
  } else if (kind_ == Kind::kSocket) {
    result = retry([&] { return ::recv(fd_, into.data(), into.size(), MSG_DONTWAIT); });
  } else if (guarded_ready()) {
    const iovec part{into.data(), into.size()};
    result = retry([&] { return ::preadv2(fd_, &part, 1, -1, RWF_NOWAIT); });
    // Not offered for this kind of file, or by this kernel; or a regular file that is not cached.
    if (result.err == EOPNOTSUPP || (result.err == EAGAIN && (always_ready_ || piece_ == SSIZE_MAX))) {
      result = retry([&] { return ::read(fd_, into.data(), into.size()); });
    }
  }
  if (result.err == EIO && terminal_) return {0, 0};
  return result;
}

Endpoint::Moved Endpoint::try_write(std::span<const std::byte> from) {
  if (kind_ == Kind::kOurs) return retry([&] { return ::write(number(), from.data(), from.size()); });
  if (kind_ == Kind::kSocket) {
    return retry([&] { return ::send(fd_, from.data(), from.size(), MSG_DONTWAIT | MSG_NOSIGNAL); });
  }
  if (!guarded_ready()) return {0, EAGAIN};
  return retry([&] { return ::write(fd_, from.data(), std::min(from.size(), piece_)); });
}

void Endpoint::watch() {
  if (epoll_ || always_ready_) return;
  epoll_ = sys::Fd(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = direction_ == Direction::kRead ? EPOLLIN : EPOLLOUT;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd_, &event) == 0) return;
  always_ready_ = errno == EPERM;
  epoll_.reset();
}

Task<Wake> Endpoint::ready(Loop& loop, Deadline deadline) {
  if (kind_ == Kind::kOurs) return wait_fd(loop, number(), direction_ == Direction::kRead ? POLLIN : POLLOUT, deadline);
  watch();
  if (epoll_) return wait_fd(loop, epoll_.get(), POLLIN, deadline);
  if (always_ready_) return one_turn(loop);
  return look_again(loop, deadline);
}

void Endpoint::end_output() {
  if (::shutdown(own_.get(), SHUT_WR) < 0) own_.reset();
}

}  // namespace gantry::io
