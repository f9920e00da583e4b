// The supervisor's end of the conversation with the keeper (sys/init/keeper.h), and the two seams on top of it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "engine/spawner.h"
#include "io/event.h"
#include "io/loop.h"
#include "sys/init/keeper.h"

namespace gantry {

/// What the keeper is to hold for a container. Idempotent: later calls for the same slot and owner add positions (a
/// position given again is replaced and the old descriptor closed) or name the process.
struct KeeperHold {
  uint32_t slot = 0;   ///< chosen by the caller, below the table's slot_count; low ones first
  uint32_t kind = 0;   ///< opaque
  uint64_t owner = 0;  ///< opaque; a slot in use by another owner is EEXIST
  pid_t pid = 0;       ///< the process whose end is to be kept until release(); 0: none (yet)
  std::array<int, init::kKeeperFds> fds{-1, -1, -1, -1};  ///< borrowed until the task is done; [kHeldPidfd] = pidfd
};

/// The conversation. One task listens; any number of others ask and wait. Main thread only.
class KeeperLink {
 public:
  /// `socket`: number kSupervisorSocketFd of a supervisor.
  KeeperLink(io::Loop& loop, sys::Fd socket) : loop_(loop), socket_(std::move(socket)), gone_(loop) {}

  /// Takes answers and exits until cancelled (no error). When the keeper is gone, everybody who waits gets an error,
  /// gone() is set, and the error is returned; later requests fail at once.
  io::Task<Result<>> listen();

  io::Event& gone() { return gone_; }

  /// Starts a launcher whose parent is the keeper. Not cancelled in the middle: the answer is near.
  io::Task<Result<sys::Child>> spawn(const sys::SpawnFds& fds);

  /// Waits for the exit of a child of the keeper, once per process. Exits that came before anybody asked are remembered
  /// (the last kMaxEarly of them). An exit that nobody knows anything about is an error.
  io::Task<Result<ExitStatus>> wait(pid_t pid, io::Deadline deadline);

  /// Returns when the keeper has it: only then may a container depend on it. Not cancelled in the middle.
  io::Task<Result<>> hold(KeeperHold request);
  /// Closes what the slot holds and frees it. A free slot is fine.
  io::Task<Result<>> release(uint32_t slot);

  /// Tells the service manager; without one nothing happens.
  io::Task<Result<>> notify(init::KeeperNotify what);
  /// The loop turns, and this will be said again within `patience`, or the keeper kills us (sys/init/keeper_table.h,
  /// KeeperWatch); 0: not again. The service manager hears it, too.
  io::Task<Result<>> beat(std::chrono::nanoseconds patience);
  /// From now on the end of this process is the end of the keeper too, with the same status. Containers live on.
  io::Task<Result<>> leave();

  /// Forgets an unclaimed exit of `pid`: it belongs to an earlier process, this number is in use again.
  void forget(pid_t pid) { early_.erase(pid); }

  static constexpr size_t kMaxEarly = 4096;

 private:
  /// A request on its way. Lives in the frame of the task that waits for it.
  struct Asked {
    explicit Asked(io::Loop& loop) : answered(loop) {}
    io::Event answered;
    std::optional<Error> broken;
    init::KeeperFrame answer{};
    std::vector<sys::Fd> fds;
  };
  struct Waiting {
    explicit Waiting(io::Loop& loop) : ended(loop) {}
    io::Event ended;
    Result<ExitStatus> status = fail("the keeper has said nothing");
  };

  io::Task<Result<>> send(init::KeeperFrame frame, std::vector<int> fds);
  io::Task<Result<>> ask(Asked& asked, init::KeeperFrame frame, std::vector<int> fds);
  io::Task<Result<sys::Child>> ask_spawn(const sys::SpawnFds& fds);
  io::Task<Result<>> ask_plain(init::KeeperFrame frame, std::vector<int> fds, std::string what);
  Result<> take(const init::KeeperFrame& frame, std::vector<sys::Fd> fds);
  void take_exit(const init::KeeperFrame& frame);
  void remember(pid_t pid, std::optional<ExitStatus> status);
  void give_up(const Error& why);

  io::Loop& loop_;
  sys::Fd socket_;
  io::Event gone_;
  uint32_t serial_ = 0;
  std::optional<Error> broken_;  ///< why nobody listens any more
  std::map<uint32_t, Asked*> asked_;
  std::map<pid_t, Waiting*> waiting_;
  /// An exit that nobody has asked for yet.
  struct Early {
    uint64_t number;  ///< counts all of them
    std::optional<ExitStatus> status;
  };
  uint64_t early_count_ = 0;
  std::map<pid_t, Early> early_;
  std::deque<std::pair<pid_t, uint64_t>> early_order_;  ///< oldest first; may name some that were taken since
};

/// Waits for the end of a process that is no child of our keeper. Its status is known once its parent, whoever that is,
/// has reaped it, where the kernel keeps it (PIDFD_GET_INFO, Linux 6.15); else an error that says so.
io::Task<Result<ExitStatus>> wait_for_stranger(io::Loop& loop, pid_t pid, int pidfd, io::Deadline deadline);

class KeeperSpawner final : public Spawner {
 public:
  explicit KeeperSpawner(KeeperLink& link) : link_(link) {}
  io::Task<Result<sys::Child>> spawn(const sys::SpawnFds& fds) override { return link_.spawn(fds); }

 private:
  KeeperLink& link_;
};

/// Exits as the keeper tells them. When the keeper is gone, or the process was another keeper's child: by the pidfd,
/// with the status where the kernel keeps it (PIDFD_GET_INFO, Linux 6.15), else an error that says so.
class KeeperExits final : public ExitSource {
 public:
  KeeperExits(io::Loop& loop, KeeperLink& link) : loop_(loop), link_(link) {}
  io::Task<Result<ExitStatus>> wait(pid_t pid, int pidfd, io::Deadline deadline) override;

 private:
  io::Loop& loop_;
  KeeperLink& link_;
};

}  // namespace gantry
