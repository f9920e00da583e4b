// kMount: every mount is built detached, gets all its attributes, and is attached once, by fd.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

/// One kMount step in progress.
struct Mounting {
  Context& ctx;
  const Step& step;
  const MountArgs& args;
  const char* source;  ///< may be null
  const char* destination;
  int target = -1;  ///< O_PATH of the mount point
  bool made_target = false;

  bool wants(uint32_t flag) const { return (args.flags & flag) != 0; }
};

/// The file system's own words about a refused option, if it left any: "e overlay: missing 'lowerdir'".
[[noreturn]] void die_of_filesystem(Context& ctx, int context, long err, const char* name) {
  char log[200];
  const long size = read_fd(context, log, sizeof log);
  Message text(name);
  if (size > 2 && log[1] == ' ') {
    const size_t end = static_cast<size_t>(size);
    text.add(": ").add(log + 2, log[end - 1] == '\n' ? end - 3 : end - 2);
  }
  die(ctx, err, text.get());
}

long configure(int context, unsigned command, const char* key, const char* value) {
  return call(__NR_fsconfig, context, command, key, value, 0);
}

void set_option(Context& ctx, int context, const char* option) {
  Text<256> key;
  size_t split = 0;
  while (option[split] != '\0' && option[split] != '=') ++split;
  key.add(option, split);
  const bool has_value = option[split] == '=';
  const long set = key.cut()   ? -kEINVAL
                   : has_value ? configure(context, FSCONFIG_SET_STRING, key.get(), option + split + 1)
                               : configure(context, FSCONFIG_SET_FLAG, key.get(), nullptr);
  if (set >= 0) return;
  Message name("fsconfig ");
  die_of_filesystem(ctx, context, -set, name.add(option).get());
}

struct SuperblockFlag {
  uint64_t flag;
  const char* name;
};
constexpr SuperblockFlag kSuperblockFlags[] = {
    {kMsRdonly, "ro"},     {kMsSynchronous, "sync"},  {kMsDirsync, "dirsync"},
    {kMsMandlock, "mand"}, {kMsLazytime, "lazytime"}, {kMsIVersion, "iversion"},
};

void set_options(const Mounting& mounting, int context) {
  for (const SuperblockFlag& known : kSuperblockFlags)
    if ((mounting.args.superblock & known.flag) != 0) set_option(mounting.ctx, context, known.name);
  const char* option = mounting.ctx.plan.arena + mounting.args.data.offset;
  for (uint32_t i = 0; i < mounting.args.data_count; ++i, option = next_text(option))
    if (*option != '\0') set_option(mounting.ctx, context, option);
}

constexpr size_t kModeRoom = 16;

/// The mode of the directory that the tmpfs will cover; stays empty when the tmpfs is to have its own.
void covered_mode(const Mounting& mounting, Text<kModeRoom>& mode) {
  Stat covered;
  if (!mounting.wants(kMountInheritMode) || mounting.made_target || stat_fd(mounting.target, &covered) < 0) return;
  mode.add("0").add_number(covered.st_mode & 07777, 8);
}

void inherit_mode(const Mounting& mounting, int context) {
  Text<kModeRoom> mode;
  covered_mode(mounting, mode);
  if (mode.size() == 0) return;
  must(mounting.ctx, configure(context, FSCONFIG_SET_STRING, "mode", mode.get()), "fsconfig mode");
}

/// A new file system as a detached mount, or an errno that a fallback may know to answer.
long create_filesystem(Mounting& mounting) {
  Context& ctx = mounting.ctx;
  const char* type = text(ctx.plan, mounting.args.fstype);
  const bool may_fall_back = mounting.wants(kMountSysfsFallback | kMountCgroupFallback);
  const long opened = call(__NR_fsopen, type, FSOPEN_CLOEXEC);
  if (opened == -kEPERM && may_fall_back) return opened;  // sysfs says so here already
  const int context = static_cast<int>(must(ctx, opened, "fsopen"));
  if (mounting.source != nullptr && *mounting.source != '\0') {
    const long set = configure(context, FSCONFIG_SET_STRING, "source", mounting.source);
    if (set < 0) die_of_filesystem(ctx, context, -set, "fsconfig source");
  }
  set_options(mounting, context);
  inherit_mode(mounting, context);
  const long created = configure(context, FSCONFIG_CMD_CREATE, nullptr, nullptr);
  if (created < 0 && !may_fall_back) die_of_filesystem(ctx, context, -created, "fsconfig create");
  // A copied-up tmpfs is filled first and made read-only afterwards.
  const uint64_t late = mounting.wants(kMountTmpCopyUp) ? uint64_t{MOUNT_ATTR_RDONLY} : 0;
  const long mount =
      created < 0 ? created : call(__NR_fsmount, context, FSMOUNT_CLOEXEC, mounting.args.attr_set & ~late);
  close_fd(context);
  if (mount < 0 && !may_fall_back) die(ctx, -mount, "fsmount");
  return mount;
}

