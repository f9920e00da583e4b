// The driver of a single command: gantry is the parent of what it starts, and nothing else is running.
#pragma once

#include <string>

#include "engine/spawner.h"
#include "engine/state_store.h"
#include "engine/verbs.h"
#include "io/loop.h"

namespace gantry {

/// How many of the descriptors 3, 4, ... are open. To be called before anything is opened: our own would count.
unsigned count_inherited_fds();

/// Owns what a verb needs. Construct after count_inherited_fds().
class OneShot {
 public:
  OneShot(std::string root, bool explicit_root, std::string program, unsigned inherited_fds)
      : store_(std::move(root), explicit_root),
        spawner_(loop_),
        exits_(loop_),
        env_{loop_, store_, spawner_, exits_, std::move(program), inherited_fds} {}

  Env& env() { return env_; }
  io::Loop& loop() { return loop_; }

 private:
  io::Loop loop_;
  StateStore store_;
  LocalSpawner spawner_;
  LocalExits exits_;
  Env env_;
};

}  // namespace gantry
