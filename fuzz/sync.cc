// The sync dialogue: any sequence of frames; after a failure nothing is legal, and Commit comes only after Ready.
#include <cstdlib>

#include "engine/sync_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gantry::SyncState;
  using gantry::init::Tag;
  SyncState state = SyncState::kSpawned;
  bool ready = false;
  for (size_t at = 0; at + 1 < size; at += 2) {
    const auto tag = static_cast<Tag>(data[at]);
    const SyncState before = state;
    if ((data[at + 1] & 1) != 0) {
      state = gantry::advance_sent(state, tag);
      if (state == SyncState::kCommitted && (!ready || tag != Tag::kCommit)) std::abort();
    } else {
      const gantry::SyncStep step = gantry::advance(state, tag);
      state = step.next;
      ready = ready || step.action == gantry::SyncAction::kCommit;
    }
    if (before == SyncState::kFailed && state != SyncState::kFailed) std::abort();
    if (gantry::sync_state_name(state).empty() || gantry::tag_name(tag).empty()) std::abort();
  }
  return 0;
}
