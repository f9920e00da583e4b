#include "engine/supervisor/handover.h"

#include <sys/socket.h>
#include <unistd.h>

#include <span>
#include <utility>

#include "engine/log.h"
#include "engine/supervisor/connection.h"
#include "io/stream.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry {
namespace {

using init::KeeperFrame;
using init::KeeperTag;
using init::make_keeper_frame;

constexpr int64_t kAskLimitMs = 2'000;
constexpr int64_t kPauseMs = 100;
/// Who says nothing, and who waits to be heard: more are not listened to.
constexpr size_t kMostPeers = 16;

io::Task<Result<>> send_frame(io::Loop& loop, int socket, KeeperFrame frame, std::vector<int> fds,
                              io::Deadline deadline) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&frame, 1));
  const std::span<const int> passed(fds);
  Result<> sent = co_await io::send_msg(loop, socket, bytes, passed, deadline);
  co_return sent;
}

/// The next frame. ECONNRESET: there is none any more.
io::Task<Result<KeeperFrame>> receive_frame(io::Loop& loop, int socket, std::vector<sys::Fd>& fds,
                                            io::Deadline deadline) {
  KeeperFrame frame{};
  const std::span<std::byte> buffer = std::as_writable_bytes(std::span(&frame, 1));
  fds.clear();
  Result<size_t> got = co_await io::recv_msg(loop, socket, buffer, fds, deadline);
  if (!got) co_return forward(std::move(got), "handover");
  if (*got == 0) co_return std::unexpected(Error{"handover: the other side is gone", ECONNRESET});
  if (const char* const wrong = init::check_keeper_frame(&frame, *got)) co_return fail(cat("handover: ", wrong));
  co_return frame;
}

KeeperFrame frame_of(const KeptSlot& slot, std::vector<int>& fds) {
  KeeperFrame frame = make_keeper_frame(KeeperTag::kHandoverSlot);
  frame.slot = slot.slot;
  frame.kind = slot.kind;
  frame.owner = slot.owner;
  frame.pid = slot.pid;
  for (uint32_t i = 0; i < init::kKeeperFds; ++i) {
    if (slot.fds[i] < 0) continue;
    frame.mask |= 1u << i;
    fds.push_back(slot.fds[i]);
  }
  return frame;
}

Error refused_by(const KeeperFrame& frame) {
  if (frame.err == EBUSY) return Error{"a supervisor is already running", EBUSY};
  return Error{cat("handover: refused: ", errno_text(frame.err)), frame.err};
}

Result<> take_slot(Inheritance& into, const KeeperFrame& frame, std::vector<sys::Fd> fds) {
  if (frame.tag == KeeperTag::kRefused) return std::unexpected(refused_by(frame));
  if (frame.tag != KeeperTag::kHandoverSlot || frame.mask >= 1u << init::kKeeperFds)
    return fail("handover: another frame than expected");
  KeptSlot kept;
  kept.slot = frame.slot;
  kept.kind = frame.kind;
  kept.owner = frame.owner;
  kept.pid = frame.pid;
  size_t next = 0;
  for (uint32_t i = 0; i < init::kKeeperFds; ++i) {
    if ((frame.mask & 1u << i) == 0) continue;
    if (next == fds.size()) return fail(cat("handover: slot ", frame.slot, " came with too few descriptors"));
    kept.fds[i] = fds[next++].get();
  }
  if (next != fds.size()) return fail(cat("handover: slot ", frame.slot, " came with too many descriptors"));
  into.slots.push_back(kept);
  for (sys::Fd& fd : fds) into.fds.push_back(std::move(fd));
  return {};
}

}  // namespace

// -- the next keeper

io::Task<Result<Inheritance>> take_everything(io::Loop& loop, sys::Fd from, io::Deadline deadline) {
  Inheritance taken;
  taken.peer = std::move(from);
  const int peer = taken.peer.get();
  const KeeperFrame please = make_keeper_frame(KeeperTag::kHandoverPlease);
  std::vector<int> none;
  // Who refuses at once has said why, although it takes nothing any more.
  (void)co_await send_frame(loop, peer, please, std::move(none), deadline);
  std::vector<sys::Fd> fds;
  GANTRY_CO_LET(const KeeperFrame head, co_await receive_frame(loop, peer, fds, deadline));
  if (head.tag == KeeperTag::kRefused) co_return std::unexpected(refused_by(head));
  if (head.tag != KeeperTag::kHandoverTable || fds.size() != 1 || head.slot > init::kKeeperMaxSlots)
    co_return fail("handover: another frame than expected");
  taken.table = std::move(fds.front());
  for (uint32_t i = 0; i < head.slot; ++i) {
    GANTRY_CO_LET(const KeeperFrame frame, co_await receive_frame(loop, peer, fds, deadline));
    GANTRY_CO_TRY(take_slot(taken, frame, std::exchange(fds, {})));
  }
  co_return taken;
}

