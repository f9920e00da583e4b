// The Plan: what gantry-init executes, compiled by the engine from the config.
//
// One flat buffer in a memfd: header, joins, steps, arena. Everything is an offset, nothing a pointer; all integers are
// in host byte order (writer and reader are the same binary). gantry-init reads no JSON and decides nothing: order and
// content come from the Plan. This header is shared by the engine (which writes) and the freestanding gantry-init
// (which maps it read-only), so it includes nothing beyond <stdint.h>-like headers.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gantry::init {

inline constexpr uint32_t kPlanMagic = 0x4e4c5047;  // "GPLN"
inline constexpr uint32_t kPlanVersion = 1;
inline constexpr uint32_t kPlanMaxSize = 64u << 20;

// Fd numbers with which gantry-init is started. 0-2 are the stdio of what it becomes; "slot N" in a Plan is fd
// kFirstSlot + N.
inline constexpr int kSyncFd = 3;
inline constexpr int kPlanFd = 4;
inline constexpr int kFirstSlot = 5;
inline constexpr int kNoSlot = -1;

/// A piece of the arena. Strings are NUL-terminated, `length` does not count that NUL. A list of strings is its
/// strings with their NULs, one after the other, all counted by `length`; the number stands beside it. offset 0,
/// length 0 = absent.
struct Ref {
  uint32_t offset;
  uint32_t length;
};

enum class Kind : uint32_t {
  kContainer = 1,  ///< a container's init: clone, namespaces, rootfs, wait for start, exec
  kExec = 2,       ///< a process in a running container: join, clone, identity, exec
  kHook = 3,       ///< a hook in the host's or init's namespaces: [join, clone,] exec
};

enum HeaderFlags : uint32_t {
  kHeaderNoClone = 1u << 0,     ///< the launcher runs the steps itself (hooks in host namespaces)
  kHeaderOomScore = 1u << 1,    ///< oom_score_adj is given: written by the launcher before the clone
  kHeaderJoinEarly = 1u << 3,   ///< the launcher waits for kCgroup and joins before the clone: in a pid namespace that
                                ///< others live in, nothing of the host may be open in what they can see
  kHeaderTargetRoot = 1u << 4,  ///< the launcher also takes the target's root, which no namespace gives (a chroot,
                                ///< the container's or our own)
  kHeaderCgroupByWrite = 1u << 5,  ///< init writes itself into cgroup_slot: one that ever saw a cgroup.kill kills what
                                   ///< is cloned into it (Linux 6.18 compares the kill counts of two cgroups)
  kHeaderCommitAhead = 1u << 6,    ///< Commit comes before Born, without Ready; init only waits until Born was sent
                                   ///< and tells only what goes wrong
  kHeaderKeepDumpable = 1u << 2,   ///< a new user namespace: stay dumpable until the maps are written (design §3)
};

/// One namespace to join by path, opened by the launcher. `clone_flag` is passed to setns(2), so that a file of the
/// wrong type fails. The launcher opens all first and joins before the clone: the user namespace last, and after it
/// what gave EPERM before. Only a cgroup namespace waits for the clone, when that enters cgroup_slot.
struct Join {
  uint32_t clone_flag;
  uint32_t label;  ///< arena offset of a NUL-terminated label for errors, e.g. "linux.namespaces[2] /run/netns/a"
  Ref path;
};

struct Header {
  uint32_t magic, version;
  uint32_t size;  ///< of the whole Plan in bytes
  Kind kind;
  uint32_t flags;  ///< HeaderFlags
  int32_t oom_score_adj;
  uint64_t clone_flags;  ///< CLONE_NEW* for clone3 (never CLONE_NEWTIME, see Op::kTimeOffsets)
  int32_t cgroup_slot;   ///< cgroup v2 directory for CLONE_INTO_CGROUP, or kNoSlot
  int32_t
      target_slot;  ///< pidfd of the container's init whose namespaces are joined (exec, createContainer), or kNoSlot
  uint64_t target_flags;  ///< CLONE_NEW* to join from target_slot before the clone (cgroup after it with cgroup_slot)
  uint32_t slot_count;    ///< fds passed from kFirstSlot on
  uint32_t join_offset, join_count;
  uint32_t step_offset, step_count;
  uint32_t arena_offset, arena_size;
  uint32_t cgroup_file_count;  ///< files to which the launcher writes "0" before the clone, without waiting for kCgroup
  Ref cgroup_files;            ///< list of absolute paths: v1 `tasks` of a container that runs already
};

