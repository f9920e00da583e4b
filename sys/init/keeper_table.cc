#include "sys/init/keeper_table.h"

namespace gantry::init {
namespace {

// errno values; gantry-init has no <errno.h>.
constexpr int kErrInvalid = 22, kErrExists = 17, kErrProtocol = 71;
constexpr int kExtraSpawnFds = 4;  // stdio and plan
constexpr int64_t kLivedLong = 1'000'000'000;
constexpr int64_t kLongestPatience = int64_t{1} << 60;  // what can be added to a time
constexpr unsigned kFirstBackoff = 100, kLongestBackoff = 5000;

unsigned bits_of(uint32_t mask) {
  unsigned count = 0;
  for (; mask != 0; mask &= mask - 1) ++count;
  return count;
}

/// Whoever reads `state` finds everything else written.
void set_state(KeeperSlot& slot, SlotState state) {
  __atomic_store_n(reinterpret_cast<uint32_t*>(&slot.state), static_cast<uint32_t>(state), __ATOMIC_RELEASE);
}

bool is_held_number(int32_t fd) {
  return fd >= kFirstHeld;
}

}  // namespace

bool needs_holder(const KeeperTable& table) {
  if (table.used <= kFirstRunSlot || table.used > table.slot_count) return false;
  const KeeperSlot* const slots = keeper_slots(&table);
  // One that nobody can ask would be of no use.
  if (slots[kListenerSlot].state == SlotState::kFree || !is_held_number(slots[kListenerSlot].fds[kHandoverSocket]))
    return false;
  for (uint32_t i = kFirstRunSlot; i < table.used; ++i)
    if (slots[i].state != SlotState::kFree) return true;
  return false;
}

KeeperFrame handover_frame(const KeeperTable& table, uint32_t index, int32_t (&fds)[kKeeperFds], unsigned& count) {
  const KeeperSlot& slot = keeper_slots(&table)[index];
  KeeperFrame frame = {};
  frame.magic = kKeeperFrameMagic;
  frame.tag = KeeperTag::kHandoverSlot;
  frame.slot = index;
  frame.kind = slot.kind;
  frame.owner = slot.owner;
  frame.pid = slot.pid;
  count = 0;
  for (uint32_t i = 0; i < kKeeperFds; ++i) {
    if (!is_held_number(slot.fds[i])) continue;
    frame.mask |= 1u << i;
    fds[count++] = slot.fds[i];
  }
  return frame;
}

void make_keeper_table(KeeperTable& table, uint32_t slot_count) {
  table = {};
  table.magic = kKeeperTableMagic;
  table.version = kKeeperTableVersion;
  table.slot_count = slot_count;
}

const char* check_keeper_table(const void* table, size_t size) {
  if (size < kKeeperTableHead) return "keeper table: shorter than its head";
  const auto& head = *static_cast<const KeeperTable*>(table);
  if (head.magic != kKeeperTableMagic) return "keeper table: wrong magic";
  if (head.version != kKeeperTableVersion) return "keeper table: unknown version";
  if (head.slot_count == 0 || head.slot_count > kKeeperMaxSlots) return "keeper table: unusable number of slots";
  if (size != keeper_table_size(head.slot_count)) return "keeper table: size does not fit the number of slots";
  return nullptr;
}

const char* check_keeper_frame(const void* data, size_t size) {
  if (size != sizeof(KeeperFrame)) return "keeper frame: wrong size";
  KeeperFrame frame;
  __builtin_memcpy(&frame, data, sizeof frame);
  if (frame.magic != kKeeperFrameMagic) return "keeper frame: wrong magic";
  const auto tag = static_cast<uint16_t>(frame.tag);
  const auto within = [tag](KeeperTag first, KeeperTag last) {
    return tag >= static_cast<uint16_t>(first) && tag <= static_cast<uint16_t>(last);
  };
  const bool known = within(KeeperTag::kSpawn, KeeperTag::kLeave) || within(KeeperTag::kSpawned, KeeperTag::kRefused) ||
                     within(KeeperTag::kHandoverPlease, KeeperTag::kHandoverTaken);
  return known ? nullptr : "keeper frame: unknown tag";
}

unsigned keeper_backoff(unsigned before, int64_t lived_ns, bool killed) {
  if (lived_ns >= kLivedLong) return 0;
  if (before == 0 || killed) return kFirstBackoff;
  return before * 2 < kLongestBackoff ? before * 2 : kLongestBackoff;
}

void KeeperWatch::beat(int64_t at, int64_t patience) {
  patience_ = patience;
  due_ = patience != 0 ? at + patience : 0;
  patience_for_ = Patience::kOnce;
}

KeeperWatch::Verdict KeeperWatch::look(int64_t at) {
  if (due_ == 0 || at < due_) return Verdict::kWait;
  const bool first = patience_for_ == Patience::kOnce, hangs = patience_for_ == Patience::kAgain;
  due_ = at + (first ? patience_ / 2 : patience_);
  patience_for_ = first ? Patience::kAgain : Patience::kForEver;
  return hangs ? Verdict::kKill : Verdict::kTell;
}

void KeeperCore::open(KeeperTable* table, int32_t* pids, int32_t keeper_pid) {
  table_ = table;
  pids_ = pids;
  slot_count_ = table->slot_count;
  used_ = table->used < slot_count_ ? table->used : slot_count_;
  table->keeper_pid = keeper_pid;
  table->supervisor_pid = 0;
  for (uint32_t i = 0; i < used_; ++i) {
    KeeperSlot& slot = at(i);
    if (slot.state != SlotState::kHeld && slot.state != SlotState::kExited) set_state(slot, SlotState::kFree);
    // A number that cannot be a held one is never to be closed.
    for (int32_t& fd : slot.fds)
      if (!is_held_number(fd)) fd = -1;
  }
}

int32_t KeeperCore::adopted_pid(uint32_t index) const {
  return slot(index).state == SlotState::kHeld && slot(index).pid > 0 ? slot(index).pid : 0;
}

void KeeperCore::adopt(uint32_t index, bool is_child) {
  KeeperSlot& slot = at(index);
  slot.flags = is_child ? 0u : uint32_t{kSlotForeign};
  pids_[index] = is_child ? slot.pid : 0;
}

uint32_t KeeperCore::find(int32_t pid) const {
  for (uint32_t i = 0; i < used_; ++i)
    if (pids_[i] == pid) return i;
  return kUnslotted;
}

// -- requests
// ----------------------------------------------------------------------------------------------------------

int KeeperCore::judge_hold(const KeeperFrame& frame, unsigned fd_count) const {
  if (frame.slot >= slot_count_ || frame.pid < 0) return kErrInvalid;
  if (frame.mask >= 1u << kKeeperFds || bits_of(frame.mask) != fd_count) return kErrInvalid;
  const KeeperSlot& slot = this->slot(frame.slot);
  if (slot.state != SlotState::kFree) {
    if (slot.owner != frame.owner) return kErrExists;
    if (frame.pid != 0 && slot.pid != 0 && slot.pid != frame.pid) return kErrExists;
  }
  if (frame.pid == 0) return 0;
  const uint32_t other = find(frame.pid);
  return other == kUnslotted || other == frame.slot ? 0 : kErrExists;
}

KeeperVerdict KeeperCore::judge(const KeeperFrame& frame, unsigned fd_count) const {
  switch (frame.tag) {
    case KeeperTag::kSpawn: {
      unsigned least = kExtraSpawnFds;
      if ((frame.flags & kSpawnSync) != 0) ++least;
      if ((frame.flags & kSpawnInCgroup) != 0) ++least;
      return {KeeperAction::kSpawn, fd_count >= least ? 0 : kErrInvalid};
    }
    case KeeperTag::kHold:
      return {KeeperAction::kHold, judge_hold(frame, fd_count)};
    case KeeperTag::kRelease:
      return {KeeperAction::kRelease, frame.slot < slot_count_ && fd_count == 0 ? 0 : kErrInvalid};
    case KeeperTag::kNotify: {
      const bool known = frame.kind < static_cast<uint32_t>(KeeperNotify::kCount);
      const bool in_time = frame.time >= 0 && frame.time <= kLongestPatience;
      return {KeeperAction::kNotify, known && in_time && fd_count == 0 ? 0 : kErrInvalid};
    }
    case KeeperTag::kLeave:
      return {KeeperAction::kLeave, fd_count == 0 ? 0 : kErrInvalid};
    default:
      return {KeeperAction::kRefuse, kErrProtocol};
  }
}

bool KeeperCore::names_anew(const KeeperFrame& frame) const {
  const KeeperSlot& slot = this->slot(frame.slot);
  return frame.pid != 0 && (slot.state == SlotState::kFree || slot.pid == 0);
}

void KeeperCore::hold(const KeeperFrame& frame, const int32_t (&fds)[kKeeperFds], Fate fate,
                      int32_t (&dropped)[kKeeperFds]) {
  KeeperSlot& slot = at(frame.slot);
  const bool anew = names_anew(frame);
  const bool fresh = slot.state == SlotState::kFree;
  if (fresh) {
    slot.pid = slot.code = slot.signal = 0;
    slot.flags = slot.told = 0;
    slot.time = 0;
    for (int32_t& fd : slot.fds) fd = -1;
  }
  slot.kind = frame.kind;
  slot.owner = frame.owner;
  for (uint32_t i = 0; i < kKeeperFds; ++i) {
    dropped[i] = -1;
    if (fds[i] < 0) continue;
    dropped[i] = slot.fds[i];
    slot.fds[i] = fds[i];
  }
  if (fresh) set_state(slot, SlotState::kHeld);
  if (frame.slot >= used_) table_->used = used_ = frame.slot + 1;
  if (anew) name(frame.slot, frame.pid, fate);
}

void KeeperCore::name(uint32_t index, int32_t pid, Fate fate) {
  KeeperSlot& slot = at(index);
  slot.pid = pid;
  if (fate == Fate::kChild) pids_[index] = pid;
  if (fate == Fate::kStranger) slot.flags |= kSlotForeign;
  if (fate != Fate::kGone) return;
  // The newest: an older one with the same number was another process.
  for (unsigned back = 1; back <= kNotes; ++back) {
    Note& note = notes_[(next_note_ + kNotes - back) % kNotes];
    if (note.exit.pid != pid) continue;
    const ExitNote exit = note.exit;
    if (note.untold) --untold_notes_;
    note = {};
    mark_exited(index, &exit);
    return;
  }
  mark_exited(index, nullptr);
}

void KeeperCore::release(uint32_t index, int32_t (&dropped)[kKeeperFds]) {
  KeeperSlot& slot = at(index);
  const bool in_use = slot.state != SlotState::kFree;
  if (slot.state == SlotState::kExited && slot.told != table_->starts && untold_slots_ > 0) --untold_slots_;
  if (in_use) set_state(slot, SlotState::kFree);
  pids_[index] = 0;
  for (uint32_t i = 0; i < kKeeperFds; ++i) {
    dropped[i] = in_use && is_held_number(slot.fds[i]) ? slot.fds[i] : -1;
    if (in_use) slot.fds[i] = -1;
  }
}

// -- exits
// -------------------------------------------------------------------------------------------------------------

void KeeperCore::mark_exited(uint32_t index, const ExitNote* exit) {
  KeeperSlot& slot = at(index);
  pids_[index] = 0;
  slot.code = exit != nullptr ? exit->code : 0;
  slot.signal = exit != nullptr ? exit->signal : 0;
  slot.time = exit != nullptr ? exit->time : 0;
  if (exit == nullptr) slot.flags |= kSlotExitUnknown;
  slot.told = 0;
  set_state(slot, SlotState::kExited);
  ++untold_slots_;
}

void KeeperCore::note(const ExitNote& exit) {
  if (const uint32_t index = find(exit.pid); index != kUnslotted) {
    mark_exited(index, &exit);
    return;
  }
  Note& note = notes_[next_note_];
  if (note.untold) --untold_notes_;
  note.exit = exit;
  note.untold = heard_;
  if (note.untold) ++untold_notes_;
  next_note_ = (next_note_ + 1) % kNotes;
}

bool KeeperCore::next_of_slots(KeeperFrame& out) {
  for (uint32_t step = 0; step < used_; ++step) {
    const uint32_t index = cursor_ < used_ ? cursor_ : 0;
    const KeeperSlot& slot = this->slot(index);
    if (slot.state == SlotState::kExited && slot.told != table_->starts) {
      out.slot = index;
      out.pid = slot.pid;
      out.code = slot.code;
      out.signal = slot.signal;
      out.time = slot.time;
      if ((slot.flags & kSlotExitUnknown) != 0) out.flags = kExitUnknown;
      return true;
    }
    cursor_ = index + 1;
  }
  untold_slots_ = 0;
  return false;
}

bool KeeperCore::next_exit(KeeperFrame& out) {
  out = {};
  out.magic = kKeeperFrameMagic;
  out.tag = KeeperTag::kExited;
  if (untold_slots_ > 0 && next_of_slots(out)) return true;
  if (untold_notes_ == 0) return false;
  for (unsigned i = 0; i < kNotes; ++i) {
    const Note& note = notes_[(next_note_ + i) % kNotes];
    if (!note.untold) continue;
    out.slot = kUnslotted;
    out.pid = note.exit.pid;
    out.code = note.exit.code;
    out.signal = note.exit.signal;
    out.time = note.exit.time;
    return true;
  }
  return false;
}

void KeeperCore::told(const KeeperFrame& frame) {
  if (frame.slot != kUnslotted) {
    at(frame.slot).told = table_->starts;
    if (untold_slots_ > 0) --untold_slots_;
    return;
  }
  for (unsigned i = 0; i < kNotes; ++i) {
    Note& note = notes_[(next_note_ + i) % kNotes];
    if (!note.untold) continue;
    note.untold = false;  // next_exit() gives the first one, too
    --untold_notes_;
    return;
  }
}

// -- the supervisor
// ----------------------------------------------------------------------------------------------------

void KeeperCore::unheard() {
  heard_ = false;
  for (Note& note : notes_) note.untold = false;
  untold_notes_ = 0;
}

void KeeperCore::starting() {
  unheard();
  heard_ = true;
  ++table_->starts;
  cursor_ = 0;
  untold_slots_ = 0;
  for (uint32_t i = 0; i < used_; ++i)
    if (slot(i).state == SlotState::kExited) ++untold_slots_;
}

void KeeperCore::ended(const ExitNote& exit, bool crash, int64_t monotonic) {
  unheard();
  table_->supervisor_pid = 0;
  if (!crash) return;
  table_->last_code = exit.code;
  table_->last_signal = exit.signal;
  const uint32_t number = table_->crashes + 1;
  table_->crash_times[number % kKeeperCrashes] = monotonic;
  table_->crashes = number;
}

}  // namespace gantry::init
