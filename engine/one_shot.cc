#include "engine/one_shot.h"

#include <fcntl.h>

namespace gantry {

unsigned count_inherited_fds() {
  unsigned count = 0;
  while (::fcntl(static_cast<int>(count) + 3, F_GETFD) >= 0) ++count;
  return count;
}

}  // namespace gantry
