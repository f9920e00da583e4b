// The namespaces and first steps that most cases begin with.
#pragma once

#include <sched.h>

#include <string>

#include "rig.h"

namespace gantry::rules {

inline constexpr uint64_t kUsual = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET;

inline void usual_start(Rig& rig) {
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kLoopback);
}

/// Everything up to the bound rootfs and its /proc.
void begin_rootfs(Rig& rig, bool with_proc = true);

/// Runs `script` in the container and returns its output; it must succeed.
std::string run_script(Rig& rig, const std::string& script);

/// The text, and the errno's name behind it, of the error with which setting up ends.
std::string first_error(Rig& rig);

/// Makes `path` a link to `target`, whatever it was.
void relink(const std::string& target, const std::string& path);

}  // namespace gantry::rules
