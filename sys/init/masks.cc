// Read-only and masked paths: the target is opened once, what covers it is attached by fd.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

/// -1: the path does not exist, so there is nothing to protect.
int open_existing(Context& ctx, const Step& step) {
  const long fd = open_in_root(ctx, text(ctx.plan, step.s[0]), kOPath);
  if (fd == -kENOENT || fd == -kENOTDIR) return -1;
  return static_cast<int>(must(ctx, fd, "openat2"));
}

long make_empty_tmpfs(const char* inodes) {
  const long context = call(__NR_fsopen, "tmpfs", FSOPEN_CLOEXEC);
  if (context < 0) return context;
  long result = call(__NR_fsconfig, context, FSCONFIG_SET_STRING, "nr_blocks", "1", 0);
  if (result >= 0) result = call(__NR_fsconfig, context, FSCONFIG_SET_STRING, "nr_inodes", inodes, 0);
  if (result >= 0) result = call(__NR_fsconfig, context, FSCONFIG_SET_FLAG, "ro", nullptr, 0);
  if (result >= 0) result = call(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0);
  if (result >= 0) result = call(__NR_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY);
  close_fd(context);
  return result;
}

/// Attaches `cover` on `target`. The first one goes itself; later ones are copies of it, which every kernel can make
/// because it is attached by then.
void attach_cover(Context& ctx, int cover, bool& used, int target) {
  const long mount =
      used ? must(ctx, open_tree(cover, "", OPEN_TREE_CLONE | unsigned{kAtEmptyPath}), "open_tree") : cover;
  must(ctx, attach_mount(static_cast<int>(mount), target), "move_mount");
  if (used) close_fd(mount);
  used = true;
}

void mask(Context& ctx, const Step& step) {
  const int target = open_existing(ctx, step);
  if (target < 0) return;
  Stat object;
  must(ctx, stat_fd(target, &object), "fstat");
  if ((object.st_mode & kSIfmt) == kSIfdir) {
    if (ctx.empty_mount < 0) {
      long mount = make_empty_tmpfs("1");
      if (mount < 0) mount = make_empty_tmpfs("2");  // kernels that count the root inode differently
      ctx.empty_mount = static_cast<int>(must(ctx, mount, "tmpfs for masked directories"));
    }
    attach_cover(ctx, ctx.empty_mount, ctx.empty_used, target);
  } else {
    if (ctx.null_mount < 0) die(ctx, 0, "plan: a masked path without a rootfs");
    attach_cover(ctx, ctx.null_mount, ctx.null_used, target);
  }
  close_fd(target);
}

/// After the last mask: a container that waits for `start` keeps nothing of these.
void forget_covers(Context& ctx) {
  const uint32_t next = ctx.step + 1;
  if (next < ctx.plan.header->step_count && ctx.plan.steps[next].op == Op::kMaskedPath) return;
  if (ctx.null_mount >= 0) close_fd(ctx.null_mount);
  if (ctx.empty_mount >= 0) close_fd(ctx.empty_mount);
  ctx.null_mount = ctx.empty_mount = -1;
}

}  // namespace

void step_readonly_path(Context& ctx, const Step& step) {
  const int target = open_existing(ctx, step);
  if (target < 0) return;
  const int mount = static_cast<int>(
      must(ctx, open_tree(target, "", OPEN_TREE_CLONE | unsigned{kAtRecursive | kAtEmptyPath}), "open_tree"));
  struct mount_attr attr = {MOUNT_ATTR_RDONLY, 0, 0, 0};
  must(ctx, mount_setattr(mount, 0, &attr), "mount_setattr");
  must(ctx, attach_mount(mount, target), "move_mount");
  close_fd(mount);
  close_fd(target);
}

void step_masked_path(Context& ctx, const Step& step) {
  mask(ctx, step);
  forget_covers(ctx);
}

}  // namespace gantry::init
