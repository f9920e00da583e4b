#include <fcntl.h>
#include <linux/capability.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "engine/agent.h"
#include "engine/creation.h"
#include "engine/exec_process.h"
#include "engine/foreground.h"
#include "engine/hooks.h"
#include "engine/launch.h"
#include "engine/launch_context.h"
#include "engine/load.h"
#include "engine/seccomp_cache.h"
#include "engine/slots.h"
#include "sys/file.h"
#include "sys/pipe.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kReapLimitMs = 10'000;

/// One exec in progress.
class Execution final : public LaunchHandler {
 public:
  Execution(Env& env, ExecOptions options) : env_(env), options_(std::move(options)) {}

  io::Task<Result<int>> run();

  io::Task<Result<>> spawned(Dialogue& dialogue, bool in_cgroup) override;
  /// Nothing has to be done between Ready and Commit then, and nobody has to wait for us.
  bool commits_ahead() const override { return !terminal_ && !seccomp_.listener && !may_be_traced(); }
  io::Task<Result<>> ready(const sys::Child& process) override;
  io::Task<Result<>> committed(const sys::Child& process, int listener) override;

 private:
  Result<> load();
  bool may_be_traced() const;
  io::Task<Result<>> dial_sockets();
  Result<LaunchRequest> plan();
  io::Task<Result<sys::Child>> start(std::optional<io::Signals>& forwarded);
  Result<> choose_cgroup();
  std::string reason(const Result<sys::Child>& launched) const;
  Result<std::vector<sys::Fd>> open_cgroups(bool with_unified);
  io::Task<Result<>> send_cgroups(Dialogue& dialogue, bool with_unified);

  Env& env_;
  ExecOptions options_;
  std::optional<Loaded> container_;
  Spec spec_;
  Process process_;
  std::optional<Cgroup> cgroup_;
  std::vector<SubCgroup> subs_;
  bool joins_itself_ = false;  ///< the launcher opens the v1 cgroups and was cloned into the cgroup2 one
  bool begun_ = false;         ///< there was a launcher
  SlotTable slots_;
  CompiledSeccomp seccomp_;
  std::optional<ForegroundTerminal> terminal_;
  sys::Fd console_, pidfd_socket_, cgroup_dir_;
  sys::Pipe gate_;  ///< the process waits at it, behind its filter, until the listener is fetched; its end ends it
};

Result<> Execution::load() {
  auto loaded = load_container(env_, options_.id);
  if (!loaded) return forward(std::move(loaded));
  container_.emplace(std::move(*loaded));
  const bool paused = container_->status == Status::kPaused;
  if (!permits(container_->status, Verb::kExec) && !(paused && options_.ignore_paused))
    return not_permitted(*container_, Verb::kExec);
  GANTRY_LET(spec_, recorded_spec(*container_));
  GANTRY_LET(process_, exec_process(spec_, options_));
  const bool foreground = !options_.detach;
  GANTRY_TRY(check_terminal_rule(process_.terminal, !options_.console_socket.empty(), foreground));
  if (process_.terminal && foreground) {
    GANTRY_LET(ForegroundTerminal found, ForegroundTerminal::open());
    terminal_.emplace(std::move(found));
  }
  if (spec_.seccomp) {
    GANTRY_LET(seccomp_, cached_seccomp(*spec_.seccomp));
  }
  GANTRY_LET(Cgroup cgroup, recorded_cgroup(*container_));
  cgroup_.emplace(std::move(cgroup));
  GANTRY_LET(subs_, parse_sub_cgroups(cgroup_->mode(), options_.cgroups));
  joins_itself_ = subs_.empty() && !container_->record.cgroup_reused;
  return {};
}

