// The keeper's conversation with its supervisor: requests in, answers and exits out.
#include "sys/init/context.h"
#include "sys/init/keeper_state.h"
#include "sys/init/message.h"

namespace gantry::init {
namespace {

constexpr int kDupFd = 0, kEmfile = 24, kEproto = 71;
constexpr unsigned kMaxFds = 253;  // SCM_MAX_FD

void close_all(const int* fds, unsigned count) {
  for (unsigned i = 0; i < count; ++i)
    if (fds[i] >= 0) close_fd(fds[i]);
}

// -- talking
// -----------------------------------------------------------------------------------------------------------

/// False: no room now, or nobody there any more.
bool send_one(const KeeperFrame& frame, int fd) {
  const long sent = send_parts(keeper.link, &frame, sizeof frame, &fd, fd >= 0 ? 1 : 0, kMsgDontwait);
  if (sent >= 0) return true;
  // ETOOMANYREFS and ENOMEM pass, too: whoever reads makes room.
  keeper.wants_room = true;
  if (sent == -32 /* EPIPE */ || sent == -104 /* ECONNRESET */) hang_up();
  return false;
}

KeeperFrame& answer(KeeperTag tag, const KeeperFrame& request, int err) {
  keeper.has_answer = true;
  keeper.answer_fd = -1;
  keeper.answer = make_keeper_frame(tag);
  keeper.answer.serial = request.serial;
  keeper.answer.slot = request.slot;
  keeper.answer.err = err;
  return keeper.answer;
}

struct Request {
  KeeperFrame frame;
  int fds[kMaxFds];
  unsigned count;
};

enum class Got { kNothing, kEnd, kRequest, kGarbage, kNoRoom };

Got receive(Request& out) {
  IoVec part{&out.frame, sizeof out.frame};
  Control<kMaxFds> control;
  control.head.length = 0;
  MsgHeader message{nullptr, 0, &part, 1, &control, sizeof control, 0};
  out.frame = {};
  out.count = 0;
  long got;
  do {
    got = call(__NR_recvmsg, keeper.link, &message, kMsgCmsgCloexec | kMsgDontwait);
  } while (got == -kEINTR);
  if (got == -kEAGAIN || got == -kENOMEM) return Got::kNothing;
  if (got < 0) return Got::kEnd;
  out.count = received_fds(message, control);
  for (unsigned i = 0; i < out.count; ++i) out.fds[i] = control.fds[i];
  if (got == 0) {
    // An empty datagram looks like the end.
    PollFd end{keeper.link, 0, 0};
    const Timespec at_once = {};
    poll_fds(&end, 1, &at_once);
    if ((end.revents & (kPollHup | kPollErr)) != 0 && out.count == 0) return Got::kEnd;
    return Got::kGarbage;
  }
  if ((message.flags & kMsgTrunc) != 0) return Got::kGarbage;
  if (check_keeper_frame(&out.frame, static_cast<size_t>(got)) != nullptr) return Got::kGarbage;
  return (message.flags & kMsgCtrunc) != 0 ? Got::kNoRoom : Got::kRequest;
}

// -- requests
// ----------------------------------------------------------------------------------------------------------

void do_spawn(Request& request) {
  LauncherRequest wanted;
  wanted.fds = request.fds;
  wanted.count = request.count;
  wanted.has_sync = (request.frame.flags & kSpawnSync) != 0;
  wanted.has_cgroup = (request.frame.flags & kSpawnInCgroup) != 0;
  wanted.files = keeper.files;
  LauncherStarted child;
  const long done = start_launcher(wanted, child);
  KeeperFrame& reply = answer(KeeperTag::kSpawned, request.frame, static_cast<int>(-done));
  if (done < 0) return;
  reply.pid = child.pid;
  reply.flags = child.in_cgroup ? kSpawnInCgroup : 0;
  keeper.answer_fd = child.pidfd;
}

Fate fate_of(int pid, int pidfd) {
  if (pidfd < 0) {
    if (is_child(kWaitPid, pid)) return Fate::kChild;
    return call(__NR_kill, pid, 0) == -kESRCH ? Fate::kGone : Fate::kStranger;
  }
  if (is_child(kWaitPidfd, pidfd)) return Fate::kChild;
  PollFd dead{pidfd, kPollIn, 0};
  const Timespec at_once = {};
  return poll_fds(&dead, 1, &at_once) == 1 ? Fate::kGone : Fate::kStranger;
}

/// Gives each received descriptor a held number, by position. Negative errno: none has one.
long take_numbers(const Request& request, int32_t (&held)[kKeeperFds]) {
  unsigned next = 0;
  for (int32_t& fd : held) fd = -1;
  for (uint32_t i = 0; i < kKeeperFds; ++i) {
    if ((request.frame.mask & 1u << i) == 0) continue;
    const long number = call(__NR_fcntl, request.fds[next++], kDupFd, kFirstHeld);
    if (number < 0) {
      close_all(held, kKeeperFds);
      return number == -kEINVAL ? -kEmfile : number;  // EINVAL: the limit is below kFirstHeld
    }
    held[i] = static_cast<int32_t>(number);
  }
  return 0;
}

int do_hold(const Request& request) {
  int32_t held[kKeeperFds], dropped[kKeeperFds];
  if (const long taken = take_numbers(request, held); taken < 0) return static_cast<int>(-taken);
  const KeeperSlot& slot = keeper.core.slot(request.frame.slot);
  Fate fate = Fate::kChild;
  if (keeper.core.names_anew(request.frame)) {
    int pidfd = held[kHeldPidfd];
    if (pidfd < 0 && slot.state != SlotState::kFree) pidfd = slot.fds[kHeldPidfd];
    fate = fate_of(request.frame.pid, pidfd);
  }
  keeper.core.hold(request.frame, held, fate, dropped);
  close_all(dropped, kKeeperFds);
  return 0;
}

void do_release(uint32_t slot) {
  int32_t dropped[kKeeperFds];
  keeper.core.release(slot, dropped);
  close_all(dropped, kKeeperFds);
}

void do_notify(const KeeperFrame& frame) {
  const auto what = static_cast<KeeperNotify>(frame.kind);
  const int64_t at = now(kClockMonotonic);
  if (what == KeeperNotify::kWatchdog) keeper.watch.beat(at, frame.time);
  tell_manager(what, at);
}

/// `alive`: there is somebody to answer and to start processes for.
void obey(Request& request, bool alive) {
  const KeeperVerdict verdict = keeper.core.judge(request.frame, request.count);
  const KeeperFrame& frame = request.frame;
  int err = verdict.err;
  switch (verdict.action) {
    case KeeperAction::kSpawn:
      if (err == 0 && alive) return do_spawn(request);
      answer(KeeperTag::kSpawned, frame, err);
      break;
    case KeeperAction::kHold:
      if (err == 0) err = do_hold(request);
      answer(KeeperTag::kHeld, frame, err);
      break;
    case KeeperAction::kRelease:
      if (err == 0) do_release(frame.slot);
      answer(KeeperTag::kHeld, frame, err);
      break;
    case KeeperAction::kNotify:
      if (err != 0) break;
      return do_notify(frame);
    case KeeperAction::kLeave:
      if (err != 0) break;
      keeper.leaving = true;
      return;
    case KeeperAction::kRefuse:
      break;
  }
  if (!keeper.has_answer) answer(KeeperTag::kRefused, frame, err);
}

}  // namespace

void drop_answer() {
  if (keeper.has_answer && keeper.answer_fd >= 0) close_fd(keeper.answer_fd);
  keeper.has_answer = false;
}

void hang_up() {
  if (keeper.link >= 0) close_fd(keeper.link);
  keeper.link = -1;
  drop_answer();
  keeper.wants_room = false;
  keeper.core.unheard();
}

void flush() {
  keeper.wants_room = false;
  if (keeper.link < 0) return;
  if (keeper.has_answer) {
    if (!send_one(keeper.answer, keeper.answer_fd)) return;
    drop_answer();
  }
  KeeperFrame exit;
  while (keeper.core.next_exit(exit)) {
    if (!send_one(exit, -1)) return;
    keeper.core.told(exit);
  }
}

bool serve(bool alive) {
  Request request;
  const Got got = receive(request);
  if (got == Got::kNothing) return false;
  if (got == Got::kEnd) {
    if (alive) hang_up();
    return false;
  }
  if (got == Got::kRequest) {
    obey(request, alive);
  } else if (got == Got::kNoRoom) {
    const KeeperTag tag = request.frame.tag == KeeperTag::kSpawn  ? KeeperTag::kSpawned
                          : request.frame.tag == KeeperTag::kHold ? KeeperTag::kHeld
                                                                  : KeeperTag::kRefused;
    answer(tag, request.frame, kEmfile);
  } else {
    request.frame = {};
    answer(KeeperTag::kRefused, request.frame, kEproto);
  }
  close_all(request.fds, request.count);
  return true;
}

}  // namespace gantry::init
