#include "engine/creation.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <utility>

#include "engine/agent.h"
#include "engine/bundle.h"
#include "engine/clock.h"
#include "engine/hooks.h"
#include "engine/launch_context.h"
#include "engine/notify.h"
#include "engine/seccomp_cache.h"
#include "engine/slots.h"
#include "engine/spec_check.h"
#include "engine/spec_names.h"
#include "engine/spec_parse.h"
#include "io/listener.h"
#include "sys/file.h"
#include "sys/local_path.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kDialMs = 10'000;
constexpr int64_t kUndoMs = 10'000;
// What SIGKILL does not end by then is kept by the kernel, in a mount source that does not answer.
constexpr int64_t kKillMs = 3'000;

bool is_same_file(const char* a, const char* b) {
  struct stat one, other;
  return ::stat(a, &one) == 0 && ::stat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

/// A mount namespace that is joined gets the container's root as its own: not ours, and not the system's.
Result<> check_joined_mounts(const Spec& spec) {
  if (!spec.joins(NamespaceType::kMount)) return {};
  const std::string& path = spec.ns(NamespaceType::kMount).path;
  if (!is_same_file(path.c_str(), "/proc/self/ns/mnt") && !is_same_file(path.c_str(), "/proc/1/ns/mnt")) return {};
  return fail(cat("linux.namespaces: mount ", path,
                  ": is the mount namespace of the host, whose root would become the container's; leave the path out"));
}

/// LX-13: a network namespace that is joined by path may turn out to be our own.
Result<> check_own_network(const Spec& spec) {
  if (!spec.joins(NamespaceType::kNetwork)) return {};
  if (!is_same_file("/proc/self/ns/net", spec.ns(NamespaceType::kNetwork).path.c_str())) return {};
  for (const auto& [name, value] : spec.sysctl)
    if (name.starts_with("net.") || name.starts_with("net/"))
      return fail(cat("sysctl \"", name, "\" not allowed in host network namespace"));
  return {};
}

/// A supervisor opens these itself, and must not wait for anybody's server.
Result<> check_opened_paths(const Spec& spec) {
  for (size_t kind = 0; kind < spec.namespaces.size(); ++kind) {
    const std::string& path = spec.namespaces[kind].path;
    if (path.empty()) continue;
    auto checked = sys::check_answers(path);
    if (!checked) return forward(std::move(checked), cat("linux.namespaces: ", namespace_names()[kind], " ", path));
  }
  if (!spec.seccomp || spec.seccomp->listener_path.empty()) return {};
  const std::string& path = spec.seccomp->listener_path;
  auto checked = sys::check_answers(path);
  if (!checked) return forward(std::move(checked), cat("linux.seccomp.listenerPath ", path));
  return {};
}

/// One creation in progress: its handlers run during the launch, its undo() afterwards if something failed.
class Creation final : public LaunchHandler {
 public:
  Creation(Env& env, CreateRequest request) : env_(env), request_(std::move(request)) {}

  io::Task<Result<Created>> run();

  io::Task<Result<>> spawned(Dialogue& dialogue, bool in_cgroup) override;
  Result<> born(const sys::Child& process) override;
  Result<> write_maps(const sys::Child& process) override;
  io::Task<Result<>> run_hooks(init::HookPoint point, const sys::Child& process) override;
  io::Task<Result<>> ready(const sys::Child& process) override;
  io::Task<Result<>> committed(const sys::Child& process, int listener) override;

 private:
  Result<> open_source();
  Result<> read_bundle();
  io::Task<Result<>> dial_sockets();
  Result<> claim();
  Result<> begin_cgroup();
  Result<> claim_cgroup(bool unified);
  Result<> complete_cgroup();
  Result<> limit_pids();
  Result<LaunchRequest> plan();
  io::Task<Result<>> attempt();
  io::Task<> undo();
  bool joins_early() const;
  bool needs_runtime_point() const;

  Env& env_;
  CreateRequest request_;
  std::optional<Bundle> bundle_;
  std::optional<StateDir> dir_;
  std::optional<Cgroup> cgroup_;
  CgroupHost cgroup_host_;
  CgroupPaths cgroup_paths_;
  Resources late_limits_;  ///< the part that waits for the clone
  CompiledSeccomp seccomp_;
  ContainerRecord record_;
  StateDir::Fifos fifos_;
  sys::Fd console_, pidfd_socket_, cgroup_dir_;
  sys::Child init_;
};

/// The config, from the bundle or from whoever has read it for us.
Result<> Creation::open_source() {
  if (!request_.supervised) {
    GANTRY_LET(Bundle bundle, open_bundle(request_.options.bundle));
    bundle_.emplace(std::move(bundle));
    GANTRY_LET(record_.rootfs, resolve_rootfs(*bundle_));
    return {};
  }
  SupervisedCreation& given = *request_.supervised;
  Bundle bundle;
  bundle.path = request_.options.bundle;
  bundle.config_bytes = std::move(given.config);
  GANTRY_LET(bundle.spec, parse_spec(bundle.config_bytes));
  if (!given.cgroups_path.empty()) bundle.spec.cgroups_path = given.cgroups_path;
  if (!given.cgroup_parent.empty() && !bundle.spec.cgroups_path.starts_with('/')) {
    const std::string inner =
        clean_path(bundle.spec.cgroups_path.empty() ? request_.options.id : bundle.spec.cgroups_path);
    bundle.spec.cgroups_path = given.cgroups_path = given.cgroup_parent + inner;
  }
  if (!given.netns.empty()) {
    NamespaceSpec& network = bundle.spec.namespaces[static_cast<size_t>(NamespaceType::kNetwork)];
    network.wanted = true;
    network.path = given.netns;
  }
  bundle_.emplace(std::move(bundle));
  record_.rootfs = std::move(given.rootfs);
  record_.supervisor_socket = std::move(given.supervisor_socket);
  record_.state_dir = std::move(given.state_dir);
  record_.supervised_run = given.run;
  return {};
}

Result<> Creation::read_bundle() {
  GANTRY_TRY(open_source());
  const Spec& spec = bundle_->spec;
  std::vector<std::string> warnings;
  GANTRY_TRY(check_spec(spec, warnings));
  if (!spec.process) return fail("process property must not be empty");
  if (request_.supervised) GANTRY_TRY(check_opened_paths(spec));
  GANTRY_TRY(check_own_network(spec));
  GANTRY_TRY(check_joined_mounts(spec));
  for (const std::string& warning : warnings) log_warning(warning);
  const bool terminal = spec.process && spec.process->terminal;
  const bool foreground = request_.terminal != nullptr;
  if (!request_.supervised)
    GANTRY_TRY(check_terminal_rule(terminal, !request_.options.console_socket.empty(), foreground));
  if (terminal && foreground) {
    GANTRY_LET(ForegroundTerminal found, ForegroundTerminal::open());
    request_.terminal->emplace(std::move(found));
  }
  if (spec.seccomp) {
    GANTRY_LET(seccomp_, cached_seccomp(*spec.seccomp));
  }
  record_.id = request_.options.id;
  record_.bundle = bundle_->path;
  record_.annotations = spec.annotations;
  record_.private_pid_ns = spec.creates(NamespaceType::kPid);
  record_.notify_socket = ::getenv("NOTIFY_SOCKET") != nullptr;
  record_.created = utc_text(realtime_ns());
  GANTRY_LET(cgroup_host_, probe_cgroup_host());
  GANTRY_LET(cgroup_paths_, resolve_cgroup(cgroup_host_, spec.cgroups_path, record_.id));
  record_.cgroup_mode = cgroup_mode_name(cgroup_paths_.mode);
  record_.cgroup_paths = cgroup_paths_.dirs;
  return {};
}

io::Task<Result<>> Creation::dial_sockets() {
  const CreateOptions& options = request_.options;
  if (!options.console_socket.empty()) {
    GANTRY_CO_LET(console_, co_await dial(env_.loop, options.console_socket));
  }
  if (!options.pidfd_socket.empty()) {
    Result<sys::Fd> socket = co_await dial(env_.loop, options.pidfd_socket);
    if (!socket) co_return forward(std::move(socket), cat("failed to dail ", options.pidfd_socket));
    pidfd_socket_ = std::move(*socket);
  }
  co_return Result<>();
}

/// Takes the id: from here on there is something to undo.
Result<> Creation::claim() {
  GANTRY_LET(StateDir dir, env_.store.create(record_.id));
  GANTRY_LET(const bool locked, dir.try_lock());
  // A delete that has found it without a record: it takes it away.
  if (!locked) return fail("container with given ID already exists");
  dir_.emplace(std::move(dir));
  GANTRY_TRY(dir_->save(record_));
  const bool own_cgroup = request_.supervised && !request_.supervised->cgroups_path.empty();
  if (own_cgroup) GANTRY_TRY(dir_->save_cgroups_path(request_.supervised->cgroups_path));
  GANTRY_TRY(dir_->save_config(bundle_->config_bytes));
  GANTRY_LET(fifos_, dir_->make_fifos());
  if (record_.notify_socket) GANTRY_TRY(make_notify_dir(dir_->fd()));
  return {};
}

/// The cgroup2 leaf, for CLONE_INTO_CGROUP: joining it by a write would cost a millisecond.
Result<> Creation::begin_cgroup() {
  auto cgroup = Cgroup::begin(cgroup_host_, cgroup_paths_);
  if (!cgroup) return forward(std::move(cgroup));
  cgroup_.emplace(std::move(*cgroup));
  return claim_cgroup(true);
}

/// delete --force may kill only in what is known to be ours, so this comes before anything of ours joins it.
Result<> Creation::claim_cgroup(bool unified) {
  GANTRY_LET(const std::vector<CgroupClaim> claims, cgroup_->claims(unified));
  return dir_->add_claims(claims);
}

/// All the rest, and the limits.
Result<> Creation::complete_cgroup() {
  GANTRY_TRY(cgroup_->complete(cgroup_host_));
  GANTRY_TRY(claim_cgroup(false));
  if (const auto owner = cgroup_owner(bundle_->spec)) GANTRY_TRY(cgroup_->delegate(*owner));
  Resources& resources = bundle_->spec.resources;
  if (joins_early()) {
    late_limits_.pids_limit = std::exchange(resources.pids_limit, std::nullopt);
    std::erase_if(resources.unified, [this](const auto& entry) {
      if (entry.first != "pids.max") return false;
      late_limits_.unified.push_back(entry);
      return true;
    });
  }
  std::vector<std::string> warnings;
  GANTRY_TRY(cgroup_->apply(resources, warnings));
  for (const std::string& warning : warnings) log_warning(warning);
  return {};
}

/// RS-15: a launcher that is a member itself could clone nothing under a limit of one process.
Result<> Creation::limit_pids() {
  std::vector<std::string> warnings;
  return cgroup_->update(late_limits_, warnings);
}

/// The launcher joins before the clone where the clone could be seen by others, or would have no right to join.
bool Creation::joins_early() const {
  const Spec& spec = bundle_->spec;
  return !spec.creates(NamespaceType::kPid) || spec.joins(NamespaceType::kUser);
}

bool Creation::needs_runtime_point() const {
  const Hooks& hooks = bundle_->spec.hooks;
  return !hooks.prestart.empty() || !hooks.create_runtime.empty();
}

Result<LaunchRequest> Creation::plan() {
  const Spec& spec = bundle_->spec;
  PlanContext context;
  SlotTable slots;
  context.id = record_.id;
  context.bundle = record_.bundle;
  context.rootfs = record_.rootfs;
  context.no_pivot = request_.options.no_pivot;
  context.no_new_keyring = request_.options.no_new_keyring;
  context.runtime_hooks_point = needs_runtime_point();
  context.slots.exec_fifo = slots.add(fifos_.start.get());
  context.slots.status_fifo = slots.add(fifos_.status.get());
  const bool own_terminal = request_.terminal != nullptr && request_.terminal->has_value();
  int console = own_terminal ? (*request_.terminal)->child_end() : console_.get();
  if (request_.supervised) console = spec.process->terminal ? request_.supervised->console : -1;
  context.slots.console_socket = slots.add(console);
  context.slots.pidfd_socket = slots.add(pidfd_socket_.get());
  fill_cgroup_context(cgroup_host_, cgroup_paths_, context);
  GANTRY_TRY(fill_cgroup2_options(spec, context));
  if (cgroup_paths_.mode != CgroupMode::kV1) {
    GANTRY_LET(cgroup_dir_, cgroup_->unified_dir());
    record_.cgroup_reused = !cgroup_->unified_is_fresh();
  }
  context.join_early = joins_early();
  if (!context.join_early) context.slots.cgroup_dir = slots.add(cgroup_dir_.get());
  context.cgroup_by_write = record_.cgroup_reused && context.slots.cgroup_dir != init::kNoSlot;
  GANTRY_TRY(slots.add_inherited(env_, request_.options.preserve_fds, true, context));
  if (record_.notify_socket) {
    context.extra_env.emplace_back(kNotifyEnv);
    context.notify_dir = cat(env_.store.path_of(record_.id), "/", kNotifyDir);
  }
  context.seccomp.bpf =
      std::string_view(reinterpret_cast<const char*>(seccomp_.bpf.data()), seccomp_.bpf.size() * sizeof(sock_filter));
  context.seccomp.flags = seccomp_.flags;
  context.seccomp.listener = seccomp_.listener;
  if (!spec.hooks.start_container.empty())
    context.start_container_state = state_json(record_, Status::kCreated, record_.private_pid_ns ? 1 : 0);
  context.slots.count = slots.count();
  LaunchRequest request;
  if (request_.supervised) request.stdio = request_.supervised->stdio;
  GANTRY_LET(request.plan, build_container_plan(spec, context));
  request.slots = slots.fds();
  if (context.join_early && !record_.cgroup_reused) request.cgroup = cgroup_dir_.get();
  return request;
}

io::Task<Result<>> Creation::spawned(Dialogue& dialogue, bool in_cgroup) {
  // v1 while the launcher clones: its namespaces and our directories are made at the same time (design §7).
  const bool v2 = cgroup_paths_.mode == CgroupMode::kV2;
  if (!v2) GANTRY_CO_TRY(complete_cgroup());
  if (v2 && !joins_early()) co_return Result<>();
  const bool with_unified = joins_early() && !in_cgroup;
  std::vector<sys::Fd> joins;
  if (!v2 || with_unified) {
    GANTRY_CO_LET(joins, cgroup_->join_fds({}, with_unified));
  }
  std::vector<int> numbers;
  for (const sys::Fd& fd : joins) numbers.push_back(fd.get());
  const uint64_t count = numbers.size();
  Result<> sent = co_await dialogue.send(env_.loop, init::Tag::kCgroup, count, std::move(numbers));
  co_return sent;
}

Result<> Creation::born(const sys::Child& process) {
  record_.pid = process.pid;
  GANTRY_LET(const sys::ProcStat stat, sys::proc_stat(process.pid));
  record_.start_time = stat.start_time;
  GANTRY_TRY(limit_pids());
  return {};
}

Result<> Creation::write_maps(const sys::Child& process) {
  const Spec& spec = bundle_->spec;
  auto written =
      sys::write_id_maps(process.pid, id_map_lines(spec.uid_mappings), id_map_lines(spec.gid_mappings), false);
  if (!written) return forward(std::move(written), "linux.uidMappings, linux.gidMappings");
  return {};
}

io::Task<Result<>> Creation::run_hooks(init::HookPoint point, const sys::Child& process) {
  const Spec& spec = bundle_->spec;
  // From here on poststop has something to undo (HK-12).
  record_.create_runtime_begun = true;
  GANTRY_CO_TRY(dir_->save(record_));
  if (point == init::HookPoint::kCreateContainer) {
    Result<> ran = co_await run_create_container(env_, spec, record_, process.pidfd);
    co_return ran;
  }
  const std::string state = state_json(record_, Status::kCreating, record_.pid);
  GANTRY_CO_TRY(co_await gantry::run_hooks(env_, "prestart", spec.hooks.prestart, state, record_.bundle));
  Result<> ran = co_await gantry::run_hooks(env_, "createRuntime", spec.hooks.create_runtime, state, record_.bundle);
  co_return ran;
}

io::Task<Result<>> Creation::ready(const sys::Child& process) {
  if (request_.guard != nullptr)
    GANTRY_CO_TRY(co_await request_.guard->secure(process, bundle_->spec.process->terminal));
  record_.phase = Phase::kCommitted;
  record_.namespace_paths = namespace_paths(bundle_->spec, process.pid);
  co_return dir_->save(record_);
}

io::Task<Result<>> Creation::committed(const sys::Child& process, int listener) {
  if (listener < 0) co_return Result<>();
  const std::string state = state_json(record_, Status::kCreating, record_.pid);
  Result<> sent = co_await hand_over_listener(env_.loop, *bundle_->spec.seccomp, process, listener, state);
  co_return sent;
}

io::Task<Result<>> Creation::attempt() {
  GANTRY_CO_TRY(begin_cgroup());
  if (cgroup_paths_.mode == CgroupMode::kV2) GANTRY_CO_TRY(complete_cgroup());
  GANTRY_CO_LET(LaunchRequest request, plan());
  Result<sys::Child> launched = co_await launch(env_, std::move(request), *this);
  if (!launched && cgroup_ && cgroup_->oom_kills() > 0)
    co_return forward(std::move(launched), "container init was OOM-killed (memory limit too low?)");
  if (!launched)
    co_return forward(std::move(launched), "unable to start container process: error during container init");
  init_ = std::move(*launched);
  if (request_.options.pid_file.empty()) co_return Result<>();
  co_return sys::write_pid_file(request_.options.pid_file, init_.pid);
}

io::Task<> Creation::undo() {
  const io::Deadline deadline = io::Deadline::in_ms(kUndoMs);
  if (init_.pidfd) {
    (void)sys::pidfd_signal(init_.pidfd, SIGKILL);
    (void)co_await env_.exits.wait(init_.pid, init_.pidfd.get(), deadline);
  }
  Result<> emptied;
  if (cgroup_) {
    cgroup_->keep_reused();
    const io::Deadline dead = io::Deadline::in_ms(kKillMs);
    emptied = co_await cgroup_->kill_all(env_.loop, SIGKILL, dead);
    if (emptied) emptied = co_await cgroup_->remove(env_.loop, deadline);
    if (emptied) cgroup_->remove_made_parents();
  }
  if (!emptied) {
    // Something that cannot be killed now, in a hung file system: the record is what finds it again (KD-09).
    log_warning(cat("container ", record_.id, " is not undone, use delete --force later: ", emptied.error().text));
    co_return;
  }
  if (record_.create_runtime_begun) co_await run_poststop(env_, bundle_->spec.hooks, record_, record_.bundle);
  if (!dir_) co_return;
  Result<> removed = env_.store.remove(*dir_);
  if (!removed) log_warning(removed.error().text);
}

io::Task<Result<Created>> Creation::run() {
  if (const std::string refusal = check_id(request_.options.id); !refusal.empty()) co_return fail(refusal);
  GANTRY_CO_TRY(read_bundle());
  GANTRY_CO_TRY(co_await dial_sockets());
  Result<> made = claim();
  if (made) made = co_await attempt();
  if (!made) {
    io::Task<> undoing = undo();
    co_await io::shield(std::move(undoing));
    co_return forward(std::move(made));
  }
  Created created{std::move(*dir_), std::move(record_), std::move(bundle_->spec), std::move(init_)};
  co_return created;
}

}  // namespace

io::Task<Result<Created>> create_container(Env& env, CreateRequest request) {
  Creation creation(env, std::move(request));
  Result<Created> created = co_await creation.run();
  co_return created;
}

io::Task<Result<sys::Fd>> dial(io::Loop& loop, std::string path) {
  const io::Deadline deadline = io::Deadline::in_ms(kDialMs);
  Result<sys::Fd> socket = co_await io::connect_unix(loop, path, deadline);
  if (socket) co_return socket;
  co_return fail(cat("dial unix ", path, ": connect: ", errno_text(socket.error().sys_errno)));
}

std::string id_map_lines(const std::vector<IdMapping>& mappings) {
  std::string lines;
  for (const IdMapping& map : mappings) lines += cat(map.container_id, " ", map.host_id, " ", map.size, "\n");
  return lines;
}

}  // namespace gantry
