#include "tests/integration/keeper/table.h"

#include <sys/mman.h>
#include <sys/stat.h>

namespace gantry::puppet {

Result<Table> Table::open() {
  struct stat object{};
  if (::fstat(init::kSupervisorTableFd, &object) < 0) return fail_errno(errno, "fstat of the table");
  const auto size = static_cast<size_t>(object.st_size);
  void* const at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, init::kSupervisorTableFd, 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap of the table");
  if (const char* const wrong = init::check_keeper_table(at, size)) return fail(wrong);
  return Table(static_cast<const init::KeeperTable*>(at));
}

void Table::describe(json::Writer& out) const {
  out.begin_object();
  out.member("slot_count", head().slot_count).member("used", head().used).member("starts", head().starts);
  out.member("keeper", head().keeper_pid).member("supervisor", head().supervisor_pid);
  out.member("crashes", head().crashes).member("last_code", head().last_code);
  out.member("last_signal", head().last_signal);
  out.key("slots").begin_array();
  for (uint32_t i = 0; i < head().used; ++i) {
    const init::KeeperSlot& each = slot(i);
    if (each.state == init::SlotState::kFree) continue;
    out.begin_object().member("slot", i).member("state", static_cast<uint32_t>(each.state));
    out.member("kind", each.kind).member("owner", each.owner).member("pid", each.pid);
    out.member("foreign", (each.flags & init::kSlotForeign) != 0);
    out.member("unknown", (each.flags & init::kSlotExitUnknown) != 0);
    out.member("code", each.code).member("signal", each.signal).member("time", each.time);
    out.list("fds", each.fds);
    out.end_object();
  }
  out.end_array().end_object();
}

}  // namespace gantry::puppet