/// The launcher belongs to the host's pid namespace and shares its memory, for a moment, with the new process: not
/// where somebody may look into that.
bool Execution::may_be_traced() const {
  // Who else lives in such a pid namespace, and with which rights, nobody says.
  const NamespaceSpec& pids = spec_.ns(NamespaceType::kPid);
  if (!pids.wanted || !pids.path.empty()) return true;
  if (spec_.ns(NamespaceType::kUser).wanted) return false;
  const auto traces = [](const std::optional<Capabilities>& sets) {
    constexpr uint64_t kTrace = uint64_t{1} << CAP_SYS_PTRACE;
    return sets && ((sets->bounding | sets->effective | sets->permitted) & kTrace) != 0;
  };
  return traces(process_.capabilities) || !spec_.process || traces(spec_.process->capabilities);
}

io::Task<Result<>> Execution::dial_sockets() {
  if (!options_.console_socket.empty()) {
    GANTRY_CO_LET(console_, co_await dial(env_.loop, options_.console_socket));
  }
  if (!options_.pidfd_socket.empty()) {
    Result<sys::Fd> socket = co_await dial(env_.loop, options_.pidfd_socket);
    if (!socket) co_return forward(std::move(socket), cat("failed to dail ", options_.pidfd_socket));
    pidfd_socket_ = std::move(*socket);
  }
  co_return Result<>();
}

/// EX-23: the launcher is born in the container's cgroup2 directory, or where init is now if that refuses processes.
Result<> Execution::choose_cgroup() {
  if (cgroup_->mode() == CgroupMode::kV1) return {};
  auto dir = cgroup_->unified_dir(subs_);
  if (!dir && subs_.empty()) dir = cgroup2_dir_of(container_->record.pid, cgroup_->mode());
  if (!dir) return forward(std::move(dir), "error adding process to cgroups");
  cgroup_dir_ = std::move(*dir);
  return {};
}

Result<LaunchRequest> Execution::plan() {
  PlanContext context;
  context.id = container_->record.id;
  context.bundle = container_->record.bundle;
  context.rootfs = container_->record.rootfs;
  context.slots.target_pidfd = slots_.add(container_->pidfd.get());
  context.slots.console_socket = slots_.add(terminal_ ? terminal_->child_end() : console_.get());
  context.slots.pidfd_socket = slots_.add(pidfd_socket_.get());
  if (seccomp_.listener) {
    GANTRY_LET(gate_, sys::Pipe::open());
    context.slots.exec_fifo = slots_.add(gate_.read.get());
  }
  GANTRY_TRY(choose_cgroup());
  // Members of the container's pid namespace see what is cloned: by then no cgroup of the host may be open in it.
  context.commit_ahead = commits_ahead();
  if (joins_itself_) {
    context.join_files = cgroup_->task_files();
  } else {
    context.join_early = true;
  }
  GANTRY_TRY(slots_.add_inherited(env_, options_.preserve_fds, false, context));
  context.seccomp.bpf =
      std::string_view(reinterpret_cast<const char*>(seccomp_.bpf.data()), seccomp_.bpf.size() * sizeof(sock_filter));
  context.seccomp.flags = seccomp_.flags;
  context.seccomp.listener = seccomp_.listener;
  context.slots.count = slots_.count();
  LaunchRequest request;
  GANTRY_LET(request.plan, build_exec_plan(spec_, process_, context));
  request.slots = slots_.fds();
  if (!container_->record.cgroup_reused) request.cgroup = cgroup_dir_.get();
  // Nothing would hold back a launcher that is somewhere else.
  request.cgroup_required = joins_itself_;
  return request;
}

/// What the launcher writes itself into. `with_unified`: the kernel refused to clone it into the cgroup2 directory,
/// which passes controllers on and so takes no process; where init is now there is room (EX-23).
Result<std::vector<sys::Fd>> Execution::open_cgroups(bool with_unified) {
  if (cgroup_->mode() == CgroupMode::kV2 && !with_unified) return std::vector<sys::Fd>();
  return cgroup_->join_fds(subs_, with_unified, container_->record.pid);
}

