#include "engine/remove.h"

#include <csignal>
#include <optional>

#include "engine/hooks.h"
#include "engine/load.h"
#include "io/watch.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kDeathLimitMs = 10'000;
constexpr int64_t kQuickDeathMs = 200;
constexpr int64_t kQuickRemoveMs = 500;

/// KD-07, KD-08: init dies, frozen or not, and is waited for.
io::Task<Result<>> end_init(Env& env, Loaded& container) {
  if (!container.pidfd) co_return Result<>();
  (void)sys::pidfd_signal(container.pidfd, SIGKILL);
  io::Wake wake = io::Wake::kTimeout;
  if (container.status != Status::kPaused) {
    const io::Deadline soon = io::Deadline::in_ms(kQuickDeathMs);
    wake = co_await io::wait_pidfd(env.loop, container.pidfd.get(), soon);
  }
  const io::Deadline deadline = io::Deadline::in_ms(kDeathLimitMs);
  if (wake == io::Wake::kTimeout) {
    // On v1 nothing frozen dies, and the freezer may be one that the container has made below its own.
    GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
    Result<> killed = co_await cgroup.kill_all(env.loop, SIGKILL, deadline);
    if (!killed) log_warning(killed.error().text);
    wake = co_await io::wait_pidfd(env.loop, container.pidfd.get(), deadline);
  }
  if (wake == io::Wake::kReady) co_return Result<>();
  co_return fail(cat("container init still running: pid ", container.record.pid, " ignores SIGKILL (see /proc/",
                     container.record.pid, "/stack)"));
}

/// Whatever is left in the cgroup dies, and the cgroup goes. A record without usable paths names none.
io::Task<Result<>> end_cgroup(Env& env, const Loaded& container) {
  const ContainerRecord& record = container.record;
  if (record.cgroup_paths.empty()) co_return Result<>();
  GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
  if (container.health == RecordHealth::kGood && record.private_pid_ns && record.phase == Phase::kCommitted) {
    // All of a pid namespace dies with its init: usually there is nothing left to kill, and nothing to look for.
    const io::Deadline soon = io::Deadline::in_ms(kQuickRemoveMs);
    Result<> removed = co_await cgroup.remove(env.loop, soon);
    if (removed) co_return removed;
  }
  // The cgroup as truth: also what a half-made or crashed container left, and what outlived init (KD-10).
  const io::Deadline deadline = io::Deadline::in_ms(kDeathLimitMs);
  GANTRY_CO_TRY(co_await cgroup.kill_all(env.loop, SIGKILL, deadline));
  Result<> removed = co_await cgroup.remove(env.loop, deadline);
  co_return removed;
}

/// A directory without state.json: half-made, and removed in any case with what it may have started (KD-09).
io::Task<Result<>> remove_half_made(Env& env, std::string id) {
  GANTRY_CO_LET(StateDir dir, env.store.open(id));
  GANTRY_CO_LET(const bool mine, dir.try_lock());
  if (!mine) co_return fail(cat("container ", id, " is being created"));
  // Nobody had the lock for a moment: by now it may be whole, or another one. Then there was none when we looked.
  const auto record = dir.load();
  if (record || record.error().sys_errno != ENOENT) co_return Result<>();
  Loaded remains{std::move(dir), ContainerRecord(), RecordHealth::kCrashed, Status::kStopped, sys::Fd()};
  recall_cgroups(remains.dir, remains.record);
  GANTRY_CO_TRY(co_await end_cgroup(env, remains));
  co_return env.store.remove(remains.dir);
}

/// A damaged record is no permission to kill: that wants --force.
Result<> check_remains(const Loaded& container) {
  if (container.health == RecordHealth::kGood || container.record.cgroup_paths.empty()) return {};
  GANTRY_LET(const Cgroup cgroup, recorded_cgroup(container));
  const auto empty = cgroup.empty();
  if (empty && *empty) return {};
  return fail(cat("cannot delete container ", container.record.id,
                  ": its state.json is damaged and processes are left in its cgroup; use --force"));
}

}  // namespace

io::Task<Result<>> remove_loaded(Env& env, Loaded& container, const Spec* spec, std::string hook_cwd) {
  GANTRY_CO_TRY(co_await end_init(env, container));
  GANTRY_CO_TRY(co_await end_cgroup(env, container));
  std::optional<Spec> frozen;
  if (spec == nullptr) {
    Result<Spec> read = recorded_spec(container);
    if (read) spec = &frozen.emplace(std::move(*read));
  }
  GANTRY_CO_TRY(env.store.remove(container.dir));
  const bool hooks_due = container.record.phase == Phase::kCommitted || container.record.create_runtime_begun;
  if (spec != nullptr && hooks_due) co_await run_poststop(env, spec->hooks, container.record, std::move(hook_cwd));
  co_return Result<>();
}

io::Task<Result<>> remove(Env& env, std::string id, bool force) {
  Result<Loaded> container = co_await load_locked(env, id);
  if (!container) {
    if (container.error().sys_errno != ENOENT) co_return forward(std::move(container));
    Result<> swept = co_await remove_half_made(env, id);
    if (!swept && swept.error().sys_errno != ENOENT) co_return swept;
    if (force) co_return Result<>();
    co_return forward(std::move(container));
  }
  if (!force && !permits(container->status, Verb::kDelete)) co_return not_permitted(*container, Verb::kDelete);
  if (!force) GANTRY_CO_TRY(check_remains(*container));
  const std::string hook_cwd;  // the caller's directory: what runc does for delete (HK-02)
  Result<> removed = co_await remove_loaded(env, *container, nullptr, hook_cwd);
  co_return removed;
}

}  // namespace gantry
