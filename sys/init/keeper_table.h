// The keeper's rules without a system call: which request is legal, what becomes of the table, which exit is told next.
//
// Compiled for gantry-init and, hosted, for the unit tests and the fuzzer. The keeper executes what is decided here.
#pragma once

#include <stdint.h>

#include "sys/init/keeper.h"

namespace gantry::init {

enum class KeeperAction : uint8_t { kSpawn, kHold, kRelease, kNotify, kLeave, kRefuse };

/// What to do about a frame. With `err` nothing is done: kSpawn, kHold and kRelease are answered with it, the rest with
/// kRefused.
struct KeeperVerdict {
  KeeperAction action;
  int err;
};

/// What is known of a process that is named to the keeper.
enum class Fate : uint8_t {
  kChild,     ///< a child of the keeper, not yet reaped
  kGone,      ///< dead and reaped
  kStranger,  ///< alive (or not known to be dead), and somebody else's child
};

/// How a process ended.
struct ExitNote {
  int32_t pid, code, signal;
  int64_t time;  ///< nanoseconds, CLOCK_REALTIME
};

/// The table and what the keeper knows besides: no pointers into it are trusted to the supervisor. Zero-initialised is
/// empty; open() before anything else.
class KeeperCore {
 public:
  /// `table` was checked (check_keeper_table); `pids` has room for slot_count numbers, all 0. Both are used until the
  /// end.
  void open(KeeperTable* table, int32_t* pids, int32_t keeper_pid);

  // -- a table that was in use before, right after open() ------------------------------------------------------------
  /// The pid of a slot whose process was alive when the former keeper ended, 0: none.
  int32_t adopted_pid(uint32_t slot) const;
  /// Whether that process is a child of this keeper.
  void adopt(uint32_t slot, bool is_child);

  // -- requests ------------------------------------------------------------------------------------------------------
  /// `frame` passed check_keeper_frame and came with `fd_count` descriptors.
  KeeperVerdict judge(const KeeperFrame& frame, unsigned fd_count) const;
  /// Carries out a kHold that was judged legal. `fds`: the held numbers by position, -1: not given. `dropped` gets the
  /// numbers to close, -1: none. `fate` counts when the frame names a process that the slot did not name yet.
  void hold(const KeeperFrame& frame, const int32_t (&fds)[kKeeperFds], Fate fate, int32_t (&dropped)[kKeeperFds]);
  /// Whether the frame names a process that the slot does not name yet.
  bool names_anew(const KeeperFrame& frame) const;
  void release(uint32_t slot, int32_t (&dropped)[kKeeperFds]);

  // -- exits ---------------------------------------------------------------------------------------------------------
  /// False: too many exits without a slot wait to be told; children should not be reaped now.
  bool can_note() const { return untold_notes_ < kNotes; }
  /// A child was reaped: written to its slot, or remembered for a while.
  void note(const ExitNote& exit);
  /// The next frame to send of its own accord; false: none.
  bool next_exit(KeeperFrame& out);
  /// The frame of next_exit() was sent.
  void told(const KeeperFrame& frame);

  // -- the supervisor ------------------------------------------------------------------------------------------------
  /// Before the start: counts it. All exits that were not released will be told (again).
  void starting();
  void started(int32_t pid) { table_->supervisor_pid = pid; }
  /// `crash`: without Leave, at `monotonic` nanoseconds.
  void ended(const ExitNote& exit, bool crash, int64_t monotonic);
  /// The next end of this supervisor will be the keeper's doing: it hangs.
  void hangs() { table_->hung = table_->crashes + 1; }
  /// Nobody reads any more: exits without a slot are only remembered.
  void unheard();

  const KeeperSlot& slot(uint32_t index) const { return keeper_slots(table_)[index]; }
  KeeperTable& table() const { return *table_; }
  uint32_t slot_count() const { return slot_count_; }
  uint32_t used() const { return used_; }

  /// Exits without a slot that are remembered.
  static constexpr unsigned kNotes = 64;

 private:
  struct Note {
    ExitNote exit;
    bool untold;
  };
  KeeperSlot& at(uint32_t index) { return keeper_slots(table_)[index]; }
  uint32_t find(int32_t pid) const;
  int judge_hold(const KeeperFrame& frame, unsigned fd_count) const;
  void name(uint32_t index, int32_t pid, Fate fate);
  void mark_exited(uint32_t index, const ExitNote* exit);
  bool next_of_slots(KeeperFrame& out);

  KeeperTable* table_;
  uint32_t slot_count_, used_;
  uint32_t untold_slots_;  ///< at most so many slots have an exit to tell
  uint32_t cursor_;        ///< where to look for the next of them
  unsigned untold_notes_, next_note_;
  bool heard_;  ///< there is a supervisor to tell
  Note notes_[kNotes];
  int32_t* pids_;  ///< of living children, by slot: what is searched at every exit
};

/// Whether the supervisor's loop still turns, by its own word. A service manager with a watchdog restarts the keeper
/// when it hears nothing (WatchdogSec= in systemd.service(5)), which would help nobody: so the keeper sees to it that
/// the supervisor is replaced, and tells the manager until then. Zero-initialised: nobody asked for that.
class KeeperWatch {
 public:
  enum class Verdict : uint8_t {
    kWait,  ///< nothing to do
    kTell,  ///< the word is late: tell the manager in its place
    kKill,  ///< so, and the supervisor hangs; said once
  };

  /// A supervisor was started. Until its first word it may take any time.
  void started() { patience_for_ = Patience::kForEver; }
  /// Its word at `at`, to be repeated within `patience`; 0: no more. Nanoseconds, CLOCK_MONOTONIC.
  void beat(int64_t at, int64_t patience);
  /// When to look(), 0: never.
  int64_t due() const { return due_; }
  /// What is to be done at `at`. Who was late gets half as much time again: after a stop of the whole system the keeper
  /// may be the first to run.
  Verdict look(int64_t at);

 private:
  enum class Patience : uint8_t { kForEver, kOnce, kAgain };
  int64_t due_, patience_;
  Patience patience_for_;
};

/// Whether somebody has to hold what the table names when its keeper ends: there is a run, and a socket to ask at.
bool needs_holder(const KeeperTable& table);

/// The kHandoverSlot of a slot that is in use, and its `count` descriptors.
KeeperFrame handover_frame(const KeeperTable& table, uint32_t index, int32_t (&fds)[kKeeperFds], unsigned& count);

/// How long to wait before the supervisor is started again, in ms; 0: at once. `before`: what it was the last time.
/// `killed`: by SIGKILL, which comes from outside and says nothing about what would happen next; the wait stays short.
unsigned keeper_backoff(unsigned before, int64_t lived_ns, bool killed);

}  // namespace gantry::init
