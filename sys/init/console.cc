// The terminal, and sockets of others that get a descriptor from init.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr unsigned kTiocSptLock = 0x40045431, kTiocGptPeer = 0x5441, kTiocSWinsz = 0x5414, kTiocSctty = 0x540e;
constexpr uint64_t kPtmxDevice = 0x502, kPtmxInode = 2;
constexpr const char* kMasterName = "/dev/ptmx";

struct Pty {
  int master, slave;
};

/// The devpts' own ptmx: no link, no mount over it, no look-alike (CO-07).
int open_ptmx(Context& ctx) {
  const int directory =
      static_cast<int>(must(ctx, open_in_root(ctx, "/dev/pts", kOPath | kODirectory), "open /dev/pts"));
  StatFs fs;
  must(ctx, statfs_fd(directory, &fs), "fstatfs /dev/pts");
  if (fs.type != kDevptsMagic) die(ctx, 0, "/dev/pts of the container is not a devpts: a terminal needs one in mounts");
  const long ptmx = open_resolved(directory, "ptmx", kORdwr | kONoctty | kONofollow,
                                  RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
  must(ctx, ptmx, "open /dev/pts/ptmx");
  close_fd(directory);
  Stat object;
  must(ctx, stat_fd(static_cast<int>(ptmx), &object), "fstat /dev/pts/ptmx");
  if ((object.st_mode & kSIfmt) != kSIfchr || object.st_rdev != kPtmxDevice || object.st_ino != kPtmxInode)
    die(ctx, 0, "/dev/pts/ptmx of the container is not the pty multiplexer");
  return static_cast<int>(ptmx);
}

Pty open_pty(Context& ctx, const Step& step) {
  Pty pty;
  pty.master = open_ptmx(ctx);
  const int unlock = 0;
  must(ctx, call(__NR_ioctl, pty.master, kTiocSptLock, &unlock), "ioctl TIOCSPTLCK");
  pty.slave = static_cast<int>(
      must(ctx, call(__NR_ioctl, pty.master, kTiocGptPeer, kORdwr | kONoctty | kOCloexec), "ioctl TIOCGPTPEER"));
  const uint16_t size[4] = {static_cast<uint16_t>(step.n[1]), static_cast<uint16_t>(step.n[2]), 0, 0};
  if ((size[0] | size[1]) != 0) must(ctx, call(__NR_ioctl, pty.slave, kTiocSWinsz, size), "ioctl TIOCSWINSZ");
  must(ctx, call(__NR_fchown, pty.slave, step.n[3], -1), "fchown of the terminal");
  return pty;
}

/// A plain file (or an older console) to bind on; never through a link of the image (CVE-2026-88264).
int open_console_target(Context& ctx) {
  const int dev = static_cast<int>(must(ctx, open_in_root(ctx, "/dev", kOPath | kODirectory), "open /dev"));
  long target = open_at(dev, "console", kORdonly | kOCreat | kOExcl | kONofollow, 0666);
  if (target == -kEEXIST) {
    target = open_at(dev, "console", kOPath | kONofollow);
    Stat object;
    if (target >= 0) must(ctx, stat_fd(static_cast<int>(target), &object), "fstat /dev/console");
    if (target >= 0 && (object.st_mode & kSIfmt) == kSIflnk) die(ctx, 0, "/dev/console of the container is a link");
  }
  close_fd(dev);
  return static_cast<int>(must(ctx, target, "open /dev/console"));
}

void bind_console(Context& ctx, int slave) {
  const int target = open_console_target(ctx);
  const int mount = static_cast<int>(
      must(ctx, open_tree(slave, "", OPEN_TREE_CLONE | unsigned{kAtEmptyPath}), "open_tree of the terminal"));
  must(ctx, attach_mount(mount, target), "move_mount on /dev/console");
  close_fd(mount);
  close_fd(target);
}

}  // namespace

void step_console(Context& ctx, const Step& step) {
  const int socket = kFirstSlot + static_cast<int>(step.n[0]);
  const Pty pty = open_pty(ctx, step);
  if ((step.flags & kStepBind) != 0) bind_console(ctx, pty.slave);
  must(ctx, send_with_fd(socket, kMasterName, length_of(kMasterName), pty.master), "sendmsg to the console socket");
  close_fd(socket);
  close_fd(pty.master);
  must(ctx, call(__NR_ioctl, pty.slave, kTiocSctty, 0), "ioctl TIOCSCTTY");
  for (int fd = 0; fd < 3; ++fd) must(ctx, duplicate_to(pty.slave, fd, 0), "dup3 of the terminal");
  close_fd(pty.slave);
}

void step_pidfd_socket(Context& ctx, const Step& step) {
  const int socket = kFirstSlot + static_cast<int>(step.n[0]);
  const long own = must(ctx, call(__NR_pidfd_open, call(__NR_getpid), 0), "pidfd_open");
  const char* payload = text(ctx.plan, step.s[0]);
  must(ctx, send_with_fd(socket, payload, length_of(payload), static_cast<int>(own)), "sendmsg to the pidfd socket");
  close_fd(own);
  close_fd(socket);
}

}  // namespace gantry::init
