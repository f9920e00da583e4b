// Children of our own: brokers, hooks, holders of a user namespace.
#include "sys/init/context.h"

namespace gantry::init {

long fork_child(uint64_t flags, int* pidfd) {
  CloneArgs args = {};
  args.flags = flags | (pidfd != nullptr ? kClonePidfd : 0);
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = kSigchld;
  return call(__NR_clone3, &args, sizeof args);
}

int reap(long pid) {
  int status = 0;
  while (call(__NR_wait4, pid, &status, 0, nullptr) == -kEINTR) {
  }
  return status;
}

}  // namespace gantry::init