/// The operations, run in the order of the Plan. "in-root" means: resolved below the rootfs fd by
/// openat2(RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS). s[i] and n[i] are the step's fields.
enum class Op : uint16_t {
  kInvalid = 0,
  // -- before the rootfs -------------------------------------------------------------------------------------------
  kJoinCgroups,    ///< wait for Tag::kCgroup, write "0" to each received fd (v1 `tasks`), close them
  kUnshare,        ///< n[0] = CLONE_NEW* flags (cgroup namespace on v1: after joining)
  kMaps,           ///< send kMapsPlease, wait for kGo; then become uid 0, gid 0 of the new namespace, no groups
  kTimeOffsets,    ///< unshare(NEWTIME), write s[0] to timens_offsets, enter by setns
  kResetAffinity,  ///< sched_setaffinity to all CPUs: the cpuset decides, not the caller's mask (RS-29)
  kSetsid,
  kKeyring,      ///< join session keyring s[0]; ENOSYS, EDQUOT, EACCES are warnings (LS-01)
  kLoopback,     ///< set lo up
  kPropagation,  ///< mount("/", n[0] = MS_* with MS_REC): propagation of the whole new mount namespace
  kRootfs,       ///< s[0] = absolute path; make the mount it is on private, bind it on itself, keep its root fd
  // -- filling the rootfs ------------------------------------------------------------------------------------------
  kMount,    ///< s[0] = source, s[1] = destination in-root, s[2] -> MountArgs
  kMkdir,    ///< s[0] = in-root path made with all parents, mode n[0]; an existing directory is fine
  kDevice,   ///< s[0] = in-root path, n[0] = mode with type, n[1] = dev_t, n[2] = uid, n[3] = gid; kStepBind: bind s[1]
             ///< from the host
  kSymlink,  ///< s[0] = target, s[1] = in-root link; an existing equal link is fine; kStepReplace removes what is there
  kHooks,    ///< send kHooksPlease(n[0] = HookPoint), wait for kGo
  kPivot,    ///< pivot_root into the rootfs and detach the old root; kStepNoPivot: MS_MOVE and chroot (CR-05)
  // -- inside ------------------------------------------------------------------------------------------------------
  kRootPropagation,  ///< mount("/", n[0] = MS_*) after the pivot
  kConsole,          ///< open a pty of the container's devpts, n[0] = console socket slot, n[1] = rows, n[2] = columns,
                     ///< n[3] = uid of the owner; send the master, make the slave stdio and controlling tty;
                     ///< kStepBind: bind it on /dev/console
  kSetAttr,  ///< mount_setattr on kept mount n[2] (its `keep` - 1) or, when n[2] = ~0, on "/": set n[0], clear n[1];
             ///< kStepRecursive
  kReadonlyPath,  ///< s[0] in-root: bind on itself, read-only; a missing one is fine
  kMaskedPath,  ///< s[0] in-root: hidden by the host's /dev/null (opened before the pivot) or an empty read-only tmpfs;
                ///< missing is fine
  kHostname,    ///< s[0]
  kDomainname,  ///< s[0]
  kSysctl,      ///< s[0] = path below /proc/sys with slashes, s[1] = value
  kApparmor,    ///< s[0] = profile for the next exec, verified procfs
  kUmask,       ///< n[0]
  kNoNewPrivs,
  kPidfdSocket,  ///< n[0] = slot of a connected socket: send s[0] with a pidfd of ourselves (CR-03)
  kRlimit,  ///< setrlimit: n[0] = resource, n[1] = soft, n[2] = hard; before kIdentity, while there is a right to raise
            ///< it
  kMkCwd,   ///< s[0] = cwd: mkdir -p in-root, 0755, when absent (PR-03)
  kIdentity,  ///< s[0] -> IdentityArgs: bounding set, groups, gid, uid, capabilities, stdio ownership; see
              ///< keep_sys_admin
  kChdir,     ///< s[0] = cwd: as root first when kIdentity is still to come, again as user; then getcwd must lie inside
              ///< the root
  kLookPath,  ///< s[0] = args[0], s[1] = PATH of the container's env or empty: remember the executable, errors as CR-11
  kSeccompAnnounce,  ///< send kSeccompFd(N): the listener will appear there; N is the first number from n[0] on that is
                     ///< and stays free until then
  kReady,            ///< send kReady, wait for kCommit, close the sync socket (kHook: keep it until the exec)
  kSeccomp,     ///< s[0] = array of sock_filter, n[0] = SECCOMP_FILTER_FLAG_*, n[1] = fd number for the listener (with
                ///< kStepListener)
  kFinalCaps,   ///< drop the CAP_SYS_ADMIN kept by kIdentity for a filter without no_new_privs
  kWaitStart,   ///< n[0] = slot of exec.fifo (O_RDWR): block until `start` writes; n[1] = slot of the status fifo
                ///< (O_RDWR) or kNoSlot. An exec with a listener needs it too (a pipe): execve would close the listener
  kStartHooks,  ///< s[0] -> n[0] HookArgs: run startContainer hooks one after the other
  kPlaceFds,    ///< n[0] = first slot, n[1] = count: move to 3, 4, ... for the program; all else is closed
  kExec,  ///< s[0] = argv list, n[0] = argc, s[1] = env list, n[1] = envc; kStepNeedHome: add HOME from /etc/passwd of
          ///< uid n[2]; s[2] = path to execute, or absent: what kLookPath found
  kCount
};