io::Task<Result<>> Execution::send_cgroups(Dialogue& dialogue, bool with_unified) {
  Result<std::vector<sys::Fd>> joins = open_cgroups(with_unified);
  if (!joins) co_return forward(std::move(joins), "error adding process to cgroups");
  std::vector<int> numbers;
  for (const sys::Fd& fd : *joins) numbers.push_back(fd.get());
  const uint64_t count = numbers.size();
  Result<> sent = co_await dialogue.send(env_.loop, init::Tag::kCgroup, count, std::move(numbers));
  co_return sent;
}

io::Task<Result<>> Execution::spawned(Dialogue& dialogue, bool in_cgroup) {
  begun_ = true;
  if (joins_itself_) co_return Result<>();
  Result<> sent = co_await send_cgroups(dialogue, !in_cgroup);
  co_return sent;
}

/// The pty is here by now, and the program must find it as it will be: size, ONLCR, our own terminal raw.
io::Task<Result<>> Execution::ready(const sys::Child& process) {
  if (!terminal_) co_return Result<>();
  Result<> attached = co_await terminal_->attach(env_.loop);
  co_return attached;
}

io::Task<Result<>> Execution::committed(const sys::Child& process, int listener) {
  if (listener < 0) co_return Result<>();
  const std::string state = state_json(container_->record, Status::kRunning, container_->record.pid);
  GANTRY_CO_TRY(co_await hand_over_listener(env_.loop, *spec_.seccomp, process, listener, state));
  co_return sys::write_all(gate_.write, "0");
}

/// The launcher is a member too when it clones; so are two helpers of runc's.
std::string Execution::reason(const Result<sys::Child>& launched) const {
  constexpr uint64_t kNeeded = 2;
  if (launched.error().sys_errno != EAGAIN) return {};
  const std::string crowding = cgroup_->crowding(kNeeded);
  if (crowding.empty()) return {};
  return cat(": the container's process limit is used up (exec needs room for ", kNeeded, ": ", crowding, ")");
}

io::Task<Result<sys::Child>> Execution::start(std::optional<io::Signals>& forwarded) {
  slots_ = SlotTable();
  GANTRY_CO_LET(LaunchRequest request, plan());
  io::Task<Result<sys::Child>> launching = launch(env_, std::move(request), *this);
  if (forwarded) launching = unless_interrupted(env_.loop, *forwarded, kUsualLaunchMs, std::move(launching));
  Result<sys::Child> launched = co_await std::move(launching);
  co_return launched;
}

io::Task<Result<int>> Execution::run() {
  GANTRY_CO_TRY(load());
  GANTRY_CO_TRY(co_await dial_sockets());
  std::optional<io::Signals> forwarded;
  if (!options_.detach) forwarded.emplace(catch_forwarded_signals(env_.loop));
  Result<sys::Child> launched = co_await start(forwarded);
  if (!launched && !begun_ && joins_itself_ && launched.error().sys_errno != EINTR) {
    // The cgroup2 directory takes no process, perhaps because it passes controllers on; or clone3 is hidden from us.
    // Then the launcher joins by what we open for it.
    joins_itself_ = false;
    launched = co_await start(forwarded);
  }
  if (!launched) co_return forward(std::move(launched), cat("unable to start container process", reason(launched)));
  if (!options_.pid_file.empty()) {
    Result<> written = sys::write_pid_file(options_.pid_file, launched->pid);
    if (!written) {
      (void)sys::pidfd_signal(launched->pidfd, SIGKILL);
      io::Task<Result<ExitStatus>> reaping =
          env_.exits.wait(launched->pid, launched->pidfd.get(), io::Deadline::in_ms(kReapLimitMs));
      (void)co_await io::shield(std::move(reaping));
      co_return forward(std::move(written));
    }
  }
  if (options_.detach) co_return 0;
  Result<int> status = co_await attend(env_, *launched, terminal_, *forwarded);
  co_return status;
}

}  // namespace

io::Task<Result<int>> exec(Env& env, ExecOptions options) {
  Execution execution(env, std::move(options));
  Result<int> status = co_await execution.run();
  co_return status;
}

}  // namespace gantry
