// How a process becomes the keeper: `gantry supervise`, or an orphaned supervisor that hands over what it has.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "sys/fd.h"
#include "sys/init/keeper.h"
#include "sys/result.h"

namespace gantry {

/// A slot that the keeper has from its first moment.
struct KeptSlot {
  uint32_t slot = 0;
  uint32_t kind = 0;
  uint64_t owner = 0;
  pid_t pid = 0;                                          ///< 0: none
  std::array<int, init::kKeeperFds> fds{-1, -1, -1, -1};  ///< numbers in this process, -1: none
};

struct KeeperOptions {
  std::string program;            ///< absolute path of gantry, executed at every start of the supervisor
  std::vector<std::string> args;  ///< with args[0]
  std::vector<std::string> env;   ///< "NAME=value"
  uint32_t slot_count = 16384;    ///< of a new table
  uint64_t nofile = 0;  ///< RLIMIT_NOFILE wanted for keeper and supervisor, as far as it can be had; 0: the hard limit
  uint64_t nofile_soft = 0, nofile_hard = 0;  ///< what launchers get; 0, 0: this process' limits
  std::string notify_socket;                  ///< NOTIFY_SOCKET ("/path" or "@name"); empty: none
  sys::Fd table;                ///< a table of a former keeper, to be taken over; invalid: a new one is made
  std::vector<KeptSlot> slots;  ///< of a new table: what it starts with; of an old one: every slot's descriptors by
                                ///< their numbers here (slots that are not named lose theirs, their exits stay)
  sys::Fd handover;  ///< whoever has handed this over and is to be told that it is held here now; invalid: nobody
};

/// Replaces this process by the keeper, which starts `program`. All descriptors but 0-2 and the named ones vanish; the
/// held ones may get other numbers (as the table then says). No signal handler, no child and no other thread is
/// expected. Returns only on failure; descriptors are then in disorder, and the caller should end.
Error become_keeper(KeeperOptions options);

/// Frees all slots of a table without a keeper but these.
Result<> keep_only(const sys::Fd& table, const std::vector<KeptSlot>& slots);

}  // namespace gantry