enum StepFlags : uint16_t {
  kStepBind = 1u << 0,
  kStepReplace = 1u << 1,
  kStepNoPivot = 1u << 2,
  kStepRecursive = 1u << 3,
  kStepListener = 1u << 4,
  kStepNeedHome = 1u << 5,
  kStepHostMounts = 1u << 7,  ///< kRootfs, kPivot: no mount namespace of our own, so nothing is mounted: a chroot
  kStepChdirEarly = 1u << 6,  ///< kChdir before kIdentity: EACCES is not yet an error
};

struct Step {
  Op op;
  uint16_t flags;  ///< StepFlags
  uint32_t label;  ///< arena offset of a NUL-terminated label for errors ("mounts[3] /proc"), 0 = none
  uint64_t n[4];
  Ref s[3];
};

enum class HookPoint : uint64_t { kRuntime = 0 /* prestart, createRuntime */, kCreateContainer = 1 };

enum class MountKind : uint32_t {
  kFilesystem = 1,  ///< fsopen(fstype)
  kBind = 2,        ///< open_tree of the source
  kRemount = 3,     ///< mount_setattr (and superblock reconfigure) of what is mounted at the destination
};

enum MountArgFlags : uint32_t {
  kMountRecursive = 1u << 0,     ///< rbind
  kMountTmpCopyUp = 1u << 1,     ///< copy the covered directory's content into the new tmpfs
  kMountFromLauncher = 1u << 2,  ///< the source is opened (and idmapped) by the launcher: kMountFdPlease
  kMountIdmap = 1u << 3,         ///< MOUNT_ATTR_IDMAP with the maps below or the container's user namespace
  kMountIdmapRecursive = 1u << 4,
  kMountRealDirectory = 1u << 5,   ///< proc, sysfs: the destination must be an ordinary directory (MT-17)
  kMountInheritMode = 1u << 6,     ///< tmpfs without mode=: take the covered directory's mode (MT-19)
  kMountKeepLocked = 1u << 7,      ///< bind attributes: keep flags locked by an outer user namespace (MT-14)
  kMountSysfsFallback = 1u << 8,   ///< sysfs EPERM without a new network namespace: bind /sys instead (MT-17)
  kMountCgroupFallback = 1u << 9,  ///< cgroup2 EPERM/EBUSY: bind `fallback` instead (MT-16)
};

struct MountArgs {
  MountKind kind;
  uint32_t flags;                 ///< MountArgFlags
  uint64_t attr_set, attr_clear;  ///< MOUNT_ATTR_*; for this mount
  uint64_t rec_set, rec_clear;    ///< MOUNT_ATTR_*; applied with AT_RECURSIVE afterwards
  uint64_t propagation;           ///< MS_SHARED/SLAVE/PRIVATE/UNBINDABLE [| MS_REC], 0 = leave
  uint64_t
      superblock;  ///< MS_RDONLY, MS_SYNCHRONOUS, MS_DIRSYNC, MS_MANDLOCK, MS_LAZYTIME, MS_I_VERSION for the superblock
  Ref fstype;
  Ref data;  ///< list of strings, each KEY or KEY=VALUE
  uint32_t data_count;
  uint32_t keep;         ///< 1-based index under which the mount fd stays open for kSetAttr, 0 = none (max kMaxKept)
  Ref uid_map, gid_map;  ///< for idmap: lines as /proc/PID/uid_map takes them; absent = the container's namespace
  Ref fallback;
};
inline constexpr uint32_t kMaxKept = 64;

enum IdentityFlags : uint32_t {
  kIdentitySetGroups = 1u << 0,     ///< call setgroups (not when denied and the list is empty)
  kIdentityKeepSysAdmin = 1u << 1,  ///< keep CAP_SYS_ADMIN permitted and effective until kFinalCaps
  kIdentityChownStdio = 1u << 2,    ///< fchown 0-2 to the uid where they are no devices
};

struct IdentityArgs {
  uint32_t flags;
  uint32_t uid, gid;
  uint32_t group_count;
  Ref groups;  ///< array of uint32_t, 4-byte aligned
  uint64_t bounding, effective, inheritable, permitted, ambient;
};

/// One startContainer hook. `timeout_ms` 0 = none. `env` equal to kExec's list (same Ref): the hook has no env of its
/// own and gets the program's, with the same HOME (HK-10).
struct HookArgs {
  Ref path;
  Ref argv;
  uint32_t argc;
  uint32_t envc;
  Ref env;
  Ref state;  ///< JSON for stdin
  uint32_t timeout_ms;
  uint32_t index;
};

/// A Plan whose every offset has been checked. The buffer must outlive it.
struct PlanView {
  const char* base;
  const Header* header;
  const Join* joins;
  const Step* steps;
  const char* arena;
};

/// Checks size, magic, alignment, all refs (inside the arena, strings terminated), op numbers, blob sizes and counts,
/// slot numbers against slot_count. Returns null when valid, else a static text naming what is wrong. Freestanding.
const char* open_plan(const void* data, size_t size, PlanView* out);

/// The string at `ref`, or null when absent.
inline const char* text(const PlanView& plan, Ref ref) {
  return ref.offset == 0 ? nullptr : plan.arena + ref.offset;
}

}  // namespace gantry::init
