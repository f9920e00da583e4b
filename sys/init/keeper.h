// The keeper: gantry-init's third job, the parent of all supervised containers. What it is started with, what it keeps
// in its table, and what it and the supervisor say to each other.
//
// The keeper does every clone, reaps, and holds the descriptors that containers depend on; all decisions are the
// supervisor's, which may die at any moment and is then started again with everything held. This file is only the
// format; the rules are in keeper_table.h. Freestanding.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gantry::init {

// -- descriptors -----------------------------------------------------------------------------------------------------

// What "gantry-init keeper" is started with, besides 0-2. Only the held ones are not close-on-exec.
inline constexpr int kKeeperTableFd = 3;     ///< the table, a memfd
inline constexpr int kKeeperImageFd = 4;     ///< gantry-init, for launchers
inline constexpr int kKeeperProgramFd = 5;   ///< gantry, when its path cannot be executed
inline constexpr int kKeeperArgsFd = 6;      ///< KeeperArgs, a memfd
inline constexpr int kKeeperNotifyFd = 7;    ///< connected socket of the service manager (sd_notify(3)); may be missing
inline constexpr int kKeeperHandoverFd = 8;  ///< whoever hands over, waiting for kHandoverTaken; may be missing
inline constexpr int kKeeperOwnFds = 9;

// "gantry-init holder" has the table at kKeeperTableFd and, at kKeeperHandoverFd, whoever has asked already, if
// anybody.

// What the supervisor is started with, besides 0-2 and the held descriptors, which have the numbers in the table.
inline constexpr int kSupervisorSocketFd = 3;  ///< the conversation with the keeper; a new one at every start
inline constexpr int kSupervisorTableFd = 4;   ///< the table: to be mapped read-only, the keeper alone writes

/// Held descriptors are numbered from here on; below, numbers stay free for those on their way to a launcher.
inline constexpr int kFirstHeld = 512;

// -- how to start the supervisor -------------------------------------------------------------------------------------

inline constexpr uint32_t kKeeperArgsMagic = 0x41504b47;  // "GKPA"
inline constexpr uint32_t kKeeperMaxStrings = 2048;       ///< arguments and environment together
inline constexpr uint32_t kKeeperMaxArgs = 1u << 20;      ///< bytes of the whole object

/// At the start of the args memfd; the strings follow, each with its NUL: the program's path, argc arguments (with
/// argv[0]), envc of the environment.
struct KeeperArgs {
  uint32_t magic;
  uint32_t size;  ///< of the whole object, with this head
  uint32_t argc, envc;
  uint64_t nofile_soft, nofile_hard;  ///< RLIMIT_NOFILE of who started the keeper, given back to launchers
};

// -- the table -------------------------------------------------------------------------------------------------------

inline constexpr uint32_t kKeeperTableMagic = 0x54504b47;  // "GKPT"
inline constexpr uint32_t kKeeperTableVersion = 1;
inline constexpr uint32_t kKeeperMaxSlots = 1u << 16;
inline constexpr uint32_t kKeeperFds = 4;           ///< descriptors in a slot
inline constexpr uint32_t kHeldPidfd = 2;           ///< the position at which the pidfd of the slot's process belongs
inline constexpr uint32_t kKeeperCrashes = 8;       ///< times remembered
inline constexpr uint32_t kUnslotted = 0xffffffff;  ///< an exit of a process that no slot names

/// What lies in the first slots is known to the keeper, too: a holder needs no more than that. Runs are behind.
inline constexpr uint32_t kSelfSlot = 0;      ///< what the supervisor itself needs
inline constexpr uint32_t kListenerSlot = 1;  ///< the listening sockets
inline constexpr uint32_t kFirstRunSlot = 2;
/// Positions in kListenerSlot.
inline constexpr uint32_t kClientsSocket = 0;   ///< where clients connect
inline constexpr uint32_t kHandoverSocket = 1;  ///< where the next keeper connects, SOCK_SEQPACKET

enum class SlotState : uint32_t {
  kFree = 0,
  kHeld = 1,    ///< in use; its process, if any, has not ended as far as the keeper knows
  kExited = 2,  ///< in use; its process has ended: code, signal, time (or flag kExitUnknown)
};

enum SlotFlags : uint32_t {
  kSlotForeign = 1u << 0,      ///< the process is not the keeper's child: its end is not seen here
  kSlotExitUnknown = 1u << 1,  ///< it ended, nobody knows how
};

/// One reserved place: descriptors, and the end of a process. `state` is written last.
struct KeeperSlot {
  SlotState state;
  uint32_t kind;   ///< the supervisor's, opaque
  uint64_t owner;  ///< the supervisor's, opaque
  int32_t pid;     ///< 0: none
  uint32_t flags;  ///< SlotFlags
  int32_t code, signal;
  int64_t time;             ///< of the exit: nanoseconds, CLOCK_REALTIME
  int32_t fds[kKeeperFds];  ///< numbers (kFirstHeld and up), -1: none
  uint32_t told;            ///< KeeperTable::starts of the supervisor that was sent the exit, 0: none
  uint32_t reserved;
};
static_assert(sizeof(KeeperSlot) == 64);

