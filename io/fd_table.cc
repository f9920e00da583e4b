#include "io/fd_table.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <utility>

namespace gantry::io {

namespace {

constexpr int kEventsPerTurn = 128;
constexpr int64_t kRetryMs = 10;

/// POLLIN and the others have the same numbers for epoll. One shot: what somebody forgot to take out is told once.
epoll_event wanted(int fd, uint32_t mask) {
  epoll_event event{};
  event.events = mask | EPOLLONESHOT;
  event.data.fd = fd;
  return event;
}

static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLPRI == EPOLLPRI && POLLRDHUP == EPOLLRDHUP);

uint32_t mask_of(const FdListener& listener) {
  return static_cast<uint32_t>(static_cast<unsigned short>(listener.events()));
}

bool is_ready(const FdListener& listener) {
  pollfd now{listener.fd(), listener.events(), 0};
  return ::poll(&now, 1, 0) != 0;
}

}  // namespace

bool FdWaiter::arm() {
  if (deadline().expired()) return !is_ready(*this);
  return enter();
}

/// False: it is ready.
bool FdWaiter::enter() {
  const int status = loop().fds().add(*this);
  armed_ = status == 0;
  // A file without poll (regular, /dev/null) is always ready; the caller's next call shows what a bad one is.
  if (status == -EPERM || status == -EBADF) return false;
  if (status < 0) retry_ = loop().start_timer(Deadline::in_ms(kRetryMs), &FdWaiter::look, this);
  return true;
}

/// The kernel was out of memory or of epoll watches: as long as it is, we look from time to time. Who hears that
/// something is ready may take it for the end of a process or a client.
void FdWaiter::look(void* self) {
  auto* const waiter = static_cast<FdWaiter*>(self);
  if (is_ready(*waiter) || !waiter->enter()) waiter->wake(Wake::kReady);
}

void FdWaiter::disarm() {
  if (armed_) loop().fds().remove(*this);
  armed_ = false;
  retry_.reset();
}

void FdWaiter::fd_ready() {
  armed_ = false;
  wake(Wake::kReady);
}

void FdWatch::start() {
  if (listening_) return;
  const int status = loop_.fds().add(*this);
  listening_ = status == 0;
  if (listening_) return;
  if (status == -EPERM || status == -EBADF) return loop_.post(*this);
  retry_ = loop_.start_timer(Deadline::in_ms(kRetryMs), &FdWatch::look, this);
}

void FdWatch::look(void* self) {
  auto* const watch = static_cast<FdWatch*>(self);
  if (is_ready(*watch)) return watch->fd_ready();
  watch->start();
}

void FdWatch::stop() {
  if (listening_) loop_.fds().remove(*this);
  listening_ = false;
  retry_.reset();
  unlink();
}

void FdWatch::fd_ready() {
  listening_ = false;
  retry_.reset();
  loop_.post(*this);
}

FdTable::FdTable(uv_loop_t& loop) : epoll_(::epoll_create1(EPOLL_CLOEXEC)), handle_(new uv_poll_t) {
  uv_must(epoll_ ? 0 : -errno, "epoll_create1");
  uv_must(uv_poll_init(&loop, handle_.get(), epoll_.get()), "uv_poll_init");
  handle_->data = this;
  const auto on_poll = [](uv_poll_t* handle, int, int) { static_cast<FdTable*>(handle->data)->dispatch(); };
  uv_must(uv_poll_start(handle_.get(), UV_READABLE, on_poll), "uv_poll_start");
  // Only somebody who waits keeps the loop alive.
  uv_unref(reinterpret_cast<uv_handle_t*>(handle_.get()));
}

int FdTable::enlist(int fd, uint32_t mask) {
  epoll_event event = wanted(fd, mask);
  Watched& watched = watched_[static_cast<size_t>(fd)];
  if (::epoll_ctl(epoll_.get(), watched.mask == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0) {
    // Somebody closed a descriptor that was waited for, and the number came back.
    const bool other = errno == EEXIST || errno == ENOENT;
    if (!other) return -errno;
    if (::epoll_ctl(epoll_.get(), errno == EEXIST ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0) return -errno;
  }
  watched.mask = mask;
  return 0;
}

int FdTable::add(FdListener& listener) {
  const int fd = listener.fd();
  if (fd < 0) return -EBADF;
  const auto index = static_cast<size_t>(fd);
  if (index >= watched_.size()) watched_.resize(index + 1);
  Watched& watched = watched_[index];
  const uint32_t mask = watched.mask | mask_of(listener);
  if (watched.first == nullptr || mask != watched.mask) {
    if (const int status = enlist(fd, mask); status < 0) return status;
  }
  if (watched.first == nullptr) {
    int on = 1;
    (void)::ioctl(fd, FIONBIO, &on);
  }
  listener.next_ = std::exchange(watched.first, &listener);
  if (listeners_++ == 0) uv_ref(reinterpret_cast<uv_handle_t*>(handle_.get()));
  return 0;
}

void FdTable::remove(FdListener& listener) {
  const int fd = listener.fd();
  Watched& watched = watched_[static_cast<size_t>(fd)];
  uint32_t mask = 0;
  bool found = false;
  for (FdListener** at = &watched.first; *at != nullptr;) {
    if (*at == &listener) {
      *at = listener.next_;
      found = true;
      continue;
    }
    mask |= mask_of(**at);
    at = &(*at)->next_;
  }
  if (!found) return;
  if (--listeners_ == 0) uv_unref(reinterpret_cast<uv_handle_t*>(handle_.get()));
  if (watched.first == nullptr) {
    watched.mask = 0;
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  } else if (mask != watched.mask) {
    (void)enlist(fd, mask);
  }
}

void FdTable::dispatch() {
  std::array<epoll_event, kEventsPerTurn> events;
  const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsPerTurn, 0);
  for (int i = 0; i < count; ++i) {
    const epoll_event& event = events[static_cast<size_t>(i)];
    tell(event.data.fd, event.events);
  }
}

/// Listeners take notes only: nobody joins meanwhile.
void FdTable::tell(int fd, uint32_t events) {
  Watched& watched = watched_[static_cast<size_t>(fd)];
  const bool all = (events & (EPOLLERR | EPOLLHUP)) != 0;
  uint32_t left = 0;
  FdListener* woken = nullptr;
  for (FdListener** at = &watched.first; *at != nullptr;) {
    FdListener* const listener = *at;
    if (!all && (mask_of(*listener) & events) == 0) {
      left |= mask_of(*listener);
      at = &listener->next_;
      continue;
    }
    *at = listener->next_;
    listener->next_ = std::exchange(woken, listener);
    if (--listeners_ == 0) uv_unref(reinterpret_cast<uv_handle_t*>(handle_.get()));
  }
  if (watched.first == nullptr) {
    watched.mask = 0;
    (void)::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  } else {
    (void)enlist(fd, left);
  }
  while (woken != nullptr) {
    FdListener* const listener = woken;
    woken = listener->next_;
    listener->fd_ready();
  }
}

}  // namespace gantry::io