io::Task<Result<std::optional<Inheritance>>> ask_for_handover(io::Loop& loop, std::string path, io::Deadline deadline) {
  Result<sys::Fd> socket = co_await io::connect_unix(loop, path, deadline, SOCK_SEQPACKET);
  if (!socket && (socket.error().sys_errno == ECONNREFUSED || socket.error().sys_errno == ENOENT))
    co_return std::nullopt;
  if (!socket) co_return forward(std::move(socket), "handover");
  GANTRY_CO_LET(Inheritance taken, co_await take_everything(loop, std::move(*socket), deadline));
  co_return std::optional<Inheritance>(std::move(taken));
}

// -- the supervisor

namespace {

/// True: it was taken in the last moment. Else it cannot be any more, and the other side finds out.
bool call_off(int peer) {
  (void)::shutdown(peer, SHUT_RD);
  KeeperFrame last{};
  const ssize_t got = ::recv(peer, &last, sizeof last, MSG_DONTWAIT);
  const bool said = got > 0 && init::check_keeper_frame(&last, static_cast<size_t>(got)) == nullptr;
  if (said && last.tag == KeeperTag::kHandoverTaken) return true;
  constexpr int kMoreRoom = 1 << 17;  // also when all that was given lies there unread
  (void)::setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &kMoreRoom, sizeof kMoreRoom);
  KeeperFrame refusal = make_keeper_frame(KeeperTag::kRefused);
  refusal.err = ETIMEDOUT;
  (void)::send(peer, &refusal, sizeof refusal, MSG_DONTWAIT | MSG_NOSIGNAL);
  return false;
}

}  // namespace

io::Task<Result<>> give_everything(io::Loop& loop, int peer, int table, std::vector<KeptSlot> slots, int64_t limit_ms) {
  const io::Deadline limit = io::Deadline::in_ms(limit_ms);
  KeeperFrame head = make_keeper_frame(KeeperTag::kHandoverTable);
  head.slot = static_cast<uint32_t>(slots.size());
  std::vector<int> only(1, table);
  GANTRY_CO_TRY(co_await send_frame(loop, peer, head, std::move(only), limit));
  for (const KeptSlot& slot : slots) {
    std::vector<int> fds;
    const KeeperFrame frame = frame_of(slot, fds);
    GANTRY_CO_TRY(co_await send_frame(loop, peer, frame, std::move(fds), limit));
  }
  std::vector<sys::Fd> none;
  Result<KeeperFrame> answer = co_await receive_frame(loop, peer, none, limit);
  if (answer && answer->tag == KeeperTag::kHandoverTaken) co_return Result<>();
  if (call_off(peer)) co_return Result<>();
  if (!answer) co_return forward(std::move(answer));
  co_return fail("handover: another frame than expected");
}

io::Task<Result<>> HandoverDesk::serve() {
  io::CancelSource* const cancel = co_await io::inherited_cancel();
  io::Scope peers(loop_, cancel);
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    Result<sys::Fd> socket = co_await listener_.accept(never);
    if (!socket && io::is_cancelled(socket.error())) break;
    if (!socket) {
      log_warning(cat("handover socket: ", socket.error().text));
      (void)co_await io::sleep_for(loop_, std::chrono::milliseconds(kPauseMs));
    } else if (peers.active() < kMostPeers) {
      peers.spawn(attend(std::move(*socket)));
    }
  }
  (void)co_await peers.cancel_and_join();
  co_return Result<>();
}

/// 0: it may have everything; else the errno to refuse it with.
io::Task<int> HandoverDesk::judge(const sys::Fd& socket) {
  const Result<Peer> who = peer_of(socket);
  if (!who || (who->uid != 0 && who->uid != ::geteuid())) {
    if (who) log_warning(cat("handover refused: pid ", who->pid, " is of uid ", who->uid));
    co_return EPERM;
  }
  std::vector<sys::Fd> fds;
  const io::Deadline limit = io::Deadline::in_ms(kAskLimitMs);
  const Result<KeeperFrame> frame = co_await receive_frame(loop_, socket.get(), fds, limit);
  if (!frame || frame->tag != KeeperTag::kHandoverPlease) co_return EPROTO;
  co_return keeper_.gone().is_set() && !asked_.is_set() ? 0 : EBUSY;
}

io::Task<> HandoverDesk::attend(sys::Fd socket) {
  const int refusal = co_await judge(socket);
  if (refusal == 0) {
    log_warning("the next keeper is there: handing over");
    peer_ = std::move(socket);
    asked_.set();
    co_return;
  }
  KeeperFrame frame = make_keeper_frame(KeeperTag::kRefused);
  frame.err = refusal;
  std::vector<int> none;
  const io::Deadline limit = io::Deadline::in_ms(kAskLimitMs);
  (void)co_await send_frame(loop_, socket.get(), frame, std::move(none), limit);
}

}  // namespace gantry
