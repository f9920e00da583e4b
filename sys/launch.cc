#include "sys/launch.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>

#include "sys/init/borrowed_clone.h"
#include "sys/init/plan.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U  // Linux 6.3
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020  // Linux 6.3
#endif

extern "C" {
extern const char gantry_init_begin[];  // NOLINT: sys/init/blob.cc
extern const char gantry_init_end[];    // NOLINT
}

namespace gantry::sys {
namespace {

constexpr const char* kName = "gantry-init";

// -- the image
// -----------------------------------------------------------------------------------------------------------

Result<> write_image(const Fd& fd) {
  const char* cursor = gantry_init_begin;
  while (cursor < gantry_init_end) {
    const ssize_t written = ::write(fd.get(), cursor, static_cast<size_t>(gantry_init_end - cursor));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return fail_errno(errno, "write of gantry-init");
    cursor += written;
  }
  return {};
}

Result<Fd> make_memfd() {
  constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  Fd fd(::memfd_create(kName, flags | MFD_EXEC));
  if (!fd && errno == EINVAL) fd = Fd(::memfd_create(kName, flags));  // before 6.3 every memfd is executable
  if (!fd) return fail_errno(errno, "memfd_create");
  GANTRY_TRY(write_image(fd));
  if (::fchmod(fd.get(), 0555) < 0) return fail_errno(errno, "fchmod of the memfd");
  // Not there before 6.3, and only an extra: the mode of a file that nobody can write does no harm.
  (void)::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_EXEC);
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
    return fail_errno(errno, "sealing the memfd");
  return fd;
}

/// Where memfds may not be executed (vm.memfd_noexec, an LSM): a tmpfs of our own, not attached anywhere, made
/// read-only once the file is in it.
Result<Fd> make_tmpfs_file() {
  const Fd context(static_cast<int>(::syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC)));
  if (!context) return fail_errno(errno, "fsopen tmpfs");
  if (::syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0)
    return fail_errno(errno, "fsconfig tmpfs");
  const Fd mount(static_cast<int>(::syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV)));
  if (!mount) return fail_errno(errno, "fsmount tmpfs");
  Fd file(::openat(mount.get(), kName, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0555));
  if (!file) return fail_errno(errno, "open on the private tmpfs");
  GANTRY_TRY(write_image(file));
  file.reset();  // an open writer would make execve say ETXTBSY
  struct mount_attr attr = {};
  attr.attr_set = MOUNT_ATTR_RDONLY;
  if (::syscall(SYS_mount_setattr, mount.get(), "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
    return fail_errno(errno, "mount_setattr of the private tmpfs");
  file = Fd(::openat(mount.get(), kName, O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno(errno, "open on the private tmpfs");
  return file;
}

struct Image {
  Fd fd;
  bool on_tmpfs = false;
};

Image& image() {
  static Image kept;
  return kept;
}

bool is_refusal(int err) {
  return err == EACCES || err == EPERM;
}

Result<> use_tmpfs() {
  GANTRY_LET(image().fd, make_tmpfs_file());
  image().on_tmpfs = true;
  return {};
}

// -- the clone
// -----------------------------------------------------------------------------------------------------------

constexpr size_t kStackSize = 32 * 1024;

}  // namespace

/// Everything that the child uses of our memory. We do not stop for it, so nothing here may change while it is `here`.
struct Departure {
  std::vector<int> wanted;  ///< wanted[N] becomes fd N
  int image;
  int err = 0;   ///< from the child: why it did not become gantry-init
  int here = 1;  ///< the kernel writes 0 and wakes us when the child has other memory or is dead
  // Guard pages are not worth two system calls here: the child's frames are known and small.
  alignas(64) std::byte stack[kStackSize];
};

namespace {

/// The child. Raw calls only: it runs beside us on borrowed memory, with our thread's errno. The address sanitizer
/// knows nothing of its stack.
extern "C" [[noreturn]] __attribute__((no_sanitize("address"))) void gantry_spawn_child(void* argument) {
  auto* const departure = static_cast<Departure*>(argument);
  static const char* const argv[] = {kName, "launch", nullptr};
  static const char* const envp[] = {nullptr};
  const int count = static_cast<int>(departure->wanted.size());
  long failed = init::place_fds(departure->wanted.data(), count, departure->image);
  if (failed == 0) {
    failed = init::raw_call(SYS_execveat, departure->image, reinterpret_cast<long>(""), reinterpret_cast<long>(argv),
                            reinterpret_cast<long>(envp), AT_EMPTY_PATH, 0);
  }
  departure->err = static_cast<int>(-failed);
  for (;;) init::raw_call(SYS_exit_group, 127, 0, 0, 0, 0, 0);
}

/// clone3, or clone where the seccomp filter of a container around us hides it: the first filters for such calls said
/// EPERM. Without CLONE_CLEAR_SIGHAND no handler runs in the child either: all signals are blocked until it executes.
long clone_child(const struct clone_args& args, Departure* departure) {
  const long pid = init::clone_onto_stack(SYS_clone3, reinterpret_cast<uint64_t>(&args), sizeof args, 0, 0,
                                          gantry_spawn_child, departure);
  if ((pid != -ENOSYS && pid != -EPERM) || (args.flags & CLONE_INTO_CGROUP) != 0) return pid;
  const uint64_t flags = (args.flags & ~uint64_t{CLONE_CLEAR_SIGHAND}) | args.exit_signal;
  return init::clone_onto_stack(SYS_clone, flags, args.stack + args.stack_size, args.pidfd, args.child_tid,
                                gantry_spawn_child, departure);
}

/// Waits until the child no longer uses our memory. Nearly kernel-bounded, as it only executes its image; but one that
/// was born in a frozen cgroup does not. False: not within `limit`; nullptr: however long it takes.
bool await_departure(Departure& departure, const timespec* limit) {
  for (int here; (here = __atomic_load_n(&departure.here, __ATOMIC_ACQUIRE)) != 0;) {
    const long waited = ::syscall(SYS_futex, &departure.here, FUTEX_WAIT, here, limit, nullptr, 0);
    if (waited < 0 && errno == ETIMEDOUT) return false;
  }
  return true;
}

/// One try. The error's errno is that of the clone.
Result<Child> clone_once(std::vector<int> wanted, int image, int cgroup) {
  std::unique_ptr<Departure, DepartureEnd> departure(new Departure);
  departure->wanted = std::move(wanted);
  departure->image = image;
  int pidfd = -1;
  struct clone_args args = {};
  // Like vfork, but nobody waits yet: CLONE_CHILD_CLEARTID says when the child is gone, as CLONE_VFORK would.
  args.flags = CLONE_VM | CLONE_CHILD_CLEARTID | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.child_tid = reinterpret_cast<uint64_t>(&departure->here);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<uint64_t>(departure->stack);
  args.stack_size = kStackSize;
  if (cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup);
  }

  // gantry-init empties the mask itself, after it has reset what is ignored.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const long pid = clone_child(args, departure.get());
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);

  if (pid < 0) {
    departure->here = 0;
    return fail_errno(static_cast<int>(-pid), "clone3");
  }
  return Child{static_cast<pid_t>(pid), Fd(pidfd), cgroup >= 0, std::move(departure)};
}

Result<std::vector<int>> wanted_fds(const SpawnFds& fds) {
  std::vector<int> wanted(fds.stdio.begin(), fds.stdio.end());
  wanted.push_back(fds.sync);
  wanted.push_back(fds.plan);
  static_assert(init::kSyncFd == 3 && init::kPlanFd == 4 && init::kFirstSlot == 5);
  wanted.insert(wanted.end(), fds.slots.begin(), fds.slots.end());
  for (const int fd : wanted)
    if (fd < 0) return fail_errno(EBADF, "start of gantry-init");
  return wanted;
}

}  // namespace

