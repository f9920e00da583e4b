// Steps that belong to one namespace: maps, clock offsets, loopback, names, sysctl; and the CPU mask.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr int kPrSetDumpable = 4;

/// Writes a whole text with one write(2), as proc files want it.
void write_once(Context& ctx, long fd, const char* content) {
  const size_t size = length_of(content);
  const long written = must(ctx, write_fd(static_cast<int>(fd), content, size), "write");
  if (static_cast<size_t>(written) != size) die(ctx, kEIO, "write");
  close_fd(fd);
}

/// While not dumpable, our files in /proc belong to the host's root, and a user namespace has no say over them.
long open_own_proc_file(const char* path) {
  long fd = open_at(kAtFdcwd, path, kOWronly);
  if (fd != -kEACCES) return fd;
  prctl(kPrSetDumpable, 1);
  fd = open_at(kAtFdcwd, path, kOWronly);
  prctl(kPrSetDumpable, 0);
  return fd;
}

}  // namespace

void become_namespace_root(Context& ctx) {
  ctx.in_user_ns = true;
  // EPERM: setgroups is denied here. EINVAL: 0 is not mapped, and kIdentity will name the id it wants.
  const long groups = call(__NR_setgroups, 0, nullptr);
  if (groups < 0 && groups != -kEPERM) must(ctx, groups, "setgroups");
  const long gid = call(__NR_setresgid, 0, 0, 0);
  if (gid < 0 && gid != -kEINVAL) must(ctx, gid, "setresgid");
  const long uid = call(__NR_setresuid, 0, 0, 0);
  if (uid < 0 && uid != -kEINVAL) must(ctx, uid, "setresuid");
}

void step_unshare(Context& ctx, const Step& step) {
  must(ctx, call(__NR_unshare, step.n[0]), "unshare");
}

void step_maps(Context& ctx, const Step&) {
  tell(ctx, Tag::kMapsPlease, 0);
  await(ctx, Tag::kGo);
  prctl(kPrSetDumpable, 0);
  become_namespace_root(ctx);
}

void step_time_offsets(Context& ctx, const Step& step) {
  must(ctx, call(__NR_unshare, kCloneNewTime), "unshare");
  // The kernel takes one clock a line and all lines in one write.
  const char* offsets = text(ctx.plan, step.s[0]);
  if (*offsets != '\0')
    write_once(ctx, must(ctx, open_own_proc_file("/proc/self/timens_offsets"), "open timens_offsets"), offsets);
  const long clocks =
      must(ctx, open_at(kAtFdcwd, "/proc/self/ns/time_for_children", kORdonly), "open ns/time_for_children");
  must(ctx, set_namespace(static_cast<int>(clocks), kCloneNewTime), "setns");
  close_fd(clocks);
}

void step_loopback(Context& ctx, const Step&) {
  struct {
    char name[16];
    short flags;
    char rest[22];
  } request = {"lo", 1 /* IFF_UP */, {}};
  constexpr int kAfUnix = 1, kSockDgram = 2, kSockCloexec = 02000000, kSiocSifFlags = 0x8914;
  // Any socket can carry the request, and this family is never missing.
  const long socket = must(ctx, call(__NR_socket, kAfUnix, kSockDgram | kSockCloexec, 0), "socket");
  must(ctx, call(__NR_ioctl, socket, kSiocSifFlags, &request), "ioctl SIOCSIFFLAGS lo");
  close_fd(socket);
}

void step_hostname(Context& ctx, const Step& step) {
  must(ctx, call(__NR_sethostname, text(ctx.plan, step.s[0]), step.s[0].length), "sethostname");
}

void step_domainname(Context& ctx, const Step& step) {
  must(ctx, call(__NR_setdomainname, text(ctx.plan, step.s[0]), step.s[0].length), "setdomainname");
}

void step_sysctl(Context& ctx, const Step& step) {
  Text<kPathMax> path("sys/");
  path.add(text(ctx.plan, step.s[0]));
  if (path.cut()) die(ctx, kENAMETOOLONG, "open");
  write_once(ctx, must(ctx, open_proc_file(ctx, path.get()), "open"), text(ctx.plan, step.s[1]));
}

void step_reset_affinity(Context& ctx, const Step&) {
  // RS-29: the kernel cuts the mask to the CPUs that exist and that the cpuset allows.
  unsigned char all[1024];
  __builtin_memset(all, 0xff, sizeof all);
  const long set = call(__NR_sched_setaffinity, 0, sizeof all, all);
  if (set < 0 && set != -kEINVAL) warn(ctx, -set, "sched_setaffinity");
}

}  // namespace gantry::init
