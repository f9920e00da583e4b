// What the supervisor gives up: it starts nothing, mounts nothing and enters nothing itself, the keeper does. A flaw in
// one of its parsers should not be able to, either.
#pragma once

#include "sys/result.h"

namespace gantry {

/// Loads a filter that refuses (EPERM) to execute, clone (but for a plain fork), mount, enter namespaces, trace, load
/// modules and the like. The keeper, the launchers and the containers never have it: they are not our children.
Result<> confine_supervisor();

}  // namespace gantry
