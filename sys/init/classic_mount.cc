// mount(2) for what fsconfig(2) cannot carry: values longer than 255 bytes, as an overlay's lowerdir easily is, and the
// flag "iversion".
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr size_t kMaxValue = 255;

/// The options as mount(2) wants them; cut when longer than the page it reads.
void join_options(const Context& ctx, const MountArgs& args, TextBuilder& out) {
  const char* option = ctx.plan.arena + args.data.offset;
  for (uint32_t i = 0; i < args.data_count; ++i, option = next_text(option)) {
    if (*option == '\0') continue;
    if (out.size() > 0) out.add(",");
    out.add(option);
  }
}

/// A private directory on top of `target`, taken away again by leave_scratch().
int enter_scratch(Context& ctx, int target) {
  const long context = must(ctx, call(__NR_fsopen, "tmpfs", FSOPEN_CLOEXEC), "fsopen tmpfs");
  must(ctx, call(__NR_fsconfig, context, FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), "fsconfig tmpfs");
  const long mount = must(ctx, call(__NR_fsmount, context, FSMOUNT_CLOEXEC, 0), "fsmount tmpfs");
  close_fd(context);
  must(ctx, call(__NR_mkdirat, mount, "m", 0700), "mkdirat");
  must(ctx, attach_mount(static_cast<int>(mount), target), "move_mount");
  must(ctx, call(__NR_fchdir, mount), "fchdir");
  return static_cast<int>(mount);
}

void leave_scratch(Context& ctx, int scratch) {
  must(ctx, call(__NR_umount2, ".", kMntDetach), "umount2");
  must(ctx, call(__NR_chdir, "/"), "chdir");
  close_fd(scratch);
}

}  // namespace

bool needs_classic_mount(const Context& ctx, const MountArgs& args) {
  if ((args.superblock & kMsIVersion) != 0) return true;
  const char* option = ctx.plan.arena + args.data.offset;
  for (uint32_t i = 0; i < args.data_count; ++i, option = next_text(option)) {
    const char* value = option;
    while (*value != '\0' && *value != '=') ++value;
    if (*value == '=' && length_of(value + 1) > kMaxValue) return true;
  }
  return false;
}

int classic_mount(Context& ctx, const MountArgs& args, const char* source, int target, const char* mode) {
  Text<kPathMax> options;
  join_options(ctx, args, options);
  if (*mode != '\0') options.add(options.size() > 0 ? ",mode=" : "mode=").add(mode);
  if (options.cut()) die(ctx, kE2BIG, "mount: the options together");
  const int scratch = enter_scratch(ctx, target);
  constexpr unsigned long kSuperblock =
      kMsRdonly | kMsSynchronous | kMsMandlock | kMsDirsync | kMsLazytime | kMsIVersion;
  must(ctx, mount_call(source, "m", text(ctx.plan, args.fstype), args.superblock & kSuperblock, options.get()),
       "mount");
  const long mount = must(ctx, open_tree(scratch, "m", OPEN_TREE_CLONE), "open_tree");
  leave_scratch(ctx, scratch);
  // A copied-up tmpfs is filled first and made read-only afterwards.
  const uint64_t late = (args.flags & kMountTmpCopyUp) != 0 ? uint64_t{MOUNT_ATTR_RDONLY} : 0;
  struct mount_attr attr = {args.attr_set & ~late, args.attr_set != 0 ? uint64_t{MOUNT_ATTR__ATIME} : 0, 0, 0};
  if (args.attr_set != 0) must(ctx, mount_setattr(static_cast<int>(mount), 0, &attr), "mount_setattr");
  return static_cast<int>(mount);
}

}  // namespace gantry::init
