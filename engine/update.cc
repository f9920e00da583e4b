#include "engine/load.h"

namespace gantry {

io::Task<Result<>> update(Env& env, std::string id, Resources resources) {
  GANTRY_CO_LET(Loaded container, co_await load_locked(env, std::move(id)));
  if (!permits(container.status, Verb::kUpdate)) co_return not_permitted(container, Verb::kUpdate);
  GANTRY_CO_LET(Cgroup cgroup, recorded_cgroup(container));
  std::vector<std::string> warnings;
  Result<> updated = cgroup.update(resources, warnings);
  for (const std::string& warning : warnings) log_warning(warning);
  co_return updated;
}

}  // namespace gantry
