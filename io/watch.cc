#include "io/watch.h"

#include <poll.h>

#include "io/readable.h"

namespace gantry::io {

Task<Wake> wait_pidfd(Loop& loop, int pidfd, Deadline deadline) {
  return wait_fd(loop, pidfd, POLLIN, deadline);
}

}  // namespace gantry::io
