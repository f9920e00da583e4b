// Spawner and ExitSource of an engine that is not the parent of what it starts: both ask the foster.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "engine/spawner.h"
#include "io/event.h"
#include "io/loop.h"
#include "tests/integration/seam/protocol.h"

namespace gantry::seam {

/// The driver's end of the conversation with the foster. One task listens; any number of others ask and wait.
class FosterLink {
 public:
  FosterLink(io::Loop& loop, sys::Fd socket) : loop_(loop), socket_(std::move(socket)) {}

  /// Takes answers and exits until cancelled; anything else that ends it is an error, and everybody who waits gets it.
  io::Task<Result<>> listen();

  io::Task<Result<sys::Child>> spawn(const sys::SpawnFds& fds);
  io::Task<Result<ExitStatus>> wait(pid_t pid, io::Deadline deadline);

  /// Processes that were started and answered for.
  int spawned() const { return spawned_; }
  /// Exits that came before anybody waited for them.
  int early_exits() const { return early_exits_; }

 private:
  /// A request on its way. Lives in the frame of the task that waits for it.
  struct Asked {
    explicit Asked(io::Loop& loop) : answered(loop) {}
    io::Event answered;
    Result<sys::Child> child = fail("the foster has not answered");
  };
  /// Somebody who waits for an exit.
  struct Waiting {
    explicit Waiting(io::Loop& loop) : ended(loop) {}
    io::Event ended;
    Result<ExitStatus> status = fail("the foster has said nothing");
  };

  io::Task<Result<>> request(const sys::SpawnFds& fds, uint32_t serial);
  io::Task<Result<sys::Child>> ask(const sys::SpawnFds& fds);
  Result<> take(const Message& message, std::vector<sys::Fd> fds);
  void take_exit(const Message& message);
  void give_up(const Error& why);

  io::Loop& loop_;
  sys::Fd socket_;
  uint32_t serial_ = 0;
  int spawned_ = 0, early_exits_ = 0;
  std::optional<Error> broken_;  ///< why nobody listens any more
  std::map<uint32_t, Asked*> asked_;
  std::map<pid_t, Waiting*> waiting_;
  std::map<pid_t, std::deque<ExitStatus>> ended_;  ///< several when a pid was used again before anybody asked
};

class RemoteSpawner final : public Spawner {
 public:
  explicit RemoteSpawner(FosterLink& link) : link_(link) {}
  io::Task<Result<sys::Child>> spawn(const sys::SpawnFds& fds) override { return link_.spawn(fds); }

 private:
  FosterLink& link_;
};

class RemoteExits final : public ExitSource {
 public:
  explicit RemoteExits(FosterLink& link) : link_(link) {}
  io::Task<Result<ExitStatus>> wait(pid_t pid, int pidfd, io::Deadline deadline) override {
    return link_.wait(pid, deadline);
  }

 private:
  FosterLink& link_;
};

}  // namespace gantry::seam
