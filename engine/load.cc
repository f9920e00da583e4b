#include "engine/load.h"

#include "engine/spec_parse.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kLockLimitMs = 10'000;

/// A record that says "intent": its creator is at work, or dead.
Status intent_status(Loaded& container) {
  // Asked on a description of its own, so that a lock held through `container.dir` itself counts as somebody's.
  auto probe = sys::pidfd_open_checked(container.record.pid, container.record.start_time);
  const auto free = container.dir.try_lock();
  if (free && *free) return Status::kStopped;
  if (probe) container.pidfd = std::move(*probe);
  return Status::kCreating;
}

bool is_frozen(const Loaded& container) {
  const auto cgroup = recorded_cgroup(container);
  if (!cgroup) return false;
  const auto frozen = cgroup->frozen();
  return frozen && *frozen;
}

}  // namespace

Result<Cgroup> recorded_cgroup(const Loaded& container) {
  const ContainerRecord& record = container.record;
  CgroupPaths paths;
  GANTRY_LET(paths.mode, parse_cgroup_mode(record.cgroup_mode));
  paths.dirs = record.cgroup_paths;
  GANTRY_LET(Cgroup cgroup, Cgroup::open(paths));
  if (container.health != RecordHealth::kGood || record.phase != Phase::kCommitted)
    cgroup.forget_unclaimed(container.dir.claims());
  return cgroup;
}

void recall_cgroups(const StateDir& dir, ContainerRecord& record) {
  const auto config = dir.load_config();
  if (!config) return;
  const auto spec = parse_spec(*config);
  const auto host = probe_cgroup_host();
  if (!spec || !host) return;
  const std::string instead = dir.load_cgroups_path();
  const auto paths = resolve_cgroup(*host, instead.empty() ? spec->cgroups_path : instead, dir.id());
  if (!paths) return;
  record.cgroup_mode = cgroup_mode_name(paths->mode);
  record.cgroup_paths = paths->dirs;
}

Result<> refresh_status(Loaded& container) {
  container.status = Status::kStopped;
  if (container.health != RecordHealth::kGood) return {};
  if (container.record.phase == Phase::kIntent) {
    container.status = intent_status(container);
    return {};
  }
  auto pidfd = sys::pidfd_open_checked(container.record.pid, container.record.start_time);
  if (!pidfd && is_shortage(pidfd.error())) return forward(std::move(pidfd), container.record.id);
  if (!pidfd) return {};
  container.pidfd = std::move(*pidfd);
  if (is_frozen(container)) {
    container.status = Status::kPaused;
  } else if (container.dir.has_start_fifo() && sys::runs_init_image(container.record.pid)) {
    container.status = Status::kCreated;
  } else {
    container.status = Status::kRunning;
  }
  return {};
}

namespace {

Result<Loaded> load_from(StateDir dir) {
  auto loaded = dir.load();
  if (!loaded) {
    if (loaded.error().sys_errno == ENOENT) return std::unexpected(Error{"container does not exist", ENOENT});
    return forward(std::move(loaded));
  }
  Loaded container{std::move(dir), std::move(loaded->record), loaded->health, Status::kStopped, sys::Fd()};
  if (container.health != RecordHealth::kGood) recall_cgroups(container.dir, container.record);
  GANTRY_TRY(refresh_status(container));
  return container;
}

}  // namespace

Result<Loaded> load_container(const Env& env, const std::string& id) {
  if (const std::string refusal = check_id(id); !refusal.empty()) return fail(refusal);
  GANTRY_LET(StateDir dir, env.store.open(id));
  return load_from(std::move(dir));
}

io::Task<Result<Loaded>> load_locked(Env& env, std::string id) {
  if (const std::string refusal = check_id(id); !refusal.empty()) co_return fail(refusal);
  const io::Deadline deadline = io::Deadline::in_ms(kLockLimitMs);
  std::chrono::milliseconds pause(1);
  for (;;) {
    GANTRY_CO_LET(StateDir dir, env.store.open(id));
    GANTRY_CO_LET(const bool mine, dir.try_lock());
    if (mine) co_return load_from(std::move(dir));
    if (deadline.expired())
      co_return fail(
          cat("container ", id, " is busy: another command on it has not finished within ", kLockLimitMs / 1000, " s"));
    const io::Wake wake = co_await io::sleep_for(env.loop, pause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for the container's lock");
    if (pause < std::chrono::milliseconds(50)) pause *= 2;
  }
}

Result<Spec> recorded_spec(const Loaded& container) {
  GANTRY_LET(const std::string config, container.dir.load_config());
  return parse_spec(config);
}

std::unexpected<Error> not_permitted(const Loaded& container, Verb verb) {
  switch (verb) {
    case Verb::kStart:
      if (container.status == Status::kStopped) return fail("cannot start a container that has stopped");
      if (container.status == Status::kRunning) return fail("cannot start an already running container");
      return fail(cat("cannot start a container in the ", status_name(container.status), " state"));
    case Verb::kExec:
      if (container.status == Status::kPaused)
        return fail("cannot exec in a paused container (use --ignore-paused to override)");
      return fail(cat("cannot exec in a ", status_name(container.status), " container"));
    case Verb::kDelete:
      return fail(cat("cannot delete container ", container.record.id,
                      " that is not stopped: ", status_name(container.status)));
    case Verb::kResume:
      return fail("container not paused");
    default:
      return fail("container not running");
  }
}

}  // namespace gantry
