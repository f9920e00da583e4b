// The sync dialogue as a table: every state against every tag.
#include <catch2/catch.hpp>
#include <map>
#include <utility>
#include <vector>

#include "engine/sync_protocol.h"

namespace gantry {
namespace {

using init::Tag;

constexpr SyncState kStates[] = {SyncState::kSpawned, SyncState::kAhead, SyncState::kSettingUp, SyncState::kMaps,
                                 SyncState::kHooks,   SyncState::kReady, SyncState::kCommitted, SyncState::kFailed};
constexpr Tag kTags[] = {
    Tag::kInvalid,       Tag::kBorn,           Tag::kMapsPlease, Tag::kHooksPlease, Tag::kSeccompFd, Tag::kReady,
    Tag::kError,         Tag::kWarning,        Tag::kGo,         Tag::kCgroup,      Tag::kCommit,    Tag::kMountFd,
    Tag::kMountFdPlease, static_cast<Tag>(999)};

using Key = std::pair<SyncState, Tag>;

const std::map<Key, SyncStep> kLegal = {
    {{SyncState::kSpawned, Tag::kBorn}, {SyncState::kSettingUp, SyncAction::kTakeInit}},
    {{SyncState::kAhead, Tag::kBorn}, {SyncState::kCommitted, SyncAction::kTakeInit}},
    {{SyncState::kSettingUp, Tag::kMapsPlease}, {SyncState::kMaps, SyncAction::kWriteMaps}},
    {{SyncState::kSettingUp, Tag::kHooksPlease}, {SyncState::kHooks, SyncAction::kRunHooks}},
    {{SyncState::kSettingUp, Tag::kSeccompFd}, {SyncState::kSettingUp, SyncAction::kNoteListener}},
    {{SyncState::kSettingUp, Tag::kReady}, {SyncState::kReady, SyncAction::kCommit}},
};

TEST_CASE("sync protocol: received frames") {
  for (const SyncState state : kStates) {
    for (const Tag tag : kTags) {
      INFO("state " << sync_state_name(state) << " tag " << static_cast<int>(tag));
      const SyncStep step = advance(state, tag);
      if (const auto row = kLegal.find({state, tag}); row != kLegal.end()) {
        CHECK(step.next == row->second.next);
        CHECK(step.action == row->second.action);
      } else if (tag == Tag::kWarning && state != SyncState::kFailed) {
        CHECK(step.next == state);
        CHECK(step.action == SyncAction::kWarn);
      } else {
        CHECK(step.next == SyncState::kFailed);
        const bool error = tag == Tag::kError && state != SyncState::kFailed;
        CHECK(step.action == (error ? SyncAction::kFail : SyncAction::kIllegal));
      }
    }
  }
}

TEST_CASE("sync protocol: what the engine may send") {
  const std::map<Key, SyncState> legal = {
      {{SyncState::kSpawned, Tag::kCgroup}, SyncState::kSpawned},
      {{SyncState::kSpawned, Tag::kCommit}, SyncState::kAhead},
      {{SyncState::kSettingUp, Tag::kCgroup}, SyncState::kSettingUp},
      {{SyncState::kMaps, Tag::kCgroup}, SyncState::kMaps},
      {{SyncState::kMaps, Tag::kGo}, SyncState::kSettingUp},
      {{SyncState::kHooks, Tag::kGo}, SyncState::kSettingUp},
      {{SyncState::kReady, Tag::kCommit}, SyncState::kCommitted},
  };
  for (const SyncState state : kStates) {
    for (const Tag tag : kTags) {
      INFO("state " << sync_state_name(state) << " tag " << static_cast<int>(tag));
      const auto row = legal.find({state, tag});
      CHECK(advance_sent(state, tag) == (row == legal.end() ? SyncState::kFailed : row->second));
    }
  }
}

TEST_CASE("sync protocol: a whole create") {
  SyncState state = SyncState::kSpawned;
  const auto receive = [&state](Tag tag) { return (state = advance(state, tag).next) != SyncState::kFailed; };
  const auto send = [&state](Tag tag) { return (state = advance_sent(state, tag)) != SyncState::kFailed; };
  CHECK(send(Tag::kCgroup));
  CHECK(receive(Tag::kBorn));
  CHECK(receive(Tag::kMapsPlease));
  CHECK(send(Tag::kGo));
  CHECK(receive(Tag::kHooksPlease));
  CHECK(send(Tag::kGo));
  CHECK(receive(Tag::kHooksPlease));
  CHECK(send(Tag::kGo));
  CHECK(receive(Tag::kSeccompFd));
  CHECK(receive(Tag::kReady));
  CHECK(send(Tag::kCommit));
  CHECK(state == SyncState::kCommitted);
  CHECK_FALSE(receive(Tag::kReady));
}

TEST_CASE("sync protocol: an exec that is committed ahead") {
  const SyncState waiting = advance_sent(SyncState::kSpawned, Tag::kCommit);
  CHECK(waiting == SyncState::kAhead);
  CHECK(advance_sent(waiting, Tag::kCgroup) == SyncState::kFailed);
  const SyncState state = advance(waiting, Tag::kBorn).next;
  CHECK(state == SyncState::kCommitted);
  CHECK(advance(state, Tag::kError).action == SyncAction::kFail);
  CHECK(advance(state, Tag::kReady).action == SyncAction::kIllegal);
}

TEST_CASE("sync protocol: every tag has a name") {
  CHECK(tag_name(Tag::kBorn) == "Born");
  CHECK(tag_name(Tag::kMountFdPlease) == "MountFdPlease");
  CHECK(tag_name(static_cast<Tag>(999)) == "unknown");
}

}  // namespace
}  // namespace gantry
