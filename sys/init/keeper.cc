// Job "keeper": the loop. One event at a time, nothing that could block, no timer unless a supervisor is to be started
// again later. What is legal and what is told is decided in keeper_table.cc.
#include "sys/init/context.h"
#include "sys/init/keeper_state.h"
#include "sys/init/message.h"

namespace gantry::init {

constinit Keeper keeper = {};

int64_t now(int clock) {
  Timespec time = {};
  call(__NR_clock_gettime, clock, &time);
  return time.sec * 1'000'000'000 + time.nsec;
}

/// ECHILD says that it is not ours, or not any more.
bool is_child(int type, int id) {
  WaitInfo info;
  return call(__NR_waitid, type, id, &info, kExited | kNoHang | kNoWait | kAnyClone, nullptr) == 0;
}

namespace {

constexpr int kPrSetDumpable = 4, kPrSetName = 15, kPrSetChildSubreaper = 36;
constexpr int kSigHup = 1, kSigInt = 2, kSigUsr1 = 10, kSigUsr2 = 12, kSigTerm = 15;
constexpr int kRlimitNofile = 7;
constexpr int kRequestsPerTurn = 16, kRequestsAtEnd = 4096;

/// signalfd_siginfo.
struct SignalInfo {
  uint32_t signo;
  int32_t err, code;
  char rest[128 - 12];
};
static_assert(sizeof(SignalInfo) == 128);

// -- children
// ----------------------------------------------------------------------------------------------------------

void plan_restart(bool killed) {
  const int64_t at = now(kClockMonotonic);
  keeper.backoff = keeper_backoff(keeper.backoff, at - keeper.started, killed);
  keeper.restart_at = at + int64_t{keeper.backoff} * 1'000'000;
}

void start_supervisor() {
  int ends[2];
  keeper.restart_at = 0;
  keeper.started = now(kClockMonotonic);
  keeper.core.starting();
  if (call(__NR_socketpair, kAfUnix, kSockSeqpacket | kSockCloexec, 0, ends) < 0) return plan_restart(false);
  const long pid = fork_child(0, nullptr);
  if (pid == 0) become_supervisor(ends[1]);
  close_fd(ends[1]);
  if (pid < 0) {
    close_fd(ends[0]);
    return plan_restart(false);
  }
  keeper.link = ends[0];
  keeper.supervisor = static_cast<int>(pid);
  keeper.watch.started();
  keeper.core.started(keeper.supervisor);
}

/// The end. Who has started us sees it at once, while a child of ours holds what containers depend on.
[[noreturn]] void leave(int status) {
  KeeperTable& table = keeper.core.table();
  if (!needs_holder(table)) exit_now(status);
  const long pid = fork_child(0, nullptr);
  if (pid > 0) exit_now(status);
  // Without a child it is ourselves: better an end that is not seen than containers that cannot write any more.
  if (keeper.link >= 0) close_fd(keeper.link);
  close_fd(keeper.signals);
  hold_table(table);
}

void supervisor_ended(const ExitNote& exit) {
  // What it has sent counts, except that there is nobody any more to start something for.
  drop_answer();
  for (int i = 0; i < kRequestsAtEnd && keeper.link >= 0 && serve(false); ++i) drop_answer();
  hang_up();
  keeper.supervisor = 0;
  if (keeper.leaving) leave(exit.signal != 0 ? 128 + exit.signal : exit.code);
  // One that does not listen to signals yet dies of them, and one may crash or hang over its end: a successor would not
  // know what was meant.
  if (keeper.told_to_end) leave(0);
  keeper.core.ended(exit, true, now(kClockMonotonic));
  plan_restart(exit.signal == kSigkill);
}

/// False: none has ended.
bool reap_one(int type, int id) {
  WaitInfo info;
  info.pid = 0;
  if (call(__NR_waitid, type, id, &info, kExited | kNoHang | kAnyClone, nullptr) < 0 || info.pid == 0) return false;
  constexpr int kCldExited = 1;
  const bool ended_itself = info.code == kCldExited;
  const ExitNote exit{info.pid, ended_itself ? info.status : 0, ended_itself ? 0 : info.status, now(kClockRealtime)};
  if (info.pid == keeper.supervisor) {
    supervisor_ended(exit);
  } else {
    keeper.core.note(exit);
  }
  return true;
}

/// While too many exits wait to be told, children stay zombies: the kernel is the queue. The supervisor's own end is
/// always seen.
void reap_and_tell() {
  if (keeper.supervisor != 0) reap_one(kWaitPid, keeper.supervisor);
  for (bool more = true; more;) {
    while (keeper.core.can_note() && (more = reap_one(kWaitAll, 0))) {
    }
    flush();
    more = more && keeper.core.can_note();
  }
}

/// A supervisor that hangs cannot be asked to end. Its successor tells (KeeperTable::hung).
void watch_over() {
  if (keeper.watch.due() == 0) return;
  const int64_t at = now(kClockMonotonic);
  const KeeperWatch::Verdict verdict = keeper.watch.look(at);
  if (verdict == KeeperWatch::Verdict::kWait) return;
  // Whatever can be done is done here: to restart the service would help nobody.
  tell_manager(KeeperNotify::kWatchdog, at);
  if (verdict != KeeperWatch::Verdict::kKill || keeper.supervisor == 0) return;
  keeper.core.hangs();
  call(__NR_kill, keeper.supervisor, kSigkill);
}

/// What a terminal sends goes to the whole group.
bool in_our_group(int pid) {
  return call(__NR_getpgid, pid) == call(__NR_getpgid, 0);
}

void take_signals() {
  SignalInfo info;
  constexpr int kFromKernel = 0x80;
  while (read_fd(keeper.signals, &info, sizeof info) == sizeof info) {
    const auto signo = static_cast<int>(info.signo);
    if (signo == kSigchld) continue;
    const bool is_end = signo == kSigTerm || signo == kSigInt;
    if (is_end) keeper.told_to_end = true;
    if (keeper.supervisor == 0) {
      if (is_end) leave(0);
    } else if (info.code != kFromKernel || !in_our_group(keeper.supervisor)) {
      call(__NR_kill, keeper.supervisor, signo);
    }
  }
}

// -- the start
// ---------------------------------------------------------------------------------------------------------

void open_table() {
  KeeperCore& core = keeper.core;
  static constinit int32_t pids[kKeeperMaxSlots] = {};  // what is never touched costs nothing
  core.open(&map_table(), pids, static_cast<int32_t>(call(__NR_getpid)));
  for (uint32_t i = 0; i < core.used(); ++i)
    if (const int32_t pid = core.adopted_pid(i)) core.adopt(i, is_child(kWaitPid, pid));
}

void read_limits() {
  KeeperArgs args;
  if (call(__NR_pread64, kKeeperArgsFd, &args, sizeof args, 0) != sizeof args || args.magic != kKeeperArgsMagic)
    refuse("no arguments");
  keeper.files = {args.nofile_soft, args.nofile_hard};
  FileLimit own;
  call(__NR_prlimit64, 0, kRlimitNofile, nullptr, &own);
  own.soft = own.hard;
  call(__NR_prlimit64, 0, kRlimitNofile, &own, nullptr);
}

void open_signals() {
  const unsigned long all = ~0ul;
  constexpr int kSetMask = 2, kNonblockCloexec = kONonblock | kOCloexec;
  call(__NR_rt_sigprocmask, kSetMask, &all, nullptr, sizeof all);
  // An ignored SIGCHLD would let children vanish without a status.
  const unsigned long defaults[4] = {};
  call(__NR_rt_sigaction, kSigchld, defaults, nullptr, sizeof(unsigned long));
  unsigned long wanted = 0;
  constexpr int kTaken[] = {kSigchld, kSigHup, kSigInt, kSigTerm, kSigUsr1, kSigUsr2};
  for (const int signo : kTaken) wanted |= 1ul << (signo - 1);
  const long fd = call(__NR_signalfd4, -1, &wanted, sizeof wanted, kNonblockCloexec);
  if (fd < 0) refuse("no signalfd");
  keeper.signals = static_cast<int>(fd);
}

void wait_for_events() {
  const auto wanted = static_cast<short>((keeper.has_answer ? 0 : kPollIn) | (keeper.wants_room ? kPollOut : 0));
  PollFd fds[2] = {{keeper.signals, kPollIn, 0}, {keeper.link, wanted, 0}};
  Timespec limit = {};
  const int64_t due = keeper.watch.due();
  const int64_t wake = due == 0 || (keeper.restart_at != 0 && keeper.restart_at < due) ? keeper.restart_at : due;
  const int64_t left = wake != 0 ? wake - now(kClockMonotonic) : 0;
  if (left > 0) limit = {left / 1'000'000'000, left % 1'000'000'000};
  poll_fds(fds, 2, wake != 0 ? &limit : nullptr);
  // Requests first: an exit never overtakes the answer that names the process.
  if ((fds[1].revents & ~kPollOut) != 0)
    for (int i = 0; i < kRequestsPerTurn && keeper.link >= 0 && !keeper.has_answer && serve(true); ++i) flush();
  if (fds[0].revents != 0) take_signals();
}

}  // namespace

void run_keeper() {
  prctl(kPrSetDumpable, 0);
  prctl(kPrSetName, reinterpret_cast<unsigned long>("gantry-keeper"));
  prctl(kPrSetChildSubreaper, 1);
  constexpr int kGetFd = 1, kSetFd = 2, kCloexec = 1;
  for (int fd = 3; fd < kKeeperOwnFds; ++fd) call(__NR_fcntl, fd, kSetFd, kCloexec);
  // Before anything is opened, which may get such a number.
  open_manager();
  const bool takes_over = call(__NR_fcntl, kKeeperHandoverFd, kGetFd, 0) >= 0;
  close_range(kKeeperOwnFds, kFirstHeld - 1, 0);  // there should be none
  read_limits();
  open_signals();
  keeper.link = -1;
  open_table();
  if (takes_over) confirm_handover();
  for (;;) {
    if (keeper.supervisor == 0 && keeper.restart_at <= now(kClockMonotonic)) start_supervisor();
    flush();  // among the first: exits that a predecessor did not release
    wait_for_events();
    reap_and_tell();
    watch_over();
  }
}

}  // namespace gantry::init
