// The legal order of the sync dialogue: a pure function, table-tested and fuzzed.
//
//   launcher / init                      engine
//   kBorn(pid) + pidfd    ─────────────> take init
//                         <───────────── kCgroup + fds        (v1: when the directories are ready)
//   kMapsPlease           ─────────────> write uid/gid maps
//                         <───────────── kGo
//   kHooksPlease(point)   ─────────────> run hooks            (0..2 times)
//                         <───────────── kGo
//   kSeccompFd(n)         ─────────────> remember where the listener will be
//   kReady                ─────────────> state saved
//                         <───────────── kCommit            (with kHeaderCommitAhead before Born, and no Ready)
//   EOF: init has Commit and goes on alone
//   kWarning, kError      at any point
#pragma once

#include <cstdint>
#include <string_view>

#include "sys/init/wire.h"

namespace gantry {

enum class SyncState : uint8_t {
  kSpawned,    ///< the launcher runs, init is not born
  kAhead,      ///< the same, and Commit was sent for the init to come
  kSettingUp,  ///< init works on its own
  kMaps,       ///< init waits for its maps
  kHooks,      ///< init waits for hooks
  kReady,      ///< init waits for Commit
  kCommitted,  ///< Commit was sent; EOF says that init has gone on
  kFailed,     ///< an error or an illegal frame: nothing more is legal
};

/// What the engine has to do about a frame.
enum class SyncAction : uint8_t {
  kTakeInit,      ///< remember pid and pidfd
  kWriteMaps,     ///< write the maps, then send kGo
  kRunHooks,      ///< run the hooks of the frame's point, then send kGo
  kNoteListener,  ///< remember the fd number
  kCommit,        ///< save the state, then send kCommit
  kWarn,          ///< log the text, nothing else
  kFail,          ///< the child gave up: report its error, undo
  kIllegal,       ///< protocol error: report state and tag, undo
};

struct SyncStep {
  SyncState next;
  SyncAction action;
};

/// Judges a frame that arrived in `state`.
SyncStep advance(SyncState state, init::Tag tag);

/// The state after the engine sent `tag`; kFailed when that was not legal.
SyncState advance_sent(SyncState state, init::Tag tag);

std::string_view sync_state_name(SyncState state);
std::string_view tag_name(init::Tag tag);

}  // namespace gantry
