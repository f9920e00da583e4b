// The rootfs becomes the root: bound on itself, filled through its fd, pivoted into, the old root detached.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

/// pivot_root(2) refuses a parent that propagates to others. Only a mount namespace that was left shared has one: walks
/// up to the mount point that `path` is on.
void make_parent_private(Context& ctx, const char* path) {
  Text<kPathMax> above(path);
  for (;;) {
    const char* here = above.size() > 0 ? above.get() : "/";
    const long done = mount_call(nullptr, here, nullptr, kMsPrivate, nullptr);
    if (done >= 0) return;
    if (done != -kEINVAL || above.size() == 0) die(ctx, -done, "mount MS_PRIVATE on the parent of the rootfs");
    size_t end = above.size();
    while (end > 0 && above.get()[end - 1] != '/') --end;
    above.shorten(end > 0 ? end - 1 : 0);
  }
}

bool has_op(const Context& ctx, Op op) {
  for (uint32_t i = 0; i < ctx.plan.header->step_count; ++i)
    if (ctx.plan.steps[i].op == op) return true;
  return false;
}

/// The host's /dev/null, proven to be it: what files are masked with must not come from the container.
int open_host_null(Context& ctx) {
  const int fd = static_cast<int>(must(ctx, open_tree(kAtFdcwd, "/dev/null", OPEN_TREE_CLONE), "open_tree /dev/null"));
  Stat object;
  must(ctx, stat_fd(fd, &object), "fstat /dev/null");
  constexpr uint64_t kNullDevice = 0x103;
  if ((object.st_mode & kSIfmt) != kSIfchr || object.st_rdev != kNullDevice)
    die(ctx, 0, "/dev/null of the host is not the null device (character device 1:3)");
  return fd;
}

/// CR-05: after MS_MOVE the old tree stays below; a full procfs or sysfs in it would let a user namespace mount one.
void hide_mount(Context& ctx, const char* where) {
  const long slave = mount_call(nullptr, where, nullptr, kMsSlave | kMsRec, nullptr);
  if (slave == -kENOENT) return;  // gone together with another
  must(ctx, slave, "mount MS_SLAVE");
  const long gone = call(__NR_umount2, where, kMntDetach);
  if (gone == -kEINVAL || gone == -kEPERM) {
    must(ctx, mount_call("tmpfs", where, "tmpfs", 0, nullptr), "mount tmpfs");
  } else {
    must(ctx, gone, "umount2");
  }
}

/// One line of mountinfo(5): "36 35 98:0 /root /mount/point options - type source".
void look_at_mount(Context& ctx, char* line, const char* rootfs) {
  char* fields[5] = {};
  char* cursor = line;
  for (char*& field : fields) {
    field = cursor;
    while (*cursor != ' ' && *cursor != '\0') ++cursor;
    if (*cursor == '\0') return;
    *cursor++ = '\0';
  }
  while (!starts_with(cursor, "- ")) {
    while (*cursor != ' ' && *cursor != '\0') ++cursor;
    if (*cursor++ == '\0') return;
  }
  const bool full = same_text(fields[3], "/") && (starts_with(cursor, "- proc ") || starts_with(cursor, "- sysfs "));
  const char* where = fields[4];
  const size_t size = length_of(rootfs);
  const bool in_rootfs = starts_with(where, rootfs) && (where[size] == '/' || where[size] == '\0');
  if (full && !in_rootfs) hide_mount(ctx, where);
}

