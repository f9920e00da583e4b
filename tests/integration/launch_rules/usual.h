// The namespaces and first steps that most cases begin with.
#pragma once

#include <sched.h>

#include "rig.h"

namespace gantry::rules {

inline constexpr uint64_t kUsual = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

inline void usual_start(Rig& rig) {
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kLoopback);
}

}  // namespace gantry::rules
