#include "engine/lifecycle.h"

#include <array>

namespace gantry {

std::string_view status_name(Status status) {
  constexpr std::array<std::string_view, 5> names{"creating", "created", "running", "paused", "stopped"};
  return names[static_cast<size_t>(status)];
}

bool permits(Status status, Verb verb) {
  // One row per status (creating, created, running, paused, stopped), one column per Verb in declaration order.
  constexpr bool table[5][7] = {
      //  start  exec   kill   delete pause  resume update
      {false, false, true, false, false, false, false},  // creating
      {true, true, true, true, true, false, true},       // created
      {false, true, true, false, true, false, true},     // running
      {false, false, true, false, false, true, true},    // paused
      {false, false, false, true, false, false, false},  // stopped
  };
  return table[static_cast<size_t>(status)][static_cast<size_t>(verb)];
}

}  // namespace gantry
