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

Result<> load_seccomp_filter(std::span<const sock_filter> program) {
  const sock_fprog filter{static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) < 0) return fail_errno(errno, "seccomp");
  return {};
}

}  // namespace gantry::sys
