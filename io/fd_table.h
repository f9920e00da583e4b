// Which coroutine waits for which descriptor. uv takes one handle for each descriptor and loop; here several may wait
// for one, with different events. Only for the .cc files of io/.
#pragma once

#include <uv.h>

#include <memory>
#include <unordered_map>
#include <vector>

#include "io/loop.h"
#include "io/uv_handle.h"

namespace gantry::io {

/// The wait of one coroutine for events of one descriptor.
class FdWaiter final : public Waiter {
 public:
  /// `events`: POLLIN, POLLOUT, POLLPRI, POLLRDHUP.
  FdWaiter(Loop& loop, int fd, short events, Deadline deadline) : Waiter(loop, deadline), fd_(fd), events_(events) {}
  ~FdWaiter() override { disarm(); }

  int fd() const { return fd_; }
  short events() const { return events_; }

 private:
  bool arm() override;
  void disarm() override;

  int fd_;
  short events_;
  bool armed_ = false;
  UvTimer retry_;
};

/// The waits of a loop.
class FdTable {
 public:
  explicit FdTable(uv_loop_t& loop) : loop_(loop) {}

  /// Status of the registration: 0, or uv's error and nothing is registered.
  int add(FdWaiter& waiter);
  void remove(FdWaiter& waiter);

 private:
  struct Watched {
    FdTable* table;
    int fd;
    int mask = 0;
    UvHandle<uv_poll_t> poll;
    std::vector<FdWaiter*> waiters;
  };
  static void on_poll(uv_poll_t* poll, int status, int events);
  static void restart(Watched& watched);

  uv_loop_t& loop_;
  std::unordered_map<int, std::unique_ptr<Watched>> watched_;
};

}  // namespace gantry::io
