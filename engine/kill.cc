#include <csignal>

#include "engine/load.h"
#include "sys/proc.h"

namespace gantry {
namespace {

constexpr int64_t kKillLimitMs = 10'000;

io::Task<Result<>> kill_cgroup(Env& env, const Loaded& container, int signo) {
  GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
  const io::Deadline deadline = io::Deadline::in_ms(kKillLimitMs);
  Result<> killed = co_await cgroup.kill_all(env.loop, signo, deadline);
  co_return killed;
}

bool is_empty(const Loaded& container) {
  const auto cgroup = recorded_cgroup(container);
  if (!cgroup) return true;
  const auto empty = cgroup->empty();
  return empty && *empty;
}

/// KD-06: on v1 a frozen process does not die before it is thawed.
io::Task<Result<>> thaw_for_kill(Env& env, const Loaded& container) {
  GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
  if (cgroup.mode() == CgroupMode::kV2) co_return Result<>();
  const io::Deadline deadline = io::Deadline::in_ms(kKillLimitMs);
  Result<> thawed = co_await cgroup.thaw(env.loop, deadline);
  co_return thawed;
}

}  // namespace

io::Task<Result<>> kill(Env& env, std::string id, int signo, bool all) {
  GANTRY_CO_LET(Loaded container, load_container(env, id));
  const bool stopped = !permits(container.status, Verb::kKill);
  // Without a pid namespace of its own the container's processes outlive init (KD-05).
  const bool whole = all || (signo == SIGKILL && !container.record.private_pid_ns);
  if (whole && container.health == RecordHealth::kGood && (all || !stopped || !is_empty(container))) {
    Result<> killed = co_await kill_cgroup(env, container, signo);
    co_return killed;
  }
  if (stopped) co_return not_permitted(container, Verb::kKill);
  Result<> sent = sys::pidfd_signal(container.pidfd, signo);
  if (!sent && sent.error().sys_errno == ESRCH) co_return not_permitted(container, Verb::kKill);
  if (!sent) co_return fail_errno(sent.error().sys_errno, "unable to signal init");
  if (signo == SIGKILL && container.status == Status::kPaused) {
    Result<> thawed = co_await thaw_for_kill(env, container);
    co_return thawed;
  }
  co_return Result<>();
}

}  // namespace gantry
