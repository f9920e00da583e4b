#include "sys/lsm.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "sys/fd.h"

namespace gantry::sys {

bool apparmor_enabled() {
  const Fd file(::open("/sys/module/apparmor/parameters/enabled", O_RDONLY | O_CLOEXEC));
  char answer = 'N';
  return file && ::read(file.get(), &answer, 1) == 1 && answer == 'Y';
}

bool selinux_enabled() {
  struct statfs info = {};
  return ::statfs("/sys/fs/selinux", &info) == 0 && static_cast<unsigned long>(info.f_type) == SELINUX_MAGIC;
}

}  // namespace gantry::sys
