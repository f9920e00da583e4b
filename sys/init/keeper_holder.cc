// The holder: what a keeper leaves behind when it ends while containers run. Has the table and what it names, does
// nothing with it, and gives it to the next keeper, one asking at a time. It exits when that one says that it has
// everything.
#include "sys/init/context.h"
#include "sys/init/keeper_parts.h"
#include "sys/init/message.h"

namespace gantry::init {
namespace {

constexpr int kPrSetDumpable = 4, kPrSetName = 15;
constexpr int kSigTerm = 15, kPollOut = 4;
constexpr int kErrProtocol = 71, kErrTimedOut = 110;
constexpr int kAskLimitMs = 2'000, kTakeLimitMs = 30'000, kPauseMs = 100;
constexpr long kTooManyRefs = -109;

/// Waits for `events`; false: not within `ms`, or whoever it is has gone away.
bool await_event(int fd, short events, int ms) {
  PollFd waited{fd, events, 0};
  const Timespec limit{ms / 1000, ms % 1000 * 1'000'000L};
  long ready;
  do {
    ready = poll_fds(&waited, 1, ms < 0 ? nullptr : &limit);
  } while (ready == -kEINTR);
  return ready == 1 && (waited.revents & events) != 0;
}

/// One frame without descriptors (any that come are dropped); false: none, or not that one.
bool expect(int peer, KeeperTag tag, int ms) {
  if (!await_event(peer, kPollIn, ms)) return false;
  KeeperFrame frame;
  IoVec part{&frame, sizeof frame};
  MsgHeader message{nullptr, 0, &part, 1, nullptr, 0, 0};
  const long got = call(__NR_recvmsg, peer, &message, kMsgCmsgCloexec | kMsgDontwait);
  if (got <= 0 || (message.flags & kMsgTrunc) != 0) return false;
  return check_keeper_frame(&frame, static_cast<size_t>(got)) == nullptr && frame.tag == tag;
}

bool give(int peer, const KeeperFrame& frame, const int* fds, unsigned count) {
  for (;;) {
    const long sent = send_parts(peer, &frame, sizeof frame, fds, count, kMsgDontwait);
    if (sent >= 0) return true;
    // Too many descriptors on their way at once: whoever reads makes room, too.
    if (sent != -kEAGAIN && sent != kTooManyRefs) return false;
    if (!await_event(peer, kPollOut, kTakeLimitMs)) return false;
    if (sent == kTooManyRefs) await_event(peer, 0, 10);
  }
}

/// True: it was taken in the last moment. Else it cannot be any more, and the other side finds out.
bool call_off(int peer) {
  constexpr int kShutRead = 0, kSndBuf = 7, kMoreRoom = 1 << 17;
  call(__NR_shutdown, peer, kShutRead);
  if (expect(peer, KeeperTag::kHandoverTaken, 0)) return true;
  // Also when all that was given lies there unread.
  call(__NR_setsockopt, peer, kSolSocket, kSndBuf, &kMoreRoom, sizeof kMoreRoom);
  KeeperFrame refusal = make_keeper_frame(KeeperTag::kRefused);
  refusal.err = kErrTimedOut;
  send_parts(peer, &refusal, sizeof refusal, nullptr, 0, kMsgDontwait);
  return false;
}

bool give_all(int peer, const KeeperTable& table) {
  const KeeperSlot* const slots = keeper_slots(&table);
  const uint32_t used = table.used < table.slot_count ? table.used : table.slot_count;
  KeeperFrame head = make_keeper_frame(KeeperTag::kHandoverTable);
  for (uint32_t i = 0; i < used; ++i)
    if (slots[i].state != SlotState::kFree) ++head.slot;
  const int fd = kKeeperTableFd;
  if (!give(peer, head, &fd, 1)) return false;
  for (uint32_t i = 0; i < used; ++i) {
    if (slots[i].state == SlotState::kFree) continue;
    int32_t fds[kKeeperFds];
    unsigned count;
    const KeeperFrame frame = handover_frame(table, i, fds, count);
    if (!give(peer, frame, fds, count)) return false;
  }
  return expect(peer, KeeperTag::kHandoverTaken, kTakeLimitMs) || call_off(peer);
}

/// The socket has mode 0600; this is the second lock.
bool may_have_it(int peer) {
  constexpr int kPeerCred = 17;
  int credentials[3];
  int size = sizeof credentials;
  if (call(__NR_getsockopt, peer, kSolSocket, kPeerCred, credentials, &size) < 0) return false;
  return credentials[1] == 0 || credentials[1] == call(__NR_geteuid);
}

/// True: there is another keeper.
bool attend(int peer, const KeeperTable& table) {
  if (!may_have_it(peer)) {
    KeeperFrame refusal = make_keeper_frame(KeeperTag::kRefused);
    refusal.err = kEPERM;
    send_parts(peer, &refusal, sizeof refusal, nullptr, 0, kMsgDontwait);
    return false;
  }
  if (expect(peer, KeeperTag::kHandoverPlease, kAskLimitMs)) return give_all(peer, table);
  KeeperFrame refusal = make_keeper_frame(KeeperTag::kRefused);
  refusal.err = kErrProtocol;
  send_parts(peer, &refusal, sizeof refusal, nullptr, 0, kMsgDontwait);
  return false;
}

/// Nothing of whoever started us is kept busy, and a terminal that closes is none of our business.
void detach() {
  prctl(kPrSetDumpable, 0);
  const unsigned long all_but_term = ~(1ul << (kSigTerm - 1));
  const unsigned long defaults[4] = {};
  constexpr int kSetMask = 2;
  call(__NR_rt_sigaction, kSigTerm, defaults, nullptr, sizeof(unsigned long));
  call(__NR_rt_sigprocmask, kSetMask, &all_but_term, nullptr, sizeof all_but_term);
  call(__NR_setsid);
  call(__NR_chdir, "/");
  for (int fd = 0; fd < kKeeperTableFd; ++fd) close_fd(fd);
  for (int fd = kKeeperTableFd + 1; fd < kKeeperOwnFds; ++fd) close_fd(fd);
}

/// Clients learn that nobody is there.
void turn_clients_away(KeeperTable& table) {
  int32_t& socket = keeper_slots(&table)[kListenerSlot].fds[kClientsSocket];
  if (socket >= kFirstHeld) close_fd(socket);
  socket = -1;
}

/// Whether whoever was to hand over has said that it keeps everything.
bool was_called_off() {
  KeeperFrame frame;
  IoVec part{&frame, sizeof frame};
  // It shuts its side first and says so then; one that is dead has hung up.
  PollFd word{kKeeperHandoverFd, kPollIn, 0};
  const Timespec limit{5, 0};
  poll_fds(&word, 1, &limit);
  long got = -1;
  for (int i = 0; i < 2 && got < 0; ++i) {  // an error that is pending comes before what can be read
    MsgHeader message{nullptr, 0, &part, 1, nullptr, 0, 0};
    got = call(__NR_recvmsg, kKeeperHandoverFd, &message, kMsgCmsgCloexec | kMsgDontwait);
  }
  if (got <= 0 || check_keeper_frame(&frame, static_cast<size_t>(got)) != nullptr) return false;
  return frame.tag == KeeperTag::kRefused;
}

}  // namespace

void refuse(const char* why) {
  Text<160> line("gantry-init keeper: ");
  line.add(why).put('\n');
  write_fd(2, line.get(), line.size());
  exit_now(2);
}

KeeperTable& map_table() {
  Stat object;
  if (stat_fd(kKeeperTableFd, &object) < 0) refuse("no table");
  const auto size = static_cast<size_t>(object.st_size);
  constexpr int kReadWrite = 3, kShared = 1;
  const long mapped = call(__NR_mmap, nullptr, size, kReadWrite, kShared, kKeeperTableFd, 0);
  if (mapped < 0) refuse("the table cannot be mapped");
  auto* const table = reinterpret_cast<KeeperTable*>(mapped);
  if (const char* wrong = check_keeper_table(table, size)) refuse(wrong);
  return *table;
}

void confirm_handover() {
  const KeeperFrame taken = make_keeper_frame(KeeperTag::kHandoverTaken);
  const Timespec pause{0, 10'000'000};
  long sent;
  while ((sent = send_parts(kKeeperHandoverFd, &taken, sizeof taken, nullptr, 0, kMsgDontwait)) == -kENOMEM ||
         sent == -kEAGAIN || sent == -kEINTR)
    poll_fds(nullptr, 0, &pause);
  if (sent < 0 && was_called_off()) refuse("the handover took too long and was called off: try again");
  close_fd(kKeeperHandoverFd);
}

void hold_table(KeeperTable& table) {
  turn_clients_away(table);
  detach();
  prctl(kPrSetName, reinterpret_cast<unsigned long>("gantry-holder"));  // whoever sees that sees all of it done
  const int listener = keeper_slots(&table)[kListenerSlot].fds[kHandoverSocket];
  for (;;) {
    if (!await_event(listener, kPollIn, -1)) exit_now(1);
    const long peer = call(__NR_accept4, listener, nullptr, nullptr, kSockCloexec);
    if (peer < 0) await_event(listener, 0, kPauseMs);  // no memory, say
    if (peer < 0) continue;
    if (attend(static_cast<int>(peer), table)) exit_now(0);
    close_fd(peer);
  }
}

}  // namespace gantry::init
