// Which descriptors a launcher gets, and as which slots of its Plan.
#pragma once

#include <vector>

#include "engine/plan_build.h"
#include "engine/verbs.h"

namespace gantry {

/// Collects slots. The descriptors are borrowed.
class SlotTable {
 public:
  /// The slot of `fd`, or kNoSlot for -1.
  int add(int fd) {
    if (fd < 0) return init::kNoSlot;
    fds_.push_back(fd);
    return static_cast<int>(fds_.size()) - 1;
  }

  /// Socket-activation fds and those of --preserve-fds, numbers 3 and up of this process (CR-07, EN-01..03): fills
  /// first_preserved and preserved_count, and LISTEN_FDS and LISTEN_PID for the program.
  Result<> add_inherited(const Env& env, unsigned preserve_fds, bool socket_activation, PlanContext& context);

  const std::vector<int>& fds() const { return fds_; }
  int count() const { return static_cast<int>(fds_.size()); }

 private:
  std::vector<int> fds_;
};

/// LISTEN_FDS of this process if LISTEN_PID names it, else 0 (EN-01).
unsigned listen_fds();

}  // namespace gantry