Result<const Fd*> init_image() {
  if (image().fd) return &image().fd;
  Result<Fd> made = make_memfd();
  if (made) {
    image().fd = std::move(*made);
  } else if (is_refusal(made.error().sys_errno)) {
    GANTRY_TRY(use_tmpfs());
  } else {
    return forward(std::move(made));
  }
  return &image().fd;
}

Result<> reserve_init_image(int least) {
  GANTRY_TRY(init_image());
  Fd& fd = image().fd;
  if (fd.get() >= least) return {};
  Fd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, least));
  if (!moved) return fail_errno(errno, "gantry-init: descriptors");
  fd = std::move(moved);
  return {};
}

Error exec_init(const char* job, int image_at) {
  const char* const argv[] = {kName, job, nullptr};
  const char* const envp[] = {nullptr};
  for (;;) {
    if (Result<const Fd*> made = init_image(); !made) return std::move(made).error();
    const int from = image().fd.get();
    const int placed = from == image_at ? ::fcntl(from, F_SETFD, 0) : ::dup2(from, image_at);
    if (placed < 0) return Error{"gantry-init: descriptors", errno};
    ::syscall(SYS_execveat, image_at, "", argv, envp, AT_EMPTY_PATH);
    const int err = errno;
    if (image().on_tmpfs || !is_refusal(err)) return std::move(fail_errno(err, "start of gantry-init")).error();
    if (Result<> other = use_tmpfs(); !other) return std::move(other).error();
  }
}

void DepartureEnd::operator()(Departure* departure) const {
  // Memory that is still in use is lost rather than freed.
  const timespec limit{1, 0};
  if (await_departure(*departure, &limit)) delete departure;
}

bool has_departed(const Child& launcher, long limit_ns) {
  const timespec limit{0, limit_ns};
  return !launcher.departure || await_departure(*launcher.departure, &limit);
}

Result<Child> begin_launcher(const SpawnFds& fds) {
  GANTRY_LET(std::vector<int> wanted, wanted_fds(fds));
  GANTRY_LET(const Fd* executable, init_image());
  Result<Child> child = clone_once(wanted, executable->get(), fds.cgroup);
  // A cgroup that refuses processes, or is gone, is the caller's business, not ours.
  if (!child && fds.cgroup >= 0 && !fds.cgroup_required) child = clone_once(std::move(wanted), executable->get(), -1);
  return child;
}

Result<> finish_launcher(const SpawnFds& fds, Child& launcher) {
  if (!launcher.departure) return {};
  (void)await_departure(*launcher.departure, nullptr);
  const int err = launcher.departure->err;
  launcher.departure.reset();
  if (err == 0) return {};
  while (::waitpid(launcher.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  launcher.pid = 0;
  launcher.pidfd.reset();
  if (image().on_tmpfs || !is_refusal(err)) return fail_errno(err, "start of gantry-init");
  GANTRY_TRY(use_tmpfs());
  GANTRY_LET(launcher, begin_launcher(fds));
  return finish_launcher(fds, launcher);
}

Result<Child> spawn_launcher(const SpawnFds& fds) {
  GANTRY_LET(Child child, begin_launcher(fds));
  GANTRY_TRY(finish_launcher(fds, child));
  return child;
}

}  // namespace gantry::sys
