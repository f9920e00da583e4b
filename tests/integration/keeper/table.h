// The keeper's table as the supervisor of the test sees it.
#pragma once

#include <cstddef>

#include "engine/json_write.h"
#include "sys/init/keeper.h"
#include "sys/result.h"

namespace gantry::puppet {

/// kSupervisorTableFd, mapped read-only.
class Table {
 public:
  static Result<Table> open();

  const init::KeeperTable& head() const { return *head_; }
  const init::KeeperSlot& slot(uint32_t index) const { return init::keeper_slots(head_)[index]; }
  /// {"starts", …, "slots": [{…} of every slot in use]}
  void describe(json::Writer& out) const;

 private:
  explicit Table(const init::KeeperTable* head) : head_(head) {}
  const init::KeeperTable* head_;
};

}  // namespace gantry::puppet
