#include "engine/hooks.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <csignal>
#include <cstring>

#include "engine/json_write.h"
#include "engine/launch.h"
#include "engine/plan_build.h"
#include "engine/spec_template.h"
#include "io/scope.h"
#include "io/stream.h"
#include "io/timer.h"
#include "sys/pipe.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr size_t kMaxOutput = 64 * 1024;
// How long output may still come after the hook's own end, when something it left behind holds the pipe.
constexpr int64_t kDrainMs = 100;
constexpr int64_t kReapLimitMs = 10'000;
constexpr std::string_view kCutShort = "cut short, and no further hooks are run";

/// Collects one stream up to kMaxOutput and drops the rest, until EOF or cancellation.
io::Task<> collect(io::Loop& loop, int fd, std::string& into) {
  std::array<std::byte, 4096> chunk;
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    const std::span<std::byte> buffer(chunk);
    Result<size_t> got = co_await io::read_some(loop, fd, buffer, never);
    if (!got || *got == 0) co_return;
    const size_t room = kMaxOutput - into.size();
    into.append(reinterpret_cast<const char*>(chunk.data()), std::min(*got, room));
  }
}

/// What the environment of this process is, for hooks without one of their own (HK-10); never what LISTEN_FDS and
/// NOTIFY_SOCKET say, which are for the container (EN-04).
std::vector<std::string> runtime_env() {
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (text.starts_with("LISTEN_") || text.starts_with("NOTIFY_SOCKET=")) continue;
    env.emplace_back(text);
  }
  return env;
}

struct HookRun {
  const Hook& hook;
  std::string state;
  HookContext context;
  int target = -1;  ///< init's pidfd for createContainer
};

std::string outcome_text(const ExitStatus& status, const std::string& out, const std::string& err) {
  std::string text = status.signal != 0 ? cat("signal: ", std::string_view(::sigdescr_np(status.signal)))
                                        : cat("exit status ", status.code);
  if (status.signal != 0 && text.size() > 8) text[8] = static_cast<char>(std::tolower(text[8]));
  return text.append(", stdout: ").append(out).append(", stderr: ").append(err);
}

/// Waits for the hook within its timeout, then for the rest of its output.
io::Task<Result<>> await_hook(Env& env, const Hook& hook, const sys::Child& process, sys::Pipe& out, sys::Pipe& err) {
  std::string out_text, err_text;
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope readers(env.loop, inherited);
  readers.spawn(collect(env.loop, out.read.get(), out_text));
  readers.spawn(collect(env.loop, err.read.get(), err_text));
  const io::Deadline deadline =
      hook.timeout_seconds ? io::Deadline::in_ms(int64_t{*hook.timeout_seconds} * 1000) : io::Deadline::never();
  Result<ExitStatus> status = co_await env.exits.wait(process.pid, process.pidfd.get(), deadline);
  if (!status) {
    // The whole group: a shell's children would go on otherwise. It is a session of its own, so nobody else is in it.
    ::kill(-process.pid, SIGKILL);
    (void)sys::pidfd_signal(process.pidfd, SIGKILL);
    const io::Deadline limit = io::Deadline::in_ms(kReapLimitMs);
    io::Task<Result<ExitStatus>> reaping = env.exits.wait(process.pid, process.pidfd.get(), limit);
    (void)co_await io::shield(std::move(reaping));
    (void)co_await readers.cancel_and_join();
    if (!io::is_timeout(status.error())) co_return forward(std::move(status));
    co_return fail(cat("hook ran past specified timeout of ", *hook.timeout_seconds, ".0s"));
  }
  const io::Deadline drain = io::Deadline::in_ms(kDrainMs);
  (void)co_await io::with_deadline(env.loop, readers.join(), drain);
  (void)co_await readers.cancel_and_join();
  if (status->shell() != 0) co_return fail(outcome_text(*status, out_text, err_text));
  co_return Result<>();
}

/// The launcher becomes the hook itself: what it cannot execute comes as an error frame, else EOF.
io::Task<Result<sys::Child>> launch_in_place(Env& env, LaunchRequest request) {
  GANTRY_CO_LET(const sys::Fd plan, memfd_with("gantry-plan", request.plan));
  GANTRY_CO_LET(Dialogue dialogue, Dialogue::open(std::move(request.plan)));
  sys::SpawnFds fds;
  fds.stdio = request.stdio;
  fds.sync = dialogue.child_end();
  fds.plan = plan.get();
  fds.slots = std::move(request.slots);
  GANTRY_CO_LET(sys::Child child, co_await env.spawner.spawn(fds));
  GANTRY_CO_TRY(co_await env.spawner.executed(fds, child));
  dialogue.close_child_end();
  const io::Deadline deadline = io::Deadline::in_ms(kReapLimitMs);
  Result<SyncEvent> event = co_await dialogue.next(env.loop, deadline);
  sys::Child process{child.pid, std::move(child.pidfd)};
  if (!event && event.error().sys_errno == ECONNRESET) co_return process;  // EOF: executed
  (void)sys::pidfd_signal(process.pidfd, SIGKILL);
  io::Task<Result<ExitStatus>> reaping = env.exits.wait(process.pid, process.pidfd.get(), deadline);
  (void)co_await io::shield(std::move(reaping));
  if (event) co_return fail("sync protocol: a hook said something");
  co_return forward(std::move(event));
}

