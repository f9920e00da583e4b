// Children of our own: brokers, hooks, holders of a user namespace. And what to do where clone3 or close_range is
// hidden: by the seccomp filter of a container in which gantry runs, since every supported kernel has them.
#include "sys/init/context.h"

namespace gantry::init {
namespace {

constexpr int kFSetfd = 2, kFdCloexec = 1;

long close_one(unsigned fd, unsigned flags) {
  return (flags & kCloseRangeCloexec) != 0 ? call(__NR_fcntl, fd, kFSetfd, kFdCloexec) : close_fd(fd);
}

/// -1 for "." and "..".
long number_of(const char* name) {
  long number = 0;
  for (; *name != '\0'; ++name) {
    if (*name < '0' || *name > '9') return -1;
    number = number * 10 + (*name - '0');
  }
  return number;
}

constexpr uint64_t kOldFlags = 0xffffffff;

/// clone(2) can do it. CLONE_CLEAR_SIGHAND does not fit there and is not needed: we have no handlers.
bool fits_old_clone(const CloneArgs& args) {
  return (args.flags & ~(kOldFlags | kCloneClearSighand)) == 0;
}

}  // namespace

long clone_process(const CloneArgs& args) {
  const long pid = call(__NR_clone3, &args, sizeof args);
  if (!is_hidden(pid) || !fits_old_clone(args)) return pid;
  return call(__NR_clone, (args.flags & kOldFlags) | args.exit_signal, 0, args.pidfd, 0, 0);
}

long clone_on_stack(const CloneArgs& args, BorrowedChild child, void* argument) {
  const auto address = reinterpret_cast<uint64_t>(&args);
  const long pid = clone_onto_stack(__NR_clone3, address, sizeof args, 0, 0, child, argument);
  if (!is_hidden(pid) || !fits_old_clone(args)) return pid;
  const uint64_t flags = (args.flags & kOldFlags) | args.exit_signal;
  return clone_onto_stack(__NR_clone, flags, args.stack + args.stack_size, args.pidfd, 0, child, argument);
}

long close_all_from(unsigned first, unsigned flags) {
  const long done = close_range(first, ~0u, flags);
  if (!is_hidden(done)) return done;
  const long list = open_at(kAtFdcwd, "/proc/self/fd", kORdonly | kODirectory);
  if (list < 0) return done;
  alignas(Dirent64) char entries[2048];
  long size;
  while ((size = call(__NR_getdents64, list, entries, sizeof entries)) > 0) {
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const Dirent64*>(entries + at);
      const long fd = number_of(entry->name);
      if (fd >= static_cast<long>(first) && fd != list) close_one(static_cast<unsigned>(fd), flags);
      at += entry->reclen;
    }
  }
  close_fd(list);
  return size;
}

long close_all_on_exec(unsigned first) {
  const long done = close_range(first, ~0u, kCloseRangeCloexec);
  if (!is_hidden(done)) return done;
  // /proc may be the container's by now. Everything is close-on-exec from birth; this is the second lock.
  constexpr unsigned kMost = 1024;
  for (unsigned fd = first; fd < kMost; ++fd) close_one(fd, kCloseRangeCloexec);
  return 0;
}

long fork_child(uint64_t flags, int* pidfd) {
  CloneArgs args = {};
  args.flags = flags | (pidfd != nullptr ? kClonePidfd : 0);
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = kSigchld;
  return clone_process(args);
}

int reap(long pid) {
  int status = 0;
  while (call(__NR_wait4, pid, &status, 0, nullptr) == -kEINTR) {
  }
  return status;
}

}  // namespace gantry::init
