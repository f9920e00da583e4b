// Raw system calls for gantry-init: no libc, no errno. Every wrapper returns the result or a negative errno.
//
// Structures and constants come from the kernel's own headers; what Debian 12's are too old for is defined here.
#pragma once

#include <asm/stat.h>
#include <asm/unistd.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>

#include <type_traits>

#include "sys/init/borrowed_clone.h"

namespace gantry::init {

inline long word(const void* pointer) {
  return reinterpret_cast<long>(pointer);
}
inline long word(decltype(nullptr)) {
  return 0;
}
template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>)
inline long word(T number) {
  return static_cast<long>(number);
}

#if defined(__x86_64__)
/// The short form for most calls: what the kernel does not read is not set.
inline long raw_call(long number, long a, long b, long c) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}
#else
inline long raw_call(long number, long a, long b, long c) {
  return raw_call(number, a, b, c, 0, 0, 0);
}
#endif
inline long raw_call(long number, long a = 0, long b = 0) {
  return raw_call(number, a, b, 0);
}
inline long raw_call(long number, long a, long b, long c, long d, long e = 0) {
  return raw_call(number, a, b, c, d, e, 0);
}

/// The system call `number` with up to six arguments, each a pointer, an integer or an enumerator.
template <class... Args>
inline long call(long number, Args... args) {
  return raw_call(number, word(args)...);
}

// -- errno -----------------------------------------------------------------------------------------------------------
enum Errno : int {
  kEPERM = 1,
  kENOENT = 2,
  kESRCH = 3,
  kEINTR = 4,
  kEIO = 5,
  kE2BIG = 7,
  kENOEXEC = 8,
  kEBADF = 9,
  kEAGAIN = 11,
  kENOMEM = 12,
  kEACCES = 13,
  kEBUSY = 16,
  kEEXIST = 17,
  kENODEV = 19,
  kENOTDIR = 20,
  kEISDIR = 21,
  kEINVAL = 22,
  kENOTTY = 25,
  kETXTBSY = 26,
  kENOSPC = 28,
  kEROFS = 30,
  kENAMETOOLONG = 36,
  kENOSYS = 38,
  kELOOP = 40,
  kELIBBAD = 80,
  kEOPNOTSUPP = 95,
  kEDQUOT = 122,
};

// -- constants that the kernel headers only have together with conflicting types
// ----------------------------------------
inline constexpr int kAtFdcwd = -100;
inline constexpr int kAtSymlinkNofollow = 0x100;
inline constexpr int kAtEaccess = 0x200;
inline constexpr int kAtEmptyPath = 0x1000;
inline constexpr int kAtRecursive = 0x8000;

inline constexpr int kORdonly = 0, kOWronly = 1, kORdwr = 2;
inline constexpr int kOCreat = 0100, kOExcl = 0200, kONoctty = 0400, kONonblock = 04000;
#if defined(__aarch64__)
inline constexpr int kODirectory = 040000, kONofollow = 0100000;
#else
inline constexpr int kODirectory = 0200000, kONofollow = 0400000;
#endif
inline constexpr int kOCloexec = 02000000, kOPath = 010000000;

inline constexpr uint32_t kSIfmt = 0170000, kSIfdir = 0040000, kSIfreg = 0100000, kSIflnk = 0120000, kSIfchr = 0020000,
                          kSIfblk = 0060000, kSIfifo = 0010000;

inline constexpr unsigned long kMsRdonly = 1, kMsNosuid = 2, kMsNodev = 4, kMsNoexec = 8, kMsSynchronous = 16,
                               kMsMandlock = 64, kMsDirsync = 128, kMsNosymfollow = 256, kMsNoatime = 1024,
                               kMsNodiratime = 2048, kMsBind = 4096, kMsRec = 16384, kMsUnbindable = 1 << 17,
                               kMsPrivate = 1 << 18, kMsSlave = 1 << 19, kMsShared = 1 << 20, kMsRelatime = 1 << 21,
                               kMsIVersion = 1 << 23, kMsStrictatime = 1 << 24, kMsLazytime = 1 << 25;
inline constexpr int kMntDetach = 2;

