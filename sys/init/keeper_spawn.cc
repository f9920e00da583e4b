// Children of the keeper: launchers, by a clone that shares memory and descriptors until the exec, and supervisors.
#include "sys/init/context.h"
#include "sys/init/keeper_parts.h"

namespace gantry::init {
namespace {

constexpr int kRlimitNofile = 7;
constexpr unsigned kCloseRangeUnshare = 2;
constexpr uint64_t kCloneVfork = 0x4000, kCloneFiles = 0x400;
constexpr unsigned kMaxPlaced = 256;
constexpr size_t kStackSize = 16 * 1024;

/// What the child reads; it shares our memory.
struct Spawning {
  int wanted[kMaxPlaced];  ///< wanted[N] becomes descriptor N, -1: none
  int count;
  FileLimit files;
  int err;  ///< from the child: why it did not become a launcher
};

[[noreturn]] void become_launcher(void* argument) {
  auto* const spawn = static_cast<Spawning*>(argument);
  static const char* const argv[] = {"gantry-init", "launch", nullptr};
  static const char* const envp[] = {nullptr};
  // Only the low part of the table is copied, if it was shared.
  long done = close_range(kFirstHeld, ~0u, kCloseRangeUnshare);
  if (is_hidden(done)) done = call(__NR_unshare, kCloneFiles);
  int image = kKeeperImageFd;
  if (done >= 0) done = place_fds(spawn->wanted, spawn->count, image);
  if (done >= 0) done = call(__NR_prlimit64, 0, kRlimitNofile, &spawn->files, nullptr);
  if (done >= 0) done = call(__NR_execveat, image, "", argv, envp, kAtEmptyPath);
  spawn->err = static_cast<int>(-done);
  exit_now(127);
}

Spawning& spawning() {
  static constinit Spawning only = {};
  return only;
}

/// Negative errno of the clone, or the pid; the child may have left `err`.
long clone_launcher(uint64_t flags, int cgroup, int* pidfd) {
  alignas(64) static constinit char stack[kStackSize] = {};
  CloneArgs args = {};
  args.flags = flags | kClonePidfd | kCloneClearSighand;
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = kSigchld;
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = kStackSize;
  if (cgroup >= 0) {
    args.flags |= kCloneIntoCgroup;
    args.cgroup = static_cast<uint64_t>(cgroup);
  }
  return clone_on_stack(args, become_launcher, &spawning());
}

/// Fills what the child reads; the cgroup's descriptor, -1: none.
int prepare(const LauncherRequest& request) {
  Spawning& spawn = spawning();
  const int* next = request.fds;
  spawn.err = 0;
  spawn.files = request.files;
  for (int i = 0; i < 3; ++i) spawn.wanted[i] = *next++;
  spawn.wanted[kPlanFd] = *next++;
  spawn.wanted[kSyncFd] = request.has_sync ? *next++ : -1;
  const int cgroup = request.has_cgroup ? *next++ : -1;
  spawn.count = kFirstSlot;
  while (next < request.fds + request.count) spawn.wanted[spawn.count++] = *next++;
  return cgroup;
}

}  // namespace

long start_launcher(const LauncherRequest& request, LauncherStarted& out) {
  const int cgroup = prepare(request);
  out = {0, -1, false};
  if (cgroup >= 0) {
    // A process born in a frozen cgroup does not run, not even to its exec: nobody may wait for it, and nothing be
    // shared with it. (Any container can be frozen at any time, some by themselves.)
    const long pid = clone_launcher(0, cgroup, &out.pidfd);
    if (pid >= 0) {
      out.pid = static_cast<int>(pid);
      out.in_cgroup = true;
      return 0;
    }
    // A cgroup that refuses processes, or is gone, is the supervisor's business.
  }
  const long pid = clone_launcher(kCloneVm | kCloneVfork | kCloneFiles, -1, &out.pidfd);
  if (pid < 0) return pid;
  out.pid = static_cast<int>(pid);
  if (spawning().err == 0) return 0;
  close_fd(out.pidfd);
  int status = 0;
  while (call(__NR_wait4, pid, &status, 0, nullptr) == -kEINTR) {
  }
  return -spawning().err;
}

// -- the supervisor
// ----------------------------------------------------------------------------------------------------

namespace {

/// The strings behind KeeperArgs; what does not fit together ends the process.
struct Strings {
  const char* next;
  const char* end;
  const char* take() {
    const char* const found = next;
    while (next < end && *next != '\0') ++next;
    if (next >= end) exit_now(126);
    ++next;
    return found;
  }
};

const KeeperArgs* map_args(Strings& strings) {
  Stat object;
  constexpr int kRead = 1, kPrivate = 2;
  if (stat_fd(kKeeperArgsFd, &object) < 0) exit_now(126);
  const auto size = static_cast<size_t>(object.st_size);
  const long mapped = call(__NR_mmap, nullptr, size, kRead, kPrivate, kKeeperArgsFd, 0);
  if (mapped < 0 || size < sizeof(KeeperArgs)) exit_now(126);
  const auto* const args = reinterpret_cast<const KeeperArgs*>(mapped);
  if (args->magic != kKeeperArgsMagic || args->size != size) exit_now(126);
  if (args->argc > kKeeperMaxStrings || args->envc > kKeeperMaxStrings - args->argc) exit_now(126);
  strings.next = reinterpret_cast<const char*>(args + 1);
  strings.end = reinterpret_cast<const char*>(args) + size;
  return args;
}

}  // namespace

void become_supervisor(int socket) {
  const char* pointers[kKeeperMaxStrings + 2];
  Strings strings;
  const KeeperArgs* const args = map_args(strings);
  const char* const path = strings.take();
  const char** out = pointers;
  for (uint32_t i = 0; i < args->argc; ++i) *out++ = strings.take();
  *out++ = nullptr;
  const char** const environment = out;
  for (uint32_t i = 0; i < args->envc; ++i) *out++ = strings.take();
  *out = nullptr;

  const unsigned long none = 0;
  constexpr int kSetMask = 2;
  call(__NR_rt_sigprocmask, kSetMask, &none, nullptr, sizeof none);
  // Over the image's number: only launchers need that.
  static_assert(kSupervisorTableFd == kKeeperImageFd && kSupervisorSocketFd == kKeeperTableFd);
  if (duplicate_to(kKeeperTableFd, kSupervisorTableFd, 0) < 0 || duplicate_to(socket, kSupervisorSocketFd, 0) < 0)
    exit_now(126);
  call(__NR_execve, path, pointers, environment);
  call(__NR_execveat, kKeeperProgramFd, "", pointers, environment, kAtEmptyPath);
  exit_now(127);
}

}  // namespace gantry::init
