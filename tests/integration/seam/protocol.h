// What the seam test's two processes say to each other: the foster (parent of all containers) and the driver (engine).
//
// One frame per datagram on a SOCK_SEQPACKET pair; both ends are built together, so the frame is a plain struct.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace gantry::seam {

/// The driver's end of the pair, as the foster starts it.
inline constexpr int kFosterFd = 3;

enum class Kind : uint32_t {
  kSpawn = 1,    ///< driver: start a launcher; descriptors: stdio (3), plan, sync when has_sync, then the slots
  kSpawned = 2,  ///< foster: answer to `serial`: pid and one pidfd, or err
  kExit = 3,     ///< foster: its child `pid` ended with `code`, or by `signal`, and is reaped
};

struct Message {
  Kind kind = Kind::kSpawn;
  uint32_t serial = 0;  ///< chosen by the driver, repeated in the answer
  uint32_t has_sync = 0;
  int32_t err = 0;  ///< errno of a failed spawn
  pid_t pid = 0;
  int32_t code = 0;
  int32_t signal = 0;
};

/// Descriptors of kSpawn before the slots, without the sync socket.
inline constexpr size_t kFixedFds = 4;

}  // namespace gantry::seam
