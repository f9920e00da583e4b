// From one keeper to the next: everything that containers depend on, over a socket of its own.
//
// Who has lost its keeper (a supervisor, engine/supervisor/supervisor.h) or was left by it (a holder,
// sys/init/keeper_holder.cc) gives away; the next `gantry supervise` takes. Nothing is let go of before the new keeper
// has said, itself, that it holds it: until then the giver keeps everything and can be asked again.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/supervisor/keeper_link.h"
#include "engine/supervisor/keeper_start.h"
#include "io/event.h"
#include "io/listener.h"
#include "io/scope.h"

namespace gantry {

/// What the last keeper had.
struct Inheritance {
  sys::Fd table;
  std::vector<KeptSlot> slots;  ///< numbers of `fds`
  std::vector<sys::Fd> fds;
  sys::Fd peer;  ///< to be told by the keeper: KeeperOptions::handover
};

/// Asks at the handover socket `path`. nullopt: nobody listens there. Errors: EBUSY when a supervisor is there that has
/// its keeper, ECONNRESET when whoever it was has gone or given everything to somebody else (look again), EPERM,
/// EMFILE.
io::Task<Result<std::optional<Inheritance>>> ask_for_handover(io::Loop& loop, std::string path, io::Deadline deadline);

/// The same over a connection that is there.
io::Task<Result<Inheritance>> take_everything(io::Loop& loop, sys::Fd from, io::Deadline deadline);

inline constexpr int64_t kHandoverLimitMs = 30'000;

/// Gives everything to `peer`, who has asked, and waits until it is held there. After an error (ETIMEDOUT, ECONNRESET,
/// ECANCELED, or a frame that is wrong) `peer` cannot become the keeper any more, and the next one may have everything.
io::Task<Result<>> give_everything(io::Loop& loop, int peer, int table, std::vector<KeptSlot> slots,
                                   int64_t limit_ms = kHandoverLimitMs);

/// The supervisor's side: whoever connects is told that there is a keeper; when there is none, the first who may and
/// asks properly gets it all, which is the caller's work.
class HandoverDesk {
 public:
  HandoverDesk(io::Loop& loop, KeeperLink& keeper, io::Listener listener)
      : loop_(loop), keeper_(keeper), listener_(std::move(listener)), asked_(loop) {}

  /// Until cancelled.
  io::Task<Result<>> serve();

  /// Set when somebody is to get it.
  io::Event& asked() { return asked_; }
  /// Who. From then on somebody else may ask, once asked() is reset.
  sys::Fd take_peer() { return std::move(peer_); }
  const sys::Fd& listening_socket() const { return listener_.fd(); }

 private:
  io::Task<> attend(sys::Fd socket);
  io::Task<int> judge(const sys::Fd& socket);

  io::Loop& loop_;
  KeeperLink& keeper_;
  io::Listener listener_;
  io::Event asked_;
  sys::Fd peer_;
};

}  // namespace gantry
