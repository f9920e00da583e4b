#include "io/fd_table.h"

#include <poll.h>

#include <algorithm>

namespace gantry::io {

namespace {

int uv_events(short events) {
  int mask = 0;
  if (events & POLLIN) mask |= UV_READABLE;
  if (events & POLLOUT) mask |= UV_WRITABLE;
  if (events & POLLPRI) mask |= UV_PRIORITIZED;
  if (events & POLLRDHUP) mask |= UV_DISCONNECT;
  return mask;
}

}  // namespace

bool FdWaiter::arm() {
  if (deadline().expired()) {
    pollfd now{fd_, events_, 0};
    return ::poll(&now, 1, 0) == 0;
  }
  const int status = loop().fds().add(*this);
  armed_ = status == 0;
  // A file without poll (regular, /dev/null) is always ready; the caller's next call shows what a bad one is.
  if (status == UV_EPERM || status == UV_EBADF) return false;
  if (status < 0) {
    // Out of memory or of epoll watches: the caller looks himself, but does not spin.
    retry_ = loop().start_timer(
        Deadline::in_ms(10), [](void* self) { static_cast<FdWaiter*>(self)->wake(Wake::kReady); }, this);
  }
  return true;
}

void FdWaiter::disarm() {
  if (armed_) loop().fds().remove(*this);
  armed_ = false;
  retry_.reset();
}

int FdTable::add(FdWaiter& waiter) {
  std::unique_ptr<Watched>& slot = watched_[waiter.fd()];
  if (!slot) {
    auto* const poll = new uv_poll_t;
    const int status = uv_poll_init(&loop_, poll, waiter.fd());
    if (status < 0) {
      delete poll;
      watched_.erase(waiter.fd());
      return status;
    }
    slot = std::make_unique<Watched>();
    slot->table = this;
    slot->fd = waiter.fd();
    slot->poll.reset(poll);
    poll->data = slot.get();
  }
  slot->waiters.push_back(&waiter);
  restart(*slot);
  return 0;
}

void FdTable::remove(FdWaiter& waiter) {
  const auto found = watched_.find(waiter.fd());
  if (found == watched_.end()) return;
  std::erase(found->second->waiters, &waiter);
  if (found->second->waiters.empty()) {
    watched_.erase(found);
  } else {
    restart(*found->second);
  }
}

void FdTable::restart(Watched& watched) {
  int mask = 0;
  for (const FdWaiter* waiter : watched.waiters) mask |= uv_events(waiter->events());
  if (mask == watched.mask) return;
  watched.mask = mask;
  uv_must(uv_poll_start(watched.poll.get(), mask, on_poll), "uv_poll_start");
}

void FdTable::on_poll(uv_poll_t* poll, int status, int events) {
  auto* const watched = static_cast<Watched*>(poll->data);
  // A status means POLLERR: uv has stopped the handle, and the next call of each waiter shows what it is.
  if (status < 0) watched->mask = 0;
  std::vector<FdWaiter*> woken;
  for (FdWaiter* waiter : watched->waiters) {
    if (status < 0 || (uv_events(waiter->events()) & events) != 0) woken.push_back(waiter);
  }
  // The last one takes `watched` with it.
  for (FdWaiter* waiter : woken) waiter->wake(Wake::kReady);
}

}  // namespace gantry::io