void set_attributes(Context& ctx, int mount, uint64_t set, uint64_t clear, uint64_t propagation, unsigned flags) {
  if ((set | clear | propagation) == 0) return;
  struct mount_attr attr = {set, clear, propagation, 0};
  must(ctx, mount_setattr(mount, flags, &attr), "mount_setattr");
}

/// Recursive attributes and propagation, the same for all kinds of mounts.
void finish_attributes(const Mounting& mounting, int mount) {
  const MountArgs& args = mounting.args;
  set_attributes(mounting.ctx, mount, args.rec_set, args.rec_clear, 0, kAtRecursive);
  if (args.propagation != 0)
    set_attributes(mounting.ctx, mount, 0, 0, args.propagation & ~kMsRec,
                   (args.propagation & kMsRec) != 0 ? kAtRecursive : 0);
}

int clone_tree(Context& ctx, const char* path) {
  return static_cast<int>(must(ctx, open_tree(kAtFdcwd, path, OPEN_TREE_CLONE | kAtRecursive), "open_tree"));
}

/// What stands in for a sysfs or cgroup2 that the kernel refuses in a user namespace.
int fallback_mount(const Mounting& mounting, long err) {
  Context& ctx = mounting.ctx;
  const bool sysfs = mounting.wants(kMountSysfsFallback) && err == kEPERM;
  const bool cgroup = mounting.wants(kMountCgroupFallback) && (err == kEPERM || err == kEBUSY) &&
                      text(ctx.plan, mounting.args.fallback) != nullptr;
  if (!sysfs && !cgroup) die(ctx, err, "fsmount");
  const int mount = clone_tree(ctx, sysfs ? "/sys" : text(ctx.plan, mounting.args.fallback));
  // Below the host's /sys there are writable mounts, the cgroups above all: the attributes must reach them too.
  set_attributes(ctx, mount, mounting.args.attr_set, 0, 0, kAtRecursive);
  return mount;
}

int filesystem_mount(Mounting& mounting) {
  int fd;
  if (needs_classic_mount(mounting.ctx, mounting.args)) {
    Text<kModeRoom> mode;
    covered_mode(mounting, mode);
    fd = classic_mount(mounting.ctx, mounting.args, mounting.source, mounting.target, mode.get());
  } else {
    const long mount = create_filesystem(mounting);
    if (mount < 0) return fallback_mount(mounting, -mount);
    fd = static_cast<int>(mount);
  }
  if (mounting.wants(kMountTmpCopyUp)) {
    must(mounting.ctx, copy_tree(mounting.target, fd), "tmpcopyup");
    set_attributes(mounting.ctx, fd, mounting.args.attr_set & MOUNT_ATTR_RDONLY, 0, 0, 0);
  }
  return fd;
}

int own_user_namespace(Context& ctx) {
  return static_cast<int>(must(ctx, open_at(kAtFdcwd, "/proc/self/ns/user", kORdonly), "open /proc/self/ns/user"));
}

int bind_source(const Mounting& mounting) {
  Context& ctx = mounting.ctx;
  if (!mounting.wants(kMountFromLauncher | kMountIdmap)) {
    const unsigned recursive = mounting.wants(kMountRecursive) ? unsigned{kAtRecursive} : 0;
    return static_cast<int>(must(ctx, open_tree(kAtFdcwd, mounting.source, OPEN_TREE_CLONE | recursive), "open_tree"));
  }
  const bool needs_ours = mounting.wants(kMountIdmap) && mounting.args.uid_map.offset == 0;
  const int user_ns = needs_ours ? own_user_namespace(ctx) : -1;
  const int mount = request_mount(ctx, user_ns);
  if (user_ns >= 0) close_fd(user_ns);
  return mount;
}

void set_bind_attributes(const Mounting& mounting, int mount) {
  const MountArgs& args = mounting.args;
  if ((args.attr_set | args.attr_clear) == 0) return;
  struct mount_attr attr = {args.attr_set, args.attr_clear, 0, 0};
  long done = mount_setattr(mount, 0, &attr);
  if (done == -kEPERM && mounting.wants(kMountKeepLocked) && args.attr_clear == MOUNT_ATTR__ATIME) {
    // An outer user namespace has locked the access times, which nobody asked for by name: they stay as they are.
    attr.attr_clr = 0;
    attr.attr_set &= ~uint64_t{MOUNT_ATTR__ATIME};
    done = mount_setattr(mount, 0, &attr);
  }
  must(mounting.ctx, done, "mount_setattr");
}

bool is_procfs(int fd) {
  StatFs fs;
  return statfs_fd(fd, &fs) >= 0 && fs.type == kProcMagic;
}

