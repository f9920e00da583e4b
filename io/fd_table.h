// Which coroutine waits for which descriptor: an epoll set of our own, which the uv loop watches as a single
// descriptor. uv's own handles cost 5 system calls and 300 bytes for each wait; a supervisor has thousands of them.
// Only for the .cc files of io/.
#pragma once

#include <uv.h>

#include <vector>

#include "io/loop.h"
#include "io/readable.h"
#include "io/uv_handle.h"
#include "sys/fd.h"

namespace gantry::io {

/// The wait of one coroutine for events of one descriptor.
class FdWaiter final : public Waiter, FdListener {
 public:
  FdWaiter(Loop& loop, int fd, short events, Deadline deadline) : Waiter(loop, deadline), FdListener(fd, events) {}
  ~FdWaiter() override { disarm(); }

 private:
  bool arm() override;
  bool enter();
  static void look(void* self);
  void disarm() override;
  void fd_ready() override;

  bool armed_ = false;
  UvTimer retry_;
};

/// The waits of a loop.
class FdTable {
 public:
  explicit FdTable(uv_loop_t& loop);

  /// 0, or negative errno and nothing is registered: EPERM for a file that cannot be waited for, EBADF. Sets O_NONBLOCK
  /// on the open file description.
  int add(FdListener& listener);
  void remove(FdListener& listener);

 private:
  /// All that wait for one descriptor, whose number is the index.
  struct Watched {
    FdListener* first = nullptr;
    uint32_t mask = 0;  ///< what the kernel was told
  };
  void dispatch();
  void tell(int fd, uint32_t events);
  int enlist(int fd, uint32_t mask);

  sys::Fd epoll_;
  UvHandle<uv_poll_t> handle_;
  std::vector<Watched> watched_;
  size_t listeners_ = 0;
};

}  // namespace gantry::io