/// The head of the table; the slots follow at kKeeperTableHead. A sparse memfd: only what is used costs memory.
struct KeeperTable {
  uint32_t magic, version;
  uint32_t slot_count;  ///< chosen by who makes the table
  uint32_t used;        ///< slots from here on were never used
  int32_t keeper_pid;
  int32_t supervisor_pid;               ///< 0: none at the moment
  uint32_t starts;                      ///< how often a supervisor was started; the first one sees 1
  uint32_t crashes;                     ///< how often one ended without Leave
  int32_t last_code, last_signal;       ///< of the last crash
  int64_t crash_times[kKeeperCrashes];  ///< CLOCK_MONOTONIC nanoseconds; crash number N (from 1) at N % kKeeperCrashes
  uint32_t hung;  ///< the number of the last crash that was the keeper's doing (KeeperWatch), 0: none
};
inline constexpr size_t kKeeperTableHead = 256;
static_assert(sizeof(KeeperTable) <= kKeeperTableHead);

/// Bytes of a table.
inline constexpr size_t keeper_table_size(uint32_t slot_count) {
  return kKeeperTableHead + size_t{slot_count} * sizeof(KeeperSlot);
}
inline KeeperSlot* keeper_slots(KeeperTable* table) {
  return reinterpret_cast<KeeperSlot*>(reinterpret_cast<char*>(table) + kKeeperTableHead);
}
inline const KeeperSlot* keeper_slots(const KeeperTable* table) {
  return reinterpret_cast<const KeeperSlot*>(reinterpret_cast<const char*>(table) + kKeeperTableHead);
}

/// Fills the head of a new table (the rest is zero) with `slot_count` places.
void make_keeper_table(KeeperTable& table, uint32_t slot_count);

/// Checks a mapped table of `size` bytes. Null when it can be used, else a static text.
const char* check_keeper_table(const void* table, size_t size);

// -- the conversation ------------------------------------------------------------------------------------------------

inline constexpr uint32_t kKeeperFrameMagic = 0x46504b47;  // "GKPF"

enum class KeeperTag : uint16_t {
  kInvalid = 0,
  // supervisor -> keeper; those with a serial are answered
  kSpawn = 1,    ///< serial, flags; fds: stdio (3), plan, [sync], [cgroup directory], slots...
  kHold = 2,     ///< serial, slot, kind, owner, pid or 0, mask; fds: one for each bit of the mask, lowest first
  kRelease = 3,  ///< serial, slot
  kNotify = 4,   ///< kind = KeeperNotify; time: kWatchdog's patience
  kLeave = 5,    ///< the supervisor is about to end for good: the keeper then ends with its status
  // keeper -> supervisor
  kSpawned = 16,  ///< serial, err, or pid, flags (kSpawnInCgroup) and one fd, the pidfd
  kHeld = 17,     ///< serial, slot, err: answer to kHold and kRelease
  kExited = 18,   ///< slot or kUnslotted, pid, code, signal, time, flags (kExitUnknown); a slot's once for each start
  kRefused = 19,  ///< err: a frame that was no legal request
  // Between the next keeper and whoever has what the last one held, over the handover socket. What decides is whether
  // kHandoverTaken could be sent. Who does not want to wait for it any longer shuts down its reading end, after which
  // it cannot be sent, looks whether it has come, and if not says kRefused and keeps everything. A next keeper that
  // could not send it reads that, and ends; without a word the other side is dead, and what it had is here alone.
  kHandoverPlease = 32,  ///< from the next one: everything, please
  kHandoverTable = 33,   ///< slot = how many kHandoverSlot follow; one fd, the table
  kHandoverSlot = 34,    ///< slot, kind, owner, pid, mask; fds: one for each bit of the mask, lowest first
  kHandoverTaken = 35,   ///< from the next one, with which it is the keeper: all is held here, go
};

enum KeeperFlags : uint16_t {
  kSpawnSync = 1u << 0,      ///< kSpawn: a sync socket is among the fds
  kSpawnInCgroup = 1u << 1,  ///< kSpawn: a cgroup2 directory to be born in is; kSpawned: it was
  kExitUnknown = 1u << 2,    ///< kExited: code and signal mean nothing
};

/// What a service manager may be told: fixed strings. kWatchdog also tells the keeper that the supervisor is alive, and
/// will say so again within `time` nanoseconds (0: it will not): one that does not is killed (KeeperWatch).
enum class KeeperNotify : uint32_t { kReady = 0, kReloading = 1, kStopping = 2, kWatchdog = 3, kCount = 4 };

/// One datagram of a SOCK_SEQPACKET pair, always of this size. Fields that a tag does not name are 0.
struct KeeperFrame {
  uint32_t magic;
  KeeperTag tag;
  uint16_t flags;   ///< KeeperFlags
  uint32_t serial;  ///< chosen by the supervisor, repeated in the answer
  uint32_t slot;
  uint32_t kind;
  uint32_t mask;  ///< bit N: a descriptor for position N of the slot
  int32_t err;    ///< errno or 0
  int32_t pid;
  int32_t code, signal;
  uint64_t owner;
  int64_t time;
};
static_assert(sizeof(KeeperFrame) == 56);

/// A frame with nothing but its tag.
inline KeeperFrame make_keeper_frame(KeeperTag tag) {
  KeeperFrame frame = {};
  frame.magic = kKeeperFrameMagic;
  frame.tag = tag;
  return frame;
}

/// Checks a received datagram: size, magic, a known tag. Null when valid, else a static text.
const char* check_keeper_frame(const void* data, size_t size);

}  // namespace gantry::init
