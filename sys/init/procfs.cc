// The private procfs: sysctl and LSM labels must reach the kernel, not what a container put over its /proc.
#include "sys/init/context.h"

namespace gantry::init {
namespace {

/// A procfs instance of our own, not attached anywhere.
long make_procfs() {
  const long context = call(__NR_fsopen, "proc", FSOPEN_CLOEXEC);
  if (context < 0) return context;
  long result = call(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (result >= 0)
    result = call(__NR_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  close_fd(context);
  return result;
}

bool is_procfs_root(int fd) {
  StatFs fs;
  Stat object;
  return statfs_fd(fd, &fs) >= 0 && fs.type == kProcMagic && stat_fd(fd, &object) >= 0 &&
         object.st_ino == kProcRootInode;
}

}  // namespace

int proc_handle(Context& ctx) {
  if (ctx.proc >= 0) return ctx.proc;
  long fd = make_procfs();
  // In a user namespace whose own /proc has masks the kernel gives no second one: the one at /proc, verified, must do.
  if (fd < 0) fd = open_at(kAtFdcwd, "/proc", kOPath | kODirectory | kONofollow);
  must(ctx, fd, "procfs");
  if (!is_procfs_root(static_cast<int>(fd))) die(ctx, 0, "/proc is not a procfs");
  ctx.proc = static_cast<int>(fd);
  return ctx.proc;
}

long open_proc_file(Context& ctx, const char* path) {
  return open_resolved(proc_handle(ctx), path, kOWronly, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

}  // namespace gantry::init
