#include "io/readable.h"

#include "io/fd_table.h"

namespace gantry::io {

namespace {
FdWaiter fd_waiter(Loop& loop, int fd, short events, Deadline deadline) {
  return FdWaiter(loop, fd, events, deadline);
}
}  // namespace

Task<Wake> wait_fd(Loop& loop, int fd, short events, Deadline deadline) {
  const Wake wake = co_await fd_waiter(loop, fd, events, deadline);
  co_return wake;
}

}  // namespace gantry::io
