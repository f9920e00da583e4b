// The sync dialogue: any sequence of frames; after a failure nothing is legal, and who is committed was born and was
// sent one Commit.
#include <cstdlib>

#include "engine/sync_protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gantry::SyncState;
  using gantry::init::Tag;
  SyncState state = SyncState::kSpawned;
  bool born = false;
  int commits = 0;
  for (size_t at = 0; at + 1 < size; at += 2) {
    const auto tag = static_cast<Tag>(data[at]);
    const SyncState before = state;
    if ((data[at + 1] & 1) != 0) {
      state = gantry::advance_sent(state, tag);
      if (state != SyncState::kFailed && tag == Tag::kCommit) ++commits;
    } else {
      const gantry::SyncStep step = gantry::advance(state, tag);
      state = step.next;
      born = born || step.action == gantry::SyncAction::kTakeInit;
    }
    if (state == SyncState::kCommitted && !(born && commits == 1)) std::abort();
    if (before == SyncState::kFailed && state != SyncState::kFailed) std::abort();
    if (gantry::sync_state_name(state).empty() || gantry::tag_name(tag).empty()) std::abort();
  }
  return 0;
}