/// A destination that links lead into procfs, or something else at /proc, is how masks and labels were evaded (MT-18).
void guard_procfs(const Mounting& mounting, int mount) {
  const char* path = mounting.destination;
  if (starts_with(path, "/proc/")) return;  // by name: the engine has judged it
  Message message("\"");
  message.add(path);
  if (same_text(path, "/proc")) {
    if (!is_procfs(mount))
      die(mounting.ctx, 0, message.add("\" cannot be mounted because it is not of type proc").get());
  } else if (is_procfs(mounting.target)) {
    die(mounting.ctx, 0, message.add("\" cannot be mounted because it is inside /proc").get());
  }
}

/// The mount point, made when missing; a bind of something else than a directory needs a file.
void open_target(Mounting& mounting, Make what) {
  Context& ctx = mounting.ctx;
  const unsigned mode = what == Make::kDirectory ? 0755 : 0644;
  mounting.target = static_cast<int>(
      must(ctx, make_in_root(ctx, mounting.destination, what, mode, &mounting.made_target), "mount point"));
}

/// procfs and sysfs go only where no link has a say.
void open_real_directory(Mounting& mounting) {
  Context& ctx = mounting.ctx;
  long fd = open_in_root(ctx, mounting.destination, kOPath | kODirectory, RESOLVE_NO_SYMLINKS);
  if (fd == -kENOENT) {
    open_target(mounting, Make::kDirectory);
    close_fd(mounting.target);
    fd = open_in_root(ctx, mounting.destination, kOPath | kODirectory, RESOLVE_NO_SYMLINKS);
  }
  if (fd < 0) {
    Message message("filesystem \"");
    message.add(text(ctx.plan, mounting.args.fstype)).add("\" must be mounted on ordinary directory");
    die(ctx, 0, message.get());
  }
  mounting.target = static_cast<int>(fd);
}

bool is_directory(Context& ctx, int fd) {
  Stat object;
  must(ctx, stat_fd(fd, &object), "fstat");
  return (object.st_mode & kSIfmt) == kSIfdir;
}

int detached_mount(Mounting& mounting) {
  if (mounting.args.kind == MountKind::kFilesystem) {
    if (mounting.wants(kMountRealDirectory)) {
      open_real_directory(mounting);
    } else {
      open_target(mounting, Make::kDirectory);
    }
    return filesystem_mount(mounting);
  }
  const int mount = bind_source(mounting);
  open_target(mounting, is_directory(mounting.ctx, mount) ? Make::kDirectory : Make::kFile);
  set_bind_attributes(mounting, mount);
  return mount;
}

/// A file on a directory is EINVAL to move_mount(2) and ENOTDIR to mount(2), whose words callers look for (CT-05).
void attach(const Mounting& mounting, int mount) {
  Context& ctx = mounting.ctx;
  const long attached = attach_mount(mount, mounting.target);
  if (attached == -kEINVAL && is_directory(ctx, mounting.target) && !is_directory(ctx, mount))
    die(ctx, kENOTDIR, "move_mount");
  must(ctx, attached, "move_mount");
  close_fd(mounting.target);
  forget_parent(ctx);
}

/// Changes what is mounted at the destination already.
int remount(Mounting& mounting) {
  Context& ctx = mounting.ctx;
  const MountArgs& args = mounting.args;
  const int mount = static_cast<int>(must(ctx, open_in_root(ctx, mounting.destination, kOPath), "openat2"));
  set_bind_attributes(mounting, mount);
  if (args.superblock == 0 && args.data_count == 0) return mount;
  const int context =
      static_cast<int>(must(ctx, call(__NR_fspick, mount, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH), "fspick"));
  set_options(mounting, context);
  const long done = configure(context, FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr);
  if (done < 0) die_of_filesystem(ctx, context, -done, "fsconfig reconfigure");
  close_fd(context);
  return mount;
}

}  // namespace

void step_mount(Context& ctx, const Step& step) {
  Mounting mounting{ctx, step, *blob<MountArgs>(ctx.plan, step.s[2]), text(ctx.plan, step.s[0]),
                    text(ctx.plan, step.s[1])};
  const bool is_remount = mounting.args.kind == MountKind::kRemount;
  const int mount = is_remount ? remount(mounting) : detached_mount(mounting);
  finish_attributes(mounting, mount);
  if (!is_remount) {
    guard_procfs(mounting, mount);
    attach(mounting, mount);
  }
  if (mounting.args.keep > 0) {
    ctx.kept[mounting.args.keep - 1] = mount;
  } else {
    close_fd(mount);
  }
}

void step_set_attr(Context& ctx, const Step& step) {
  const bool on_root = step.n[2] == ~uint64_t{0};
  const int mount = on_root ? root_fd(ctx) : ctx.kept[step.n[2]];
  if (mount < 0) die(ctx, 0, "plan: this mount was not kept");
  set_attributes(ctx, mount, step.n[0], step.n[1], 0, (step.flags & kStepRecursive) != 0 ? kAtRecursive : 0);
  if (on_root) return;
  close_fd(mount);  // kept for this one step
  ctx.kept[step.n[2]] = -1;
}

}  // namespace gantry::init