inline constexpr uint64_t kCloneVm = 0x100, kClonePidfd = 0x1000, kCloneParent = 0x8000, kCloneNewNs = 0x20000,
                          kCloneNewCgroup = 0x02000000, kCloneNewUts = 0x04000000, kCloneNewIpc = 0x08000000,
                          kCloneNewUser = 0x10000000, kCloneNewPid = 0x20000000, kCloneNewNet = 0x40000000,
                          kCloneNewTime = 0x80, kCloneClearSighand = 0x100000000, kCloneIntoCgroup = 0x200000000;

inline constexpr int kSigkill = 9, kSigstop = 19, kSigchld = 17, kSignals = 64;
inline constexpr int kPollIn = 1, kPollErr = 8, kPollHup = 16;

inline constexpr long kProcMagic = 0x9fa0, kDevptsMagic = 0x1cd1;
inline constexpr uint64_t kProcRootInode = 1;
inline constexpr unsigned kCloseRangeCloexec = 4;
inline constexpr size_t kPathMax = 4096;

/// clone3(2), up to the `cgroup` of Linux 5.7.
struct CloneArgs {
  uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
struct PollFd {
  int fd;
  short events, revents;
};
struct Timespec {
  int64_t sec, nsec;
};
struct StatFs {  // as struct statfs of 64-bit systems
  long type, bsize;
  uint64_t blocks, bfree, bavail, files, ffree;
  int fsid[2];
  long namelen, frsize, flags, spare[4];
};
struct Dirent64 {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
  char name[1];
};

using Stat = struct stat;

// -- wrappers: only what is called from several places
// -------------------------------------------------------------------
/// A filter may refuse even this call; a fault still ends the process, first of its pid namespace or not.
[[noreturn]] inline void exit_now(int code) {
  call(__NR_exit_group, code);
  __builtin_trap();
}
inline long close_fd(long fd) {
  return call(__NR_close, fd);
}
inline long read_fd(int fd, void* data, size_t size) {
  return call(__NR_read, fd, data, size);
}
inline long write_fd(int fd, const void* data, size_t size) {
  return call(__NR_write, fd, data, size);
}
inline long open_at(int dir, const char* path, int flags, unsigned mode = 0) {
  return call(__NR_openat, dir, path, flags | kOCloexec, mode);
}
inline long stat_fd(int fd, Stat* out) {
  return call(__NR_fstat, fd, out);
}
inline long stat_at(int dir, const char* path, Stat* out, int flags) {
#if defined(__NR_newfstatat)
  return call(__NR_newfstatat, dir, path, out, flags);
#else
  return call(__NR_fstatat, dir, path, out, flags);
#endif
}
inline long statfs_fd(int fd, StatFs* out) {
  return call(__NR_fstatfs, fd, out);
}
inline long mount_call(const char* source, const char* target, const char* type, unsigned long flags,
                       const char* data) {
  return call(__NR_mount, source, target, type, flags, data);
}
inline long open_tree(int dir, const char* path, unsigned flags) {
  return call(__NR_open_tree, dir, path, flags | unsigned{kOCloexec});
}
/// Attaches the detached mount `from` on the object behind `to`.
inline long attach_mount(int from, int to) {
  return call(__NR_move_mount, from, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}
inline long mount_setattr(int fd, unsigned flags, const struct mount_attr* attr) {
  return call(__NR_mount_setattr, fd, "", flags | unsigned{kAtEmptyPath}, attr, sizeof *attr);
}
inline long prctl(int option, unsigned long a = 0, unsigned long b = 0, unsigned long c = 0, unsigned long d = 0) {
  return call(__NR_prctl, option, a, b, c, d);
}
inline long set_namespace(int fd, uint64_t flags) {
  return call(__NR_setns, fd, flags);
}
inline long close_range(unsigned first, unsigned last, unsigned flags) {
  return call(__NR_close_range, first, last, flags);
}
inline long poll_fds(PollFd* fds, unsigned count, const Timespec* limit) {
  return call(__NR_ppoll, fds, count, limit, nullptr, 0);
}
inline long signal_pidfd(int pidfd, int signal) {
  return call(__NR_pidfd_send_signal, pidfd, signal, nullptr, 0);
}
inline long duplicate_to(int from, int to, int flags) {
  return call(__NR_dup3, from, to, flags);
}

}  // namespace gantry::init