void hide_foreign_mounts(Context& ctx, const char* rootfs) {
  const int info = static_cast<int>(must(ctx, open_at(kAtFdcwd, "/proc/self/mountinfo", kORdonly), "open mountinfo"));
  // Read whole before the first change: the list shifts under a reader.
  constexpr size_t kRoom = 16u << 20;
  const long mapped = must(ctx, call(__NR_mmap, nullptr, kRoom, 3, 0x22, -1, 0), "mmap");
  char* list = reinterpret_cast<char*>(mapped);
  size_t size = 0;
  for (;;) {
    const long got = must(ctx, read_fd(info, list + size, kRoom - 1 - size), "read mountinfo");
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  close_fd(info);
  list[size] = '\0';
  for (char* line = list; *line != '\0';) {
    char* end = line;
    while (*end != '\n' && *end != '\0') ++end;
    const bool last = *end == '\0';
    *end = '\0';
    look_at_mount(ctx, line, rootfs);
    line = last ? end : end + 1;
  }
}

/// Where the rootfs is as mountinfo has it: seen from our root.
void find_rootfs(Context& ctx, Text<kPathMax>& out) {
  Text<64> link("/proc/self/fd/");
  link.add_number(static_cast<uint64_t>(ctx.root));
  char path[kPathMax];
  const long size = call(__NR_readlinkat, kAtFdcwd, link.get(), path, sizeof path);
  out.add(path, static_cast<size_t>(must(ctx, size, "readlink of the rootfs")));
}

/// Makes the root of the mount namespace our own. Inside a chroot they differ: what is pivoted or moved there would
/// stay below the real one, at which everybody begins who enters the namespace later (setns(2)): an exec would see the
/// host.
void leave_chroot(Context& ctx) {
  const int self = static_cast<int>(must(ctx, call(__NR_pidfd_open, call(__NR_getpid), 0), "pidfd_open"));
  const long done = set_namespace(self, kCloneNewNs);
  // Without CAP_SYS_CHROOT. Nobody with our rights can enter it then.
  if (done != -kEPERM) must(ctx, done, "setns to the own mount namespace");
  close_fd(self);
}

void move_root(Context& ctx) {
  Text<kPathMax> rootfs;
  find_rootfs(ctx, rootfs);
  hide_foreign_mounts(ctx, rootfs.get());
  const int top = static_cast<int>(must(ctx, open_at(kAtFdcwd, "/", kOPath | kODirectory), "open /"));
  must(ctx, attach_mount(ctx.root, top), "move_mount");
  close_fd(top);
  change_root(ctx, ctx.root);
}

/// Bound on itself: pivot_root(2) wants a mount, and everything that follows is mounted below it.
void bind_rootfs(Context& ctx, const char* path) {
  const bool nothing_shared = (ctx.propagation & kMsRec) != 0 && (ctx.propagation & (kMsSlave | kMsPrivate)) != 0;
  if (!nothing_shared) make_parent_private(ctx, path);
  const long tree = must(ctx, open_tree(kAtFdcwd, path, OPEN_TREE_CLONE | kAtRecursive), "open_tree");
  must(ctx, call(__NR_move_mount, tree, "", kAtFdcwd, path, MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
  ctx.root = static_cast<int>(tree);
}

}  // namespace

void change_root(Context& ctx, int directory) {
  must(ctx, call(__NR_fchdir, directory), "fchdir");
  must(ctx, call(__NR_chroot, "."), "chroot");
  must(ctx, call(__NR_chdir, "/"), "chdir");
}

void step_propagation(Context& ctx, const Step& step) {
  const long done = mount_call(nullptr, "/", nullptr, step.n[0], nullptr);
  if (done == -kEINVAL)
    die(ctx, 0, "/ is a chroot that is no mount point: mount --bind DIR DIR before the chroot to it");
  must(ctx, done, "mount propagation of /");
  ctx.propagation = step.n[0];
}

void step_rootfs(Context& ctx, const Step& step) {
  const char* path = text(ctx.plan, step.s[0]);
  if ((step.flags & kStepHostMounts) != 0) {
    ctx.root = static_cast<int>(must(ctx, open_at(kAtFdcwd, path, kOPath | kODirectory), "open"));
  } else {
    bind_rootfs(ctx, path);
  }
  // These come from the host, so they are fetched while its files are in sight.
  if (has_op(ctx, Op::kMaskedPath)) ctx.null_mount = open_host_null(ctx);
  if (has_op(ctx, Op::kSysctl) || has_op(ctx, Op::kApparmor)) proc_handle(ctx);
}

void step_pivot(Context& ctx, const Step& step) {
  forget_parent(ctx);
  if ((step.flags & kStepHostMounts) != 0) return change_root(ctx, ctx.root);
  leave_chroot(ctx);
  if ((step.flags & kStepNoPivot) != 0) return move_root(ctx);
  const int old = static_cast<int>(must(ctx, open_at(kAtFdcwd, "/", kOPath | kODirectory), "open /"));
  must(ctx, call(__NR_fchdir, ctx.root), "fchdir");
  must(ctx, call(__NR_pivot_root, ".", "."), "pivot_root");
  // Unmounting must not travel to where the old root came from.
  must(ctx, call(__NR_fchdir, old), "fchdir to the old root");
  must(ctx, mount_call(nullptr, ".", nullptr, kMsSlave | kMsRec, nullptr), "mount MS_SLAVE");
  must(ctx, call(__NR_umount2, ".", kMntDetach), "umount2 of the old root");
  close_fd(old);
  must(ctx, call(__NR_chdir, "/"), "chdir");
}

void step_mkdir(Context& ctx, const Step& step) {
  const auto mode = static_cast<unsigned>(step.n[0] & 07777);
  close_fd(must(ctx, make_in_root(ctx, text(ctx.plan, step.s[0]), Make::kDirectory, mode, nullptr), "mkdirat"));
}

void step_make_cwd(Context& ctx, const Step& step) {
  close_fd(must(ctx, make_in_root(ctx, text(ctx.plan, step.s[0]), Make::kDirectory, 0755, nullptr), "mkdirat"));
}

}  // namespace gantry::init
