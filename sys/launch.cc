#include "sys/launch.h"

#include <fcntl.h>
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

/// Everything that the child reads; it shares our memory and must not allocate.
struct Spawning {
  const int* wanted;  ///< wanted[N] becomes fd N
  int* moved;         ///< room for as many
  int count;
  int image;
  int cgroup;  ///< for CLONE_INTO_CGROUP, -1 = none
  int err;     ///< from the child: why it did not become gantry-init
};

/// Fds that lie where another one has to go are moved out of the way first; then each goes to its number. Our own table
/// is not shared, so all of this is invisible to the parent.
__attribute__((no_sanitize("address"))) bool place_fds(Spawning& spawn) {
  for (int i = 0; i < spawn.count; ++i) {
    spawn.moved[i] = spawn.wanted[i];
    if (spawn.wanted[i] >= spawn.count || spawn.wanted[i] == i) continue;
    spawn.moved[i] = ::fcntl(spawn.wanted[i], F_DUPFD_CLOEXEC, spawn.count);
    if (spawn.moved[i] < 0) return false;
  }
  if (spawn.image < spawn.count) {
    spawn.image = ::fcntl(spawn.image, F_DUPFD_CLOEXEC, spawn.count);
    if (spawn.image < 0) return false;
  }
  for (int i = 0; i < spawn.count; ++i) {
    // dup3 onto itself would keep close-on-exec.
    const int done = spawn.moved[i] == i ? ::fcntl(i, F_SETFD, 0) : ::dup3(spawn.moved[i], i, 0);
    if (done < 0) return false;
  }
  return true;
}

/// The child. Raw calls and plain wrappers only: the parent's memory is borrowed. The address sanitizer knows nothing
/// of its stack.
extern "C" [[noreturn]] __attribute__((used, no_sanitize("address"))) void gantry_spawn_child(Spawning* spawn) {
  static const char* const argv[] = {kName, "launch", nullptr};
  static const char* const envp[] = {nullptr};
  errno = 0;
  if (place_fds(*spawn)) ::syscall(SYS_execveat, spawn->image, "", argv, envp, AT_EMPTY_PATH);
  spawn->err = errno != 0 ? errno : EIO;
  ::_exit(127);
}

/// clone3 whose child calls gantry_spawn_child(spawn) on the stack named in `args`. There is no libc wrapper, and a
/// child must not return into this frame.
long clone_onto_stack(struct clone_args* args, Spawning* spawn) {
#if defined(__x86_64__)
  long result;
  register Spawning* argument asm("r12") = spawn;
  asm volatile(
      "syscall\n"
      "test %%rax, %%rax\n"
      "jnz 1f\n"
      "xor %%ebp, %%ebp\n"
      "mov %%r12, %%rdi\n"
      "call gantry_spawn_child\n"
      "ud2\n"
      "1:\n"
      : "=a"(result)
      : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), "r"(argument)
      : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long x8 asm("x8") = SYS_clone3;
  register long x0 asm("x0") = reinterpret_cast<long>(args);
  register long x1 asm("x1") = sizeof *args;
  register Spawning* argument asm("x19") = spawn;
  asm volatile(
      "svc #0\n"
      "cbnz x0, 1f\n"
      "mov x29, #0\n"
      "mov x0, x19\n"
      "bl gantry_spawn_child\n"
      "1:\n"
      : "+r"(x0)
      : "r"(x8), "r"(x1), "r"(argument)
      : "memory", "x30");
  return x0;
#else
#error "spawn_launcher knows x86_64 and aarch64 only"
#endif
}

/// One try. The error's errno is that of the clone or of the child.
Result<Child> spawn_once(Spawning& spawn) {
  // Guard pages are not worth two system calls here: the child's frames are known and small.
  alignas(64) static std::byte stack[kStackSize];
  int pidfd = -1;
  struct clone_args args = {};
  args.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = kStackSize;
  if (spawn.cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(spawn.cgroup);
  }

  // gantry-init empties the mask itself, after it has reset what is ignored.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  spawn.err = 0;
  const long pid = clone_onto_stack(&args, &spawn);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);

  if (pid < 0) return fail_errno(static_cast<int>(-pid), "clone3");
  Child child{static_cast<pid_t>(pid), Fd(pidfd), spawn.cgroup >= 0};
  if (spawn.err == 0) return child;
  while (::waitpid(child.pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return fail_errno(spawn.err, "start of gantry-init");
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

Result<Child> spawn_launcher(const SpawnFds& fds) {
  GANTRY_LET(const std::vector<int> wanted, wanted_fds(fds));
  GANTRY_LET(const Fd* executable, init_image());
  std::vector<int> moved(wanted.size());
  Spawning spawn{wanted.data(), moved.data(), static_cast<int>(wanted.size()), executable->get(), fds.cgroup, 0};
  Result<Child> child = spawn_once(spawn);
  if (!child && spawn.cgroup >= 0 && spawn.err == 0) {
    // The clone itself failed: a cgroup that refuses processes, or is gone, is the caller's business, not ours.
    spawn.cgroup = -1;
    child = spawn_once(spawn);
  }
  if (child || image().on_tmpfs || !is_refusal(child.error().sys_errno)) return child;
  GANTRY_TRY(use_tmpfs());
  spawn.image = image().fd.get();
  return spawn_once(spawn);
}

}  // namespace gantry::sys
