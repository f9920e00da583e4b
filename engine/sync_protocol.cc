#include "engine/sync_protocol.h"

#include <array>

namespace gantry {
namespace {

using init::Tag;

struct Row {
  SyncState from;
  Tag tag;
  SyncStep step;
};

constexpr Row kReceived[] = {
    {SyncState::kSpawned, Tag::kBorn, {SyncState::kSettingUp, SyncAction::kTakeInit}},
    {SyncState::kAhead, Tag::kBorn, {SyncState::kCommitted, SyncAction::kTakeInit}},
    {SyncState::kSettingUp, Tag::kMapsPlease, {SyncState::kMaps, SyncAction::kWriteMaps}},
    {SyncState::kSettingUp, Tag::kHooksPlease, {SyncState::kHooks, SyncAction::kRunHooks}},
    {SyncState::kSettingUp, Tag::kSeccompFd, {SyncState::kSettingUp, SyncAction::kNoteListener}},
    {SyncState::kSettingUp, Tag::kReady, {SyncState::kReady, SyncAction::kCommit}},
};

struct SentRow {
  SyncState from;
  Tag tag;
  SyncState next;
};

constexpr SentRow kSent[] = {
    {SyncState::kSpawned, Tag::kCgroup, SyncState::kSpawned},
    {SyncState::kSpawned, Tag::kCommit, SyncState::kAhead},
    {SyncState::kSettingUp, Tag::kCgroup, SyncState::kSettingUp},
    {SyncState::kMaps, Tag::kCgroup, SyncState::kMaps},
    {SyncState::kMaps, Tag::kGo, SyncState::kSettingUp},
    {SyncState::kHooks, Tag::kGo, SyncState::kSettingUp},
    {SyncState::kReady, Tag::kCommit, SyncState::kCommitted},
};

}  // namespace

SyncStep advance(SyncState state, Tag tag) {
  if (state != SyncState::kFailed) {
    if (tag == Tag::kWarning) return {state, SyncAction::kWarn};
    if (tag == Tag::kError) return {SyncState::kFailed, SyncAction::kFail};
  }
  for (const Row& row : kReceived)
    if (row.from == state && row.tag == tag) return row.step;
  return {SyncState::kFailed, SyncAction::kIllegal};
}

SyncState advance_sent(SyncState state, Tag tag) {
  for (const SentRow& row : kSent)
    if (row.from == state && row.tag == tag) return row.next;
  return SyncState::kFailed;
}

std::string_view sync_state_name(SyncState state) {
  constexpr std::array<std::string_view, 8> names{"spawned", "committed ahead", "setting up", "maps",
                                                  "hooks",   "ready",           "committed",  "failed"};
  return names[static_cast<size_t>(state)];
}

std::string_view tag_name(Tag tag) {
  switch (tag) {
    case Tag::kBorn:
      return "Born";
    case Tag::kMapsPlease:
      return "MapsPlease";
    case Tag::kHooksPlease:
      return "HooksPlease";
    case Tag::kSeccompFd:
      return "SeccompFd";
    case Tag::kReady:
      return "Ready";
    case Tag::kError:
      return "Error";
    case Tag::kWarning:
      return "Warning";
    case Tag::kGo:
      return "Go";
    case Tag::kCgroup:
      return "Cgroup";
    case Tag::kCommit:
      return "Commit";
    case Tag::kMountFdPlease:
      return "MountFdPlease";
    case Tag::kMountFd:
      return "MountFd";
    case Tag::kInvalid:
      break;
  }
  return "unknown";
}

}  // namespace gantry
