// Datagrams with descriptors, without a library: the kernel's structures for sendmsg(2) and recvmsg(2).
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace gantry::init {

inline constexpr int kAfUnix = 1, kSockSeqpacket = 5, kSockCloexec = 02000000, kSockNonblock = 04000;
inline constexpr int kSolSocket = 1, kScmRights = 1;
inline constexpr int kMsgNosignal = 0x4000, kMsgCmsgCloexec = 0x40000000, kMsgDontwait = 0x40, kMsgTrunc = 0x20,
                     kMsgCtrunc = 8;

struct IoVec {
  void* base;
  size_t size;
};
struct MsgHeader {
  void* name;
  int name_length;
  IoVec* parts;
  size_t part_count;
  void* control;
  size_t control_size;
  int flags;
};
struct ControlHeader {
  size_t length;
  int level, type;
};
/// Room for one control message with N descriptors.
template <unsigned N>
struct Control {
  ControlHeader head;
  int fds[N];
};

/// How many descriptors came with a received message; they are in the control's `fds`.
template <unsigned N>
inline unsigned received_fds(const MsgHeader& message, const Control<N>& control) {
  if (message.control_size < sizeof(ControlHeader)) return 0;
  if (control.head.type != kScmRights || control.head.level != kSolSocket) return 0;
  return static_cast<unsigned>((control.head.length - sizeof(ControlHeader)) / sizeof(int));
}

/// Descriptors that send_parts() can take along.
inline constexpr unsigned kMostSent = 4;

/// Sends one datagram with at most kMostSent descriptors. 0 or a negative errno.
long send_parts(int socket, const void* data, size_t size, const int* fds, unsigned count, int flags = 0);

}  // namespace gantry::init
