// Verbs on containers that may belong to a supervisor (design §5): it is asked; if it is dead, the work is done here,
// and the definition is marked first, so that no later supervisor undoes it. Containers of nobody take the usual way.
#pragma once

#include <string>

#include "engine/supervisor/client.h"
#include "engine/verbs.h"

namespace gantry {

/// kill(), pause(), resume() and remove() of verbs.h for containers of anybody.
io::Task<Result<>> owned_kill(Env& env, std::string id, int signo, bool all);
io::Task<Result<>> owned_pause(Env& env, std::string id);
io::Task<Result<>> owned_resume(Env& env, std::string id);
/// Removes the definition and the log, too.
io::Task<Result<>> owned_remove(Env& env, std::string id, bool force);

/// The supervisor of a container, and where its definition is.
struct SupervisedPlace {
  SupervisorAddress address;
  std::string state_dir;
};

/// What the container's record says, or `otherwise` for what is not in it.
SupervisedPlace place_of(const StateStore& states, const std::string& id, SupervisedPlace otherwise);

/// `stop`: asks the supervisor, or if none is there does what it would do: the stop signal, SIGKILL after
/// `grace_seconds`, and no restart.
io::Task<Result<>> stop_anyhow(Env& env, SupervisedPlace place, std::string id, unsigned grace_seconds);

/// `rm`: the same for removal. `force`: an unknown id is fine.
io::Task<Result<>> remove_anyhow(Env& env, SupervisedPlace place, std::string id, bool force, bool keep_log);

}  // namespace gantry
