#include "sys/seccomp.h"

#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace gantry::sys {

bool seccomp_takes_flags(uint32_t flags) {
  // Without a program the kernel gets as far as EFAULT, if it knows the flags.
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, nullptr) < 0 && errno == EFAULT;
}

}  // namespace gantry::sys
