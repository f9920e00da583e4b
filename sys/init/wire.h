// The sync dialogue's frames: what engine, launcher and init say to each other over one SOCK_SEQPACKET pair.
//
// One fixed-layout frame per datagram, fds by SCM_RIGHTS. The legal order is judged by the engine (sync_protocol.h);
// this file is only the format. Freestanding.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gantry::init {

inline constexpr uint32_t kFrameMagic = 0x4d524647;  // "GFRM"
inline constexpr uint32_t kNoStep = 0xffffffff;
inline constexpr size_t kFrameText = 480;

enum class Tag : uint16_t {
  kInvalid = 0,
  // launcher or init -> engine
  kBorn = 1,         ///< launcher: arg = pid of init in the launcher's pid namespace, one fd = its pidfd
  kMapsPlease = 2,   ///< init: write uid_map and gid_map of the born pid
  kHooksPlease = 3,  ///< init: arg = HookPoint
  kSeccompFd = 4,    ///< init: arg = fd number at which the listener will appear after Commit
  kReady = 5,        ///< init: all is set up; state may be saved
  kError = 6,        ///< either: step, err, text; the sender exits
  kWarning = 7,      ///< either: step, err, text; goes on
  // engine -> init
  kGo = 16,      ///< answer to kMapsPlease and kHooksPlease
  kCgroup = 17,  ///< n fds of cgroup `tasks` files to write "0" to (arg = n)
  kCommit = 18,  ///< answer to kReady: the container exists
  // init -> launcher and back, over their own pair
  kMountFdPlease = 32,  ///< step = index of the kMount step whose source is wanted
  kMountFd = 33,        ///< one fd: the detached mount
};

struct Frame {
  uint32_t magic;
  Tag tag;
  uint16_t text_length;
  int32_t err;    ///< errno or 0
  uint32_t step;  ///< index into the Plan's steps, kNoStep when none
  uint64_t arg;
  char text[kFrameText];  ///< not NUL-terminated; bytes beyond text_length are 0 and not sent
};
inline constexpr size_t kFrameHead = offsetof(Frame, text);

/// Bytes to send for a frame: the head and the text.
inline size_t frame_size(const Frame& frame) {
  return kFrameHead + frame.text_length;
}

/// Checks a received datagram: magic, exact size, known tag. Returns null when valid, else a static text.
const char* check_frame(const void* data, size_t size);

/// What the status fifo carries from init to `start`: nothing (EOF: the program runs) or one error text.
inline constexpr size_t kStatusMax = 3500;

}  // namespace gantry::init
