// What all containers of one supervisor share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/supervisor/copier.h"
#include "engine/supervisor/definition.h"
#include "engine/supervisor/keeper_link.h"
#include "engine/supervisor/suspects.h"
#include "engine/verbs.h"
#include "io/event.h"
#include "io/flush.h"

namespace gantry {

/// KeeperHold::kind of what a supervisor has the keeper hold.
enum class HeldKind : uint32_t {
  kSelf = 1,       ///< fds: journal, staging pipe (read, write), suspects
  kListener = 2,   ///< fds: the listening sockets, for clients and for the next keeper
  kContainer = 3,  ///< fds: stdout or the terminal, stderr, init's pidfd; owner: Definition::owner(); container_kind()
  kLogDevice = 4,  ///< fds: a log copier's journal, staging pipe (read, write); owner: the device's numbers
};

/// The kind of a container's slot also says which slot has what is on its way into its log: 0 for kSelf's.
inline constexpr uint32_t container_kind(uint32_t device_slot) {
  return static_cast<uint32_t>(HeldKind::kContainer) | device_slot << 8U;
}
inline constexpr HeldKind held_kind(uint32_t kind) {
  return static_cast<HeldKind>(kind & 0xffU);
}
inline constexpr uint32_t device_slot_of(uint32_t kind) {
  return kind >> 8U;
}
static_assert(init::kKeeperMaxSlots <= 1U << 24U);

/// The status with which a supervisor ends for another one: the keeper starts it, as it does after a crash.
inline constexpr int kExitForSuccessor = 75;

/// Why nothing can be started at the moment.
inline constexpr char kNoKeeper[] = "the keeper is gone, nothing can be started: start another with: gantry supervise";

/// The slots of a supervisor's own things are known to the keeper (sys/init/keeper.h); containers have those behind.
using init::kFirstRunSlot;
using init::kListenerSlot;
using init::kSelfSlot;

/// Positions of a container's descriptors in its slot.
inline constexpr size_t kHeldOut = 0, kHeldErr = 1;

/// The numbers below the keeper's slot_count and kCopySlots, low ones first: one for each run that is in progress.
class SlotNumbers {
 public:
  explicit SlotNumbers(uint32_t count) : taken_(count, false) {}
  void mark(uint32_t slot);
  /// "N containers run at once, and no more can: ..." when all are taken.
  Result<uint32_t> take();
  void give_back(uint32_t slot);
  /// How many are taken.
  uint32_t count() const { return count_; }

 private:
  uint32_t lowest_ = 0;  ///< all below are taken
  std::vector<bool> taken_;
  uint32_t count_ = 0;
};

/// How a run ended while no supervisor was looking.
struct HeldExit {
  std::optional<ExitStatus> status;
  int64_t time_ns = 0;
};

/// A run that a former supervisor began, as the keeper's table has it.
struct HeldRun {
  uint32_t slot = 0;
  uint32_t run = 0;  ///< number of the run, from the slot's owner
  pid_t pid = 0;
  bool foreign = false;
  uint32_t device_slot = 0;  ///< device_slot_of() its kind
  std::optional<HeldExit> exit;
  sys::Fd out, err, pidfd;
};

class KeeperView;
class OutputDevices;

struct SupervisorHost {
  Env& env;
  const KeeperView& table;
  KeeperLink& keeper;
  const DefinitionStore& definitions;
  SlotNumbers& slots;
  Suspects& suspects;
  io::Semaphore& admission;
  Copier& copier;
  OutputDevices& devices;
  io::Flusher& flusher;
  std::string socket;         ///< for the records of containers
  std::string cgroup_parent;  ///< SupervisedCreation's
  bool closing = false;       ///< no further run is begun: the supervisor is about to end
  io::CancelSource ending{};  ///< cancelled when clients' calls are not to be waited for any more
};

}  // namespace gantry