io::Task<Result<>> run_hook(Env& env, HookRun run) {
  GANTRY_CO_LET(std::string plan, build_hook_plan(run.hook, run.context));
  GANTRY_CO_LET(const sys::Fd state, memfd_with("gantry-state", run.state));
  GANTRY_CO_LET(sys::Pipe out, sys::Pipe::open());
  GANTRY_CO_LET(sys::Pipe err, sys::Pipe::open());
  LaunchRequest request;
  request.plan = std::move(plan);
  request.stdio = {state.get(), out.write.get(), err.write.get()};
  Result<sys::Child> process = fail("");
  if (run.target >= 0) {
    request.slots.push_back(run.target);
    LaunchHandler quiet;
    process = co_await launch(env, std::move(request), quiet);
  } else {
    process = co_await launch_in_place(env, std::move(request));
  }
  out.write.reset();
  err.write.reset();
  if (!process) {
    // Go's words for a program that could not be started.
    const int sys_errno = process.error().sys_errno;
    if (sys_errno != 0) co_return fail_path(sys_errno, "fork/exec", run.hook.path);
    co_return forward(std::move(process));
  }
  Result<> ended = co_await await_hook(env, run.hook, *process, out, err);
  co_return ended;
}

std::string hook_prefix(std::string_view kind, size_t index) {
  return cat("error running ", kind, " hook #", index);
}

}  // namespace

std::string state_json(const ContainerRecord& record, Status status, pid_t pid) {
  json::Writer out;
  out.begin_object();
  out.member("ociVersion", kSpecVersion).member("id", record.id).member("status", status_name(status));
  if (pid != 0) out.member("pid", static_cast<int64_t>(pid));
  out.member("bundle", record.bundle);
  if (!record.annotations.empty()) {
    out.key("annotations").begin_object();
    for (const auto& [key, value] : record.annotations) out.member(key, value);
    out.end_object();
  }
  out.end_object();
  return out.take();
}

io::Task<Result<>> run_hooks(Env& env, std::string_view kind, const std::vector<Hook>& hooks, std::string state,
                             std::string cwd) {
  for (size_t index = 0; index < hooks.size(); ++index) {
    HookRun run{hooks[index], state, HookContext(), -1};
    run.context.label = cat("hooks.", kind, "[", index, "] ", hooks[index].path);
    run.context.cwd = cwd;
    run.context.default_env = runtime_env();
    Result<> ran = co_await run_hook(env, std::move(run));
    if (!ran) co_return forward(std::move(ran), hook_prefix(kind, index));
  }
  co_return Result<>();
}

io::Task<Result<>> run_create_container(Env& env, const Spec& spec, const ContainerRecord& record,
                                        const sys::Fd& init_pidfd) {
  const std::vector<Hook>& hooks = spec.hooks.create_container;
  // The pid as the container sees it: init of its own pid namespace, else the host's (HK-04).
  const pid_t seen = record.private_pid_ns ? 1 : record.pid;
  const std::string state = state_json(record, Status::kCreating, seen);
  for (size_t index = 0; index < hooks.size(); ++index) {
    HookRun run{hooks[index], state, HookContext(), init_pidfd.get()};
    run.context.label = cat("hooks.createContainer[", index, "] ", hooks[index].path);
    run.context.cwd = record.bundle;
    run.context.target_slot = 0;
    run.context.target_flags = container_namespaces(spec);
    run.context.slot_count = 1;
    Result<> ran = co_await run_hook(env, std::move(run));
    if (!ran) co_return forward(std::move(ran), hook_prefix("createContainer", index));
  }
  co_return Result<>();
}

io::Task<Result<>> run_poststart(Env& env, const Hooks& hooks, const ContainerRecord& record,
                                 const sys::Fd& init_pidfd) {
  if (hooks.poststart.empty()) co_return Result<>();
  std::string state = state_json(record, Status::kRunning, record.pid);
  Result<> ran = co_await run_hooks(env, "poststart", hooks.poststart, std::move(state), record.bundle);
  if (!ran) (void)sys::pidfd_signal(init_pidfd, SIGKILL);
  co_return ran;
}

namespace {

io::Task<> run_poststop_hooks(Env& env, const std::vector<Hook>& hooks, const ContainerRecord& record,
                              std::string cwd) {
  const std::string state = state_json(record, Status::kStopped, 0);
  const std::string whose = env.poststop == nullptr ? std::string() : cat("container ", record.id, ": ");
  for (size_t index = 0; index < hooks.size(); ++index) {
    HookRun run{hooks[index], state, HookContext(), -1};
    run.context.label = cat("hooks.poststop[", index, "] ", hooks[index].path);
    run.context.cwd = cwd;
    run.context.default_env = runtime_env();
    Result<> ran = co_await run_hook(env, std::move(run));
    if (ran) continue;
    const bool cut_short = io::is_cancelled(ran.error());
    log_warning(
        cat(whose, hook_prefix("poststop", index), ": ", cut_short ? kCutShort : std::string_view(ran.error().text)));
    if (cut_short) co_return;
  }
}

/// One container's hooks, as others see them.
class RunningHooks {
 public:
  explicit RunningHooks(PoststopHooks& all) : all_(all) {
    ++all_.running;
    all_.idle.reset();
  }
  ~RunningHooks() {
    if (--all_.running == 0) all_.idle.set();
  }
  RunningHooks(const RunningHooks&) = delete;
  RunningHooks& operator=(const RunningHooks&) = delete;

 private:
  PoststopHooks& all_;
};

}  // namespace

io::Task<> run_poststop(Env& env, const Hooks& hooks, const ContainerRecord& record, std::string cwd) {
  if (hooks.poststop.empty()) co_return;
  io::Task<> running = run_poststop_hooks(env, hooks.poststop, record, std::move(cwd));
  if (env.poststop == nullptr) {
    co_await io::shield(std::move(running));
    co_return;
  }
  const RunningHooks counted(*env.poststop);
  io::Task<> bounded = io::with_cancel(std::move(running), env.poststop->over);
  co_await std::move(bounded);
}

}  // namespace gantry
