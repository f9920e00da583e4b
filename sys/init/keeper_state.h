// The keeper's state, shared by its loop (keeper.cc) and its conversation (keeper_requests.cc). Only for these two.
#pragma once

#include "sys/init/keeper_parts.h"

namespace gantry::init {

struct Keeper {
  int signals;
  int link;        ///< our end of the conversation, -1: none
  int supervisor;  ///< 0: none
  int64_t started;
  int64_t restart_at;  ///< CLOCK_MONOTONIC, 0: not planned
  unsigned backoff;
  bool leaving, wants_room;
  bool told_to_end;
  KeeperWatch watch;
  FileLimit files;
  bool has_answer;  ///< no request is read until its predecessor is answered
  int answer_fd;
  KeeperFrame answer;
  KeeperCore core;
};
extern constinit Keeper keeper;

inline constexpr int kClockRealtime = 0, kClockMonotonic = 1, kPollOut = 4;

/// waitid(2): what to wait for, and how.
inline constexpr int kWaitAll = 0, kWaitPid = 1, kWaitPidfd = 3;
inline constexpr int kNoHang = 1, kExited = 4, kNoWait = 0x01000000, kAnyClone = 0x40000000;

/// siginfo_t as waitid(2) fills it on 64-bit systems.
struct WaitInfo {
  int signo, err, code, pad;
  int pid;
  unsigned uid;
  int status;
  char rest[128 - 28];
};
static_assert(sizeof(WaitInfo) == 128);

/// Nanoseconds.
int64_t now(int clock);

/// Whether it is a child of ours, dead or alive: kWaitPid or kWaitPidfd.
bool is_child(int type, int id);

// -- keeper_requests.cc
// -----------------------------------------------------------------------------------------------------

/// Says what there is to say, until there is no room.
void flush();

/// One request; false: there is none. `alive`: there is somebody to answer and to start processes for.
bool serve(bool alive);

/// The answer under way is for nobody.
void drop_answer();

/// The end of the conversation.
void hang_up();

}  // namespace gantry::init
