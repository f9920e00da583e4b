// The work of `delete`, shared with `run`.
#pragma once

#include "engine/load.h"

namespace gantry {

/// Kills what is left, removes cgroups and state, runs poststop hooks in `hook_cwd` (empty: the caller's). `spec`: the
/// config if it is at hand, else the frozen one is read. The container's lock must be held.
io::Task<Result<>> remove_loaded(Env& env, Loaded& container, const Spec* spec, std::string hook_cwd);

}  // namespace gantry
