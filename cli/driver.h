// What a command needs from the engine: one container, one process, one loop.
#pragma once

#include "cli/command.h"
#include "engine/one_shot.h"

namespace gantry::cli {

/// The engine for one call of a command.
struct Driver : OneShot {
  explicit Driver(const Globals& globals)
      : OneShot(globals.root, globals.root_explicit, globals.program, globals.inherited_fds) {}
};

/// An error in a command's values: runc loads the container first, so its absence is what callers hear about.
inline Error unless_absent(Driver& driver, const std::string& id, Error error) {
  auto view = state(driver.env(), id);
  return view ? std::move(error) : std::move(view).error();
}

}  // namespace gantry::cli
