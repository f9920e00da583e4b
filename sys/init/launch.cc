// Job "launch": in the host's namespaces, joins what is given by path or pidfd, clones init as its own sibling
// (CLONE_PARENT) and stays for path work until init is ready.
#include "sys/init/context.h"
#include "sys/init/message.h"

namespace gantry::init {
namespace {

constexpr int kPrSetPdeathsig = 1, kPrSetDumpable = 4, kPrSetName = 15;
constexpr uint32_t kMaxJoins = 16;
constexpr unsigned kIoctlCgroupNamespace = 0xff01;  // PIDFD_GET_CGROUP_NAMESPACE, Linux 6.11

struct Launch {
  Context& ctx;
  int joins[kMaxJoins];
  bool joined[kMaxJoins];
  int target = -1;
  /// A cgroup namespace to join after the clone: CLONE_INTO_CGROUP may not look out of a namespace of another root.
  int late_cgroup = -1;
  int ours = -1, theirs = -1;  ///< the pair between launcher and init
  bool enters_cgroup = false;  ///< the clone could not
  uint64_t unshares = 0;       ///< ... and this comes after it
  bool has_broker = false;
  long broker = 0;
  bool commits_ahead() const { return (ctx.plan.header->flags & kHeaderCommitAhead) != 0; }
};

[[noreturn]] void die_joining(Launch& launch, uint32_t index, long err, const char* name) {
  Message message;
  const PlanView& plan = launch.ctx.plan;
  if (plan.joins[index].label != 0) message.add(plan.arena + plan.joins[index].label).add(": ");
  die(launch.ctx, err, message.add(name).get());
}

void open_joins(Launch& launch) {
  const PlanView& plan = launch.ctx.plan;
  for (uint32_t i = 0; i < plan.header->join_count; ++i) {
    const long fd = open_at(kAtFdcwd, text(plan, plan.joins[i].path), kORdonly);
    if (fd < 0) die_joining(launch, i, -fd, "open");
    launch.joins[i] = static_cast<int>(fd);
    launch.joined[i] = false;
  }
  if (plan.header->target_slot != kNoSlot) launch.target = kFirstSlot + plan.header->target_slot;
}

/// One namespace; false when a right is missing that the user namespace may bring.
bool try_join(Launch& launch, uint32_t index, bool may_wait) {
  const Join& join = launch.ctx.plan.joins[index];
  if (join.clone_flag == kCloneNewCgroup && launch.ctx.plan.header->cgroup_slot != kNoSlot) {
    launch.late_cgroup = launch.joins[index];
    return true;
  }
  const long done = set_namespace(launch.joins[index], join.clone_flag);
  if (done == -kEPERM && may_wait) return false;
  if (done < 0) die_joining(launch, index, -done, "setns");
  close_fd(launch.joins[index]);
  return true;
}

/// LX-04: first all but the user namespace, then that, then what needed it.
void join_paths(Launch& launch) {
  const PlanView& plan = launch.ctx.plan;
  bool has_user = false;
  for (uint32_t i = 0; i < plan.header->join_count; ++i) has_user |= plan.joins[i].clone_flag == kCloneNewUser;
  for (uint32_t i = 0; i < plan.header->join_count; ++i)
    if (plan.joins[i].clone_flag != kCloneNewUser) launch.joined[i] = try_join(launch, i, has_user);
  if (!has_user) return;
  for (uint32_t i = 0; i < plan.header->join_count; ++i)
    if (plan.joins[i].clone_flag == kCloneNewUser) launch.joined[i] = try_join(launch, i, false);
  become_namespace_root(launch.ctx);
  for (uint32_t i = 0; i < plan.header->join_count; ++i)
    if (!launch.joined[i]) try_join(launch, i, false);
}

/// Opens "/ns/cgroup" or the like below the target's /proc/PID, for what a pidfd does not give. The pidfd still being
/// alive afterwards proves that the pid was the right one.
long open_of_target(int pidfd, const char* name, int flags) {
  Text<64> path("/proc/self/fdinfo/");
  path.add_number(static_cast<uint64_t>(pidfd));
  const long info = open_at(kAtFdcwd, path.get(), kORdonly);
  if (info < 0) return info;
  char lines[512];
  const long size = read_fd(static_cast<int>(info), lines, sizeof lines - 1);
  close_fd(info);
  if (size < 0) return size;
  lines[size] = '\0';
  const char* line = lines;
  while (*line != '\0' && !starts_with(line, "Pid:\t")) ++line;
  if (*line == '\0') return -kESRCH;
  Text<64> path_of_it("/proc/");
  for (line += 5; *line >= '0' && *line <= '9'; ++line) path_of_it.put(*line);
  const long fd = open_at(kAtFdcwd, path_of_it.add(name).get(), flags);
  const long alive = signal_pidfd(pidfd, 0);
  return alive < 0 ? alive : fd;
}

/// exec and createContainer hooks: everything before the clone, so that no member of the container's pid namespace ever
/// sees a process that still has the host's root; only the cgroup namespace may have to wait.
void join_target(Launch& launch) {
  Context& ctx = launch.ctx;
  uint64_t flags = ctx.plan.header->target_flags;
  if ((flags & kCloneNewCgroup) != 0 && ctx.plan.header->cgroup_slot != kNoSlot) {
    long fd = call(__NR_ioctl, launch.target, kIoctlCgroupNamespace, 0);
    if (fd < 0) fd = open_of_target(launch.target, "/ns/cgroup", kORdonly);
    launch.late_cgroup = static_cast<int>(must(ctx, fd, "open the container's cgroup namespace"));
    flags &= ~kCloneNewCgroup;
  }
  long root = -1;
  if ((ctx.plan.header->flags & kHeaderTargetRoot) != 0)
    root = must(ctx, open_of_target(launch.target, "/root", kOPath | kODirectory), "open the container's root");
  if (flags != 0) must(ctx, set_namespace(launch.target, flags), "setns to the container");
  if (root >= 0) {
    change_root(ctx, static_cast<int>(root));
    close_fd(root);
  }
  if ((flags & kCloneNewUser) != 0) become_namespace_root(ctx);
}

bool wants_broker(const Context& ctx) {
  const PlanView& plan = ctx.plan;
  uint64_t joins = plan.header->target_slot != kNoSlot ? plan.header->target_flags : 0;
  for (uint32_t i = 0; i < plan.header->join_count; ++i) joins |= plan.joins[i].clone_flag;
  if ((joins & (kCloneNewUser | kCloneNewNs)) == 0) return false;
  for (uint32_t i = 0; i < plan.header->step_count; ++i) {
    if (plan.steps[i].op != Op::kMount) continue;
    const auto& args = *blob<MountArgs>(plan, plan.steps[i].s[2]);
    if ((args.flags & (kMountFromLauncher | kMountIdmap)) != 0) return true;
  }
  return false;
}

void fork_broker(Launch& launch) {
  if (!wants_broker(launch.ctx)) return;
  launch.broker = must(launch.ctx, fork_child(0, nullptr), "clone3 of the path broker");
  launch.has_broker = true;
  if (launch.broker != 0) return;
  prctl(kPrSetPdeathsig, kSigkill);
  close_fd(launch.theirs);
  serve_init(launch.ctx, launch.ours, -1, true);
  exit_now(0);
}

void open_pair(Launch& launch) {
  int ends[2];
  must(launch.ctx, call(__NR_socketpair, kAfUnix, kSockSeqpacket | kSockCloexec, 0, ends), "socketpair");
  launch.ours = ends[0];
  launch.theirs = ends[1];
}

void write_oom_score(Context& ctx) {
  if ((ctx.plan.header->flags & kHeaderOomScore) == 0) return;
  Text<16> score;
  score.add_signed(ctx.plan.header->oom_score_adj);
  long done = open_at(kAtFdcwd, "/proc/self/oom_score_adj", kOWronly);
  if (done >= 0) {
    const long written = write_fd(static_cast<int>(done), score.get(), score.size());
    close_fd(done);
    done = written;
  }
  if (done == -kEACCES || done == -kEPERM) {
    Message message("process.oomScoreAdj ");
    warn(ctx, -done, message.add(score.get()).get());
  } else {
    must(ctx, done, "process.oomScoreAdj");
  }
}

long clone_init(Launch& launch, int* pidfd) {
  const Header& header = *launch.ctx.plan.header;
  CloneArgs args = {};
  args.flags = header.clone_flags | kCloneParent | kClonePidfd | kCloneClearSighand;
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  const auto enter_later = [&launch, &args] {
    // The namespace is rooted where the process is when it is made, so that waits too.
    launch.enters_cgroup = true;
    launch.unshares = args.flags & kCloneNewCgroup;
    args.flags &= ~(kCloneIntoCgroup | kCloneNewCgroup);
  };
  if (header.cgroup_slot != kNoSlot) {
    args.flags |= kCloneIntoCgroup;
    args.cgroup = static_cast<uint64_t>(kFirstSlot + header.cgroup_slot);
    if ((header.flags & kHeaderCgroupByWrite) != 0) enter_later();
  }
  long pid = clone_process(args);
  if (is_hidden(pid) && (args.flags & kCloneIntoCgroup) != 0) {
    enter_later();
    pid = clone_process(args);
  }
  return must(launch.ctx, pid, "clone3");
}

/// What CLONE_INTO_CGROUP would have done; nobody else lives in the new process' pid namespace yet.
void enter_cgroup(const Launch& launch) {
  Context& ctx = launch.ctx;
  const int directory = kFirstSlot + ctx.plan.header->cgroup_slot;
  const int file = static_cast<int>(must(ctx, open_at(directory, "cgroup.procs", kOWronly), "open cgroup.procs"));
  must(ctx, write_fd(file, "0", 1), "write cgroup.procs");
  close_fd(file);
  if (launch.unshares != 0) must(ctx, call(__NR_unshare, launch.unshares), "unshare");
}

[[noreturn]] void start_init(Launch& launch) {
  Context& ctx = launch.ctx;
  ctx.launcher = launch.theirs;
  ctx.awaits_born = true;
  if (launch.ours >= 0) close_fd(launch.ours);
  if (launch.enters_cgroup) enter_cgroup(launch);
  if (ctx.plan.header->cgroup_slot != kNoSlot) close_fd(kFirstSlot + ctx.plan.header->cgroup_slot);
  if (launch.late_cgroup >= 0) {
    must(ctx, set_namespace(launch.late_cgroup, kCloneNewCgroup), "setns to the cgroup namespace");
    close_fd(launch.late_cgroup);
  }
  run_steps(ctx);
}

void start_on_stack(void* launch) {
  start_init(*static_cast<Launch*>(launch));
}

/// For a launcher that leaves at once: init takes the memory over instead of getting a copy.
long clone_sharing(Launch& launch, int* pidfd) {
  constexpr size_t kStackSize = 128 * 1024;
  alignas(64) static constinit char stack[kStackSize] = {};
  launch.ctx.launcher_here = 1;
  call(__NR_set_tid_address, &launch.ctx.launcher_here);
  CloneArgs args = {};
  args.flags = launch.ctx.plan.header->clone_flags | kCloneVm | kCloneParent | kClonePidfd | kCloneClearSighand;
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = kStackSize;
  return must(launch.ctx, clone_on_stack(args, start_on_stack, &launch), "clone3");
}

/// False when the engine is gone: then init goes, too.
bool announce(const Context& ctx, long pid, int pidfd) {
  const Frame born = make_frame(Tag::kBorn, kNoStep, static_cast<uint64_t>(pid));
  if (send_frame(ctx.sync, born, &pidfd, 1) >= 0) return true;
  signal_pidfd(pidfd, kSigkill);
  return false;
}

/// Touches nothing else of what init uses by now.
[[noreturn]] void leave(Launch& launch, long pid, int pidfd) {
  launch.ctx.born_sent = announce(launch.ctx, pid, pidfd);
  exit_now(launch.ctx.born_sent ? 0 : 1);
}

[[noreturn]] void stay(Launch& launch, long pid, int pidfd) {
  Context& ctx = launch.ctx;
  close_fd(launch.theirs);
  prctl(kPrSetDumpable, 0);
  if (!announce(ctx, pid, pidfd)) exit_now(1);
  send_frame(launch.ours, make_frame(Tag::kBorn, kNoStep), nullptr, 0);
  serve_init(ctx, launch.ours, pidfd, !launch.has_broker);
  if (launch.has_broker) {
    close_fd(launch.ours);
    reap(launch.broker);
  }
  exit_now(0);
}

void open_own_plan(Context& ctx) {
  Stat object;
  must(ctx, stat_fd(kPlanFd, &object), "fstat of the plan");
  const auto size = static_cast<size_t>(object.st_size);
  constexpr int kRead = 1, kPrivate = 2;
  const long mapped = must(ctx, call(__NR_mmap, nullptr, size, kRead, kPrivate, kPlanFd, 0), "mmap of the plan");
  if (const char* wrong = open_plan(reinterpret_cast<const void*>(mapped), size, &ctx.plan)) die(ctx, 0, wrong);
  close_fd(kPlanFd);
}

/// Whatever the caller ignores or blocks is not inherited by the program.
void reset_signals() {
  const unsigned long defaults[4] = {};
  for (int signal = 1; signal <= kSignals; ++signal)
    if (signal != kSigkill && signal != kSigstop)
      call(__NR_rt_sigaction, signal, defaults, nullptr, sizeof(unsigned long));
  const unsigned long none = 0;
  constexpr int kSetMask = 2;
  call(__NR_rt_sigprocmask, kSetMask, &none, nullptr, sizeof none);
}

/// Cgroups that exist are joined without the engine; for those still being made there is kCgroup.
void join_listed_cgroups(Context& ctx) {
  const Header& header = *ctx.plan.header;
  const char* path = text(ctx.plan, header.cgroup_files);
  for (uint32_t i = 0; i < header.cgroup_file_count; ++i, path = next_text(path)) {
    long done = open_at(kAtFdcwd, path, kOWronly | kONofollow);
    if (done >= 0) {
      const int file = static_cast<int>(done);
      done = write_fd(file, "0", 1);
      close_fd(file);
    }
    if (done >= 0) continue;
    Message message("error adding process to cgroups: ");
    die(ctx, -done, message.add(path).get());
  }
}

/// In a user namespace nobody may raise a hard limit, so that is done while we are out of it. Op::kRlimit sets the
/// exact values, and reports what could not be raised.
void raise_hard_limits(const PlanView& plan) {
  uint64_t namespaces = plan.header->clone_flags | plan.header->target_flags;
  for (uint32_t i = 0; i < plan.header->join_count; ++i) namespaces |= plan.joins[i].clone_flag;
  if ((namespaces & kCloneNewUser) == 0) return;
  for (uint32_t i = 0; i < plan.header->step_count; ++i) {
    const Step& step = plan.steps[i];
    uint64_t limit[2];  // soft, hard
    if (step.op != Op::kRlimit || call(__NR_prlimit64, 0, step.n[0], nullptr, limit) < 0) continue;
    if (limit[1] >= step.n[2]) continue;
    limit[1] = step.n[2];
    call(__NR_prlimit64, 0, step.n[0], limit, nullptr);
  }
}

void find_start_fds(Context& ctx) {
  const PlanView& plan = ctx.plan;
  for (uint32_t i = 0; i < plan.header->step_count; ++i) {
    const Step& step = plan.steps[i];
    if (step.op == Op::kWaitStart) {
      ctx.start_fifo = kFirstSlot + static_cast<int>(step.n[0]);
      if (static_cast<int64_t>(step.n[1]) != kNoSlot) ctx.status = kFirstSlot + static_cast<int>(step.n[1]);
    }
    if (step.op == Op::kPlaceFds) ctx.placed_count = static_cast<unsigned>(step.n[1]);
  }
}

}  // namespace

void run_launcher(Context& ctx) {
  prctl(kPrSetDumpable, 0);
  prctl(kPrSetName, reinterpret_cast<unsigned long>("gantry-init"));
  reset_signals();
  open_own_plan(ctx);
  const Header& header = *ctx.plan.header;
  const unsigned end = static_cast<unsigned>(kFirstSlot) + header.slot_count;
  must(ctx, close_all_from(end, 0), "close_range");
  must(ctx, close_all_from(3, kCloseRangeCloexec), "close_range");
  find_start_fds(ctx);
  ctx.inherited_umask = static_cast<unsigned>(call(__NR_umask, 0));
  ctx.in_user_ns = (header.clone_flags & kCloneNewUser) != 0;
  write_oom_score(ctx);
  if ((header.flags & kHeaderJoinEarly) != 0) await(ctx, Tag::kCgroup);
  join_listed_cgroups(ctx);
  raise_hard_limits(ctx.plan);

  Launch launch{ctx, {}, {}};
  const bool clones = (header.flags & kHeaderNoClone) == 0;
  // The program of a hook without a clone would inherit it.
  if (clones) prctl(kPrSetPdeathsig, kSigkill);
  open_joins(launch);
  if (clones && !launch.commits_ahead()) {
    open_pair(launch);
    fork_broker(launch);
  }
  join_paths(launch);
  if (launch.target >= 0) join_target(launch);
  if (!clones) run_steps(ctx);

  // An unprivileged engine can write the maps only of a dumpable process; kMaps ends that. Another user namespace may
  // have made us dumpable again.
  prctl(kPrSetDumpable, (header.flags & kHeaderKeepDumpable) != 0 ? 1 : 0);
  int pidfd = -1;
  if (launch.commits_ahead()) {
    const long sharer = clone_sharing(launch, &pidfd);
    leave(launch, sharer, pidfd);
  }
  const long pid = clone_init(launch, &pidfd);
  if (pid == 0) start_init(launch);
  stay(launch, pid, pidfd);
}

}  // namespace gantry::init
