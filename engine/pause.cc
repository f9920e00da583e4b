#include "engine/load.h"

namespace gantry {
namespace {

constexpr int64_t kFreezeLimitMs = 10'000;

}  // namespace

io::Task<Result<>> pause(Env& env, std::string id) {
  GANTRY_CO_LET(Loaded container, co_await load_locked(env, std::move(id)));
  if (!permits(container.status, Verb::kPause)) co_return not_permitted(container, Verb::kPause);
  GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
  const io::Deadline deadline = io::Deadline::in_ms(kFreezeLimitMs);
  Result<> frozen = co_await cgroup.freeze(env.loop, deadline);
  co_return frozen;
}

io::Task<Result<>> resume(Env& env, std::string id) {
  GANTRY_CO_LET(Loaded container, co_await load_locked(env, std::move(id)));
  if (!permits(container.status, Verb::kResume)) co_return not_permitted(container, Verb::kResume);
  GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
  const io::Deadline deadline = io::Deadline::in_ms(kFreezeLimitMs);
  Result<> thawed = co_await cgroup.thaw(env.loop, deadline);
  co_return thawed;
}

}  // namespace gantry
