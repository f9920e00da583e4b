// Device nodes and links below the rootfs, made and judged through the fd of their directory.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

bool is_node(const Stat& object, uint64_t mode, uint64_t device) {
  if ((object.st_mode & kSIfmt) != (mode & kSIfmt)) return false;
  return (mode & kSIfmt) == kSIfifo || object.st_rdev == device;
}

/// What mode and owner a node has is set through an fd that is proven to be the node we made.
void set_owner(Context& ctx, const Step& step, int directory, const char* name) {
  const int node = static_cast<int>(must(ctx, open_at(directory, name, kOPath | kONofollow), "open the node"));
  Stat object;
  must(ctx, stat_fd(node, &object), "fstat");
  if (!is_node(object, step.n[0], step.n[1])) die(ctx, 0, "the device node was replaced while it was made");
  must(ctx, call(__NR_fchownat, node, "", step.n[2], step.n[3], kAtEmptyPath), "fchownat");
  close_fd(node);
}

void check_existing(Context& ctx, const Step& step, int directory, const char* name) {
  Stat object;
  must(ctx, stat_at(directory, name, &object, kAtSymlinkNofollow), "fstatat");
  if (is_node(object, step.n[0], step.n[1])) return;
  Message message;
  message.add(text(ctx.plan, step.s[0])).add(": exists and is not the device that was asked for");
  die(ctx, 0, message.get());
}

/// A file to bind the host's node on; what is there already must be a plain file or that very node.
int bind_target(Context& ctx, const Step& step, int directory, const char* name) {
  long fd = open_at(directory, name, kORdonly | kOCreat | kOExcl | kONofollow, 0644);
  if (fd == -kEEXIST) {
    fd = open_at(directory, name, kOPath | kONofollow);
    Stat object;
    if (fd >= 0) must(ctx, stat_fd(static_cast<int>(fd), &object), "fstat");
    if (fd >= 0 && (object.st_mode & kSIfmt) != kSIfreg) check_existing(ctx, step, directory, name);
  }
  return static_cast<int>(must(ctx, fd, "openat"));
}

void bind_device(Context& ctx, const Step& step, int directory, const char* name) {
  const char* source = text(ctx.plan, step.s[1]);
  const int mount = static_cast<int>(must(ctx, open_tree(kAtFdcwd, source, OPEN_TREE_CLONE), "open_tree"));
  Stat object;
  must(ctx, stat_fd(mount, &object), "fstat");
  if (!is_node(object, step.n[0], step.n[1])) {
    Message message;
    message.add(source).add(" of the host is another device");
    die(ctx, 0, message.get());
  }
  const int target = bind_target(ctx, step, directory, name);
  must(ctx, attach_mount(mount, target), "move_mount");
  close_fd(target);
  close_fd(mount);
}

}  // namespace

void step_device(Context& ctx, const Step& step) {
  const char* name;
  const int directory = parent_in_root(ctx, text(ctx.plan, step.s[0]), &name);
  if ((step.flags & kStepBind) != 0) return bind_device(ctx, step, directory, name);
  const long made = call(__NR_mknodat, directory, name, step.n[0], step.n[1]);
  if (made == -kEEXIST) return check_existing(ctx, step, directory, name);
  if (made == -kEPERM && step.s[1].offset != 0) return bind_device(ctx, step, directory, name);
  must(ctx, made, "mknodat");
  if ((step.n[2] | step.n[3]) != 0) set_owner(ctx, step, directory, name);
}

void step_symlink(Context& ctx, const Step& step) {
  const char* target = text(ctx.plan, step.s[0]);
  const char* name;
  const int directory = parent_in_root(ctx, text(ctx.plan, step.s[1]), &name);
  long made = call(__NR_symlinkat, target, directory, name);
  if (made == -kEEXIST && (step.flags & kStepReplace) != 0) {
    char old[kPathMax];
    const size_t size = length_of(target);
    const long got = call(__NR_readlinkat, directory, name, old, sizeof old);
    if (got == static_cast<long>(size) && __builtin_memcmp(old, target, size) == 0) return;
    // A directory or a mount point stays: the image or the config wants it there.
    if (call(__NR_unlinkat, directory, name, 0) >= 0) made = call(__NR_symlinkat, target, directory, name);
  }
  if (made != -kEEXIST) must(ctx, made, "symlinkat");
}

}  // namespace gantry::init
