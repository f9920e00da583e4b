// The service manager that has started the keeper (sd_notify(3)): fixed words, in the keeper's name.
#include "sys/init/context.h"
#include "sys/init/keeper_parts.h"
#include "sys/init/message.h"

namespace gantry::init {
namespace {

bool has_manager = false;

}  // namespace

void open_manager() {
  constexpr int kGetFd = 1;
  has_manager = call(__NR_fcntl, kKeeperNotifyFd, kGetFd, 0) >= 0;
}

void tell_manager(KeeperNotify what, int64_t at) {
  static const char* const texts[] = {"READY=1", "RELOADING=1\nMONOTONIC_USEC=", "STOPPING=1", "WATCHDOG=1"};
  if (!has_manager) return;
  Text<64> text(texts[static_cast<uint32_t>(what)]);
  if (what == KeeperNotify::kReloading) text.add_number(static_cast<uint64_t>(at / 1000));
  send_parts(kKeeperNotifyFd, text.get(), text.size(), nullptr, 0, kMsgDontwait);
}

}  // namespace gantry::init
