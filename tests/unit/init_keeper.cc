// The keeper's rules: which request is legal, what becomes of the table, which exit is told and when.
#include <catch2/catch.hpp>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "sys/init/keeper_table.h"

using namespace gantry::init;

namespace {

constexpr uint32_t kSlots = 8;
constexpr int32_t kKeeperPid = 100, kSupervisorPid = 101;

KeeperFrame frame_of(KeeperTag tag) {
  KeeperFrame frame = {};
  frame.magic = kKeeperFrameMagic;
  frame.tag = tag;
  return frame;
}

/// A table and the keeper that it belongs to; numbers of descriptors are made up.
struct Scene {
  std::vector<char> bytes = std::vector<char>(keeper_table_size(kSlots));
  KeeperTable& table = *reinterpret_cast<KeeperTable*>(bytes.data());
  std::vector<int32_t> pids = std::vector<int32_t>(kSlots);
  std::unique_ptr<KeeperCore> core = std::make_unique<KeeperCore>();
  int32_t next_fd = kFirstHeld;
  std::multiset<int32_t> closed;

  Scene() {
    make_keeper_table(table, kSlots);
    REQUIRE(check_keeper_table(bytes.data(), bytes.size()) == nullptr);
    core->open(&table, pids.data(), kKeeperPid);
    start();
  }
  void start() {
    core->starting();
    core->started(kSupervisorPid);
  }
  void crash() {
    core->ended({kSupervisorPid, 0, 9, 1}, true, 5);
    start();
  }
  static KeeperFrame hold_frame(uint32_t slot, uint64_t owner, int32_t pid, uint32_t mask) {
    KeeperFrame frame = frame_of(KeeperTag::kHold);
    frame.slot = slot;
    frame.owner = owner;
    frame.pid = pid;
    frame.mask = mask;
    return frame;
  }
  static unsigned bits(uint32_t mask) { return static_cast<unsigned>(__builtin_popcount(mask)); }
  /// The errno, after doing it when legal.
  int hold(uint32_t slot, uint64_t owner, int32_t pid = 0, uint32_t mask = 0, Fate fate = Fate::kChild) {
    const KeeperFrame frame = hold_frame(slot, owner, pid, mask);
    const KeeperVerdict verdict = core->judge(frame, bits(mask));
    CHECK(verdict.action == KeeperAction::kHold);
    if (verdict.err != 0) return verdict.err;
    int32_t fds[kKeeperFds], dropped[kKeeperFds];
    for (uint32_t i = 0; i < kKeeperFds; ++i) fds[i] = (mask & 1u << i) != 0 ? next_fd++ : -1;
    core->hold(frame, fds, fate, dropped);
    note_closed(dropped);
    return 0;
  }
  void release(uint32_t slot) {
    int32_t dropped[kKeeperFds];
    core->release(slot, dropped);
    note_closed(dropped);
  }
  void note_closed(const int32_t (&dropped)[kKeeperFds]) {
    for (const int32_t fd : dropped)
      if (fd >= 0) closed.insert(fd);
  }
  /// All that is to be told now.
  std::vector<KeeperFrame> tell() {
    std::vector<KeeperFrame> told;
    for (KeeperFrame frame; core->next_exit(frame);) {
      REQUIRE(check_keeper_frame(&frame, sizeof frame) == nullptr);
      core->told(frame);
      told.push_back(frame);
    }
    return told;
  }
};

std::string table_verdict(const Scene& scene, size_t size) {
  const char* wrong = check_keeper_table(scene.bytes.data(), size);
  return wrong != nullptr ? wrong : "";
}

}  // namespace

TEST_CASE("keeper: a frame has its size, magic and a known tag") {
  KeeperFrame frame = frame_of(KeeperTag::kHold);
  CHECK(check_keeper_frame(&frame, sizeof frame) == nullptr);
  for (size_t size = 0; size < sizeof frame; ++size) CHECK(check_keeper_frame(&frame, size) != nullptr);
  for (unsigned tag = 0; tag < 0x10000; ++tag) {
    frame.tag = static_cast<KeeperTag>(tag);
    const bool known = (tag >= 1 && tag <= 5) || (tag >= 16 && tag <= 19) || (tag >= 32 && tag <= 35);
    if ((check_keeper_frame(&frame, sizeof frame) == nullptr) != known) FAIL("tag " << tag);
  }
  frame = frame_of(KeeperTag::kHold);
  frame.magic ^= 1;
  CHECK(check_keeper_frame(&frame, sizeof frame) == std::string("keeper frame: wrong magic"));
}

TEST_CASE("keeper: a table that does not fit is refused") {
  Scene scene;
  CHECK(table_verdict(scene, scene.bytes.size()).empty());
  CHECK(table_verdict(scene, 10) == "keeper table: shorter than its head");
  CHECK(table_verdict(scene, scene.bytes.size() - 1) == "keeper table: size does not fit the number of slots");
  scene.table.slot_count = kKeeperMaxSlots + 1;
  CHECK(table_verdict(scene, scene.bytes.size()) == "keeper table: unusable number of slots");
  scene.table.version = 2;
  CHECK(table_verdict(scene, scene.bytes.size()) == "keeper table: unknown version");
}

TEST_CASE("keeper: every tag with every number of descriptors") {
  Scene scene;
  struct Row {
    KeeperTag tag;
    uint16_t flags;
    KeeperAction action;
    unsigned least, most;  ///< descriptors with which it is legal
  };
  const Row rows[] = {
      {KeeperTag::kSpawn, 0, KeeperAction::kSpawn, 4, 253},
      {KeeperTag::kSpawn, kSpawnSync, KeeperAction::kSpawn, 5, 253},
      {KeeperTag::kSpawn, kSpawnSync | kSpawnInCgroup, KeeperAction::kSpawn, 6, 253},
      {KeeperTag::kHold, 0, KeeperAction::kHold, 0, 0},
      {KeeperTag::kRelease, 0, KeeperAction::kRelease, 0, 0},
      {KeeperTag::kNotify, 0, KeeperAction::kNotify, 0, 0},
      {KeeperTag::kLeave, 0, KeeperAction::kLeave, 0, 0},
      {KeeperTag::kSpawned, 0, KeeperAction::kRefuse, 1, 0},
      {KeeperTag::kExited, 0, KeeperAction::kRefuse, 1, 0},
      {KeeperTag::kInvalid, 0, KeeperAction::kRefuse, 1, 0},
  };
  for (const Row& row : rows) {
    KeeperFrame frame = frame_of(row.tag);
    frame.flags = row.flags;
    for (unsigned count = 0; count <= 253; ++count) {
      const KeeperVerdict verdict = scene.core->judge(frame, count);
      INFO("tag " << static_cast<int>(row.tag) << " with " << count);
      CHECK(verdict.action == row.action);
      CHECK((verdict.err == 0) == (count >= row.least && count <= row.most));
    }
  }
  KeeperFrame notify = frame_of(KeeperTag::kNotify);
  notify.kind = static_cast<uint32_t>(KeeperNotify::kCount);
  CHECK(scene.core->judge(notify, 0).err == EINVAL);
  notify.kind = static_cast<uint32_t>(KeeperNotify::kWatchdog);
  notify.time = -1;
  CHECK(scene.core->judge(notify, 0).err == EINVAL);
  notify.time = INT64_MAX;
  CHECK(scene.core->judge(notify, 0).err == EINVAL);
  KeeperFrame release = frame_of(KeeperTag::kRelease);
  release.slot = kSlots;
  CHECK(scene.core->judge(release, 0).err == EINVAL);
}

TEST_CASE("keeper: illegal holds") {
  Scene scene;
  REQUIRE(scene.hold(1, 11, 500, 1) == 0);
  CHECK(scene.hold(kSlots, 1) == EINVAL);
  CHECK(scene.hold(0, 1, -5) == EINVAL);
  CHECK(scene.core->judge(Scene::hold_frame(0, 1, 0, 3), 1).err == EINVAL);
  CHECK(scene.core->judge(Scene::hold_frame(0, 1, 0, 16), 1).err == EINVAL);
  CHECK(scene.hold(1, 12) == EEXIST);       // another owner
  CHECK(scene.hold(1, 11, 501) == EEXIST);  // another process
  CHECK(scene.hold(2, 11, 500) == EEXIST);  // a process that has a slot
  CHECK(scene.hold(1, 11, 500) == 0);
}

TEST_CASE("keeper: holding again adds, replaces and closes") {
  Scene scene;
  REQUIRE(scene.hold(3, 7, 0, 0b0011) == 0);
  const KeeperSlot& slot = scene.core->slot(3);
  CHECK(slot.state == SlotState::kHeld);
  CHECK(scene.table.used == 4);
  const int32_t first = slot.fds[0], second = slot.fds[1];
  CHECK(slot.fds[2] == -1);
  REQUIRE(scene.hold(3, 7, 900, 0b0101) == 0);
  CHECK(scene.closed == std::multiset<int32_t>{first});
  CHECK(slot.fds[1] == second);
  CHECK(slot.fds[2] >= kFirstHeld);
  CHECK(slot.pid == 900);
  scene.release(3);
  CHECK(scene.closed.size() == 4);
  CHECK(slot.state == SlotState::kFree);
  scene.release(3);
  CHECK(scene.closed.size() == 4);
  // The next owner finds nothing of the last one.
  REQUIRE(scene.hold(3, 8) == 0);
  CHECK(slot.pid == 0);
  CHECK(slot.fds[0] == -1);
  CHECK(slot.owner == 8);
}

TEST_CASE("keeper: an exit is told once to each supervisor until it is released") {
  Scene scene;
  REQUIRE(scene.hold(2, 1, 600) == 0);
  CHECK(scene.tell().empty());
  scene.core->note({600, 42, 0, 777});
  const KeeperSlot& slot = scene.core->slot(2);
  CHECK(slot.state == SlotState::kExited);
  CHECK(slot.code == 42);
  const auto told = scene.tell();
  REQUIRE(told.size() == 1);
  CHECK(told[0].slot == 2);
  CHECK(told[0].pid == 600);
  CHECK(told[0].code == 42);
  CHECK(told[0].time == 777);
  CHECK(scene.tell().empty());
  scene.crash();
  CHECK(scene.tell().size() == 1);
  scene.release(2);
  scene.crash();
  CHECK(scene.tell().empty());
}

TEST_CASE("keeper: what was not told when released is not told") {
  Scene scene;
  REQUIRE(scene.hold(2, 1, 600) == 0);
  REQUIRE(scene.hold(4, 1, 601) == 0);
  scene.core->note({600, 1, 0, 1});
  scene.core->note({601, 2, 0, 1});
  scene.release(2);
  const auto told = scene.tell();
  REQUIRE(told.size() == 1);
  CHECK(told[0].slot == 4);
}

TEST_CASE("keeper: exits that no slot names are told in order and remembered for a while") {
  Scene scene;
  for (int32_t pid = 1000; pid < 1000 + static_cast<int32_t>(KeeperCore::kNotes); ++pid) {
    REQUIRE(scene.core->can_note());
    scene.core->note({pid, pid - 1000, 0, 1});
  }
  CHECK_FALSE(scene.core->can_note());
  const auto told = scene.tell();
  REQUIRE(told.size() == KeeperCore::kNotes);
  for (size_t i = 0; i < told.size(); ++i) CHECK(told[i].pid == 1000 + static_cast<int32_t>(i));
  CHECK(told[0].slot == kUnslotted);
  CHECK(scene.core->can_note());
  scene.core->note({2000, 5, 0, 1});
  REQUIRE(scene.hold(0, 1, 1063, 0, Fate::kGone) == 0);
  CHECK(scene.core->slot(0).code == 63);
  REQUIRE(scene.hold(1, 1, 1000, 0, Fate::kGone) == 0);  // the oldest was overwritten
  CHECK(scene.core->slot(1).flags == kSlotExitUnknown);
}

TEST_CASE("keeper: a hold after the end takes the newest status, once") {
  Scene scene;
  scene.core->note({700, 1, 0, 10});
  scene.core->note({700, 0, 9, 20});
  REQUIRE(scene.hold(0, 1, 700, 0, Fate::kGone) == 0);
  CHECK(scene.core->slot(0).signal == 9);
  CHECK(scene.core->slot(0).time == 20);
  const auto told = scene.tell();
  REQUIRE(told.size() == 2);  // the slot's, and the older one that nobody has claimed
  CHECK(told[0].slot == 0);
  CHECK(told[1].slot == kUnslotted);
  REQUIRE(scene.hold(1, 1, 700, 0, Fate::kGone) == 0);
  REQUIRE(scene.hold(2, 1, 700, 0, Fate::kGone) == 0);
  CHECK(scene.core->slot(1).code == 1);
  CHECK(scene.core->slot(2).flags == kSlotExitUnknown);
  const auto rest = scene.tell();
  REQUIRE(rest.size() == 2);
  CHECK(rest[1].flags == kExitUnknown);
}

TEST_CASE("keeper: the number of an exited process may be used again") {
  Scene scene;
  REQUIRE(scene.hold(0, 1, 700) == 0);
  scene.core->note({700, 3, 0, 1});
  REQUIRE(scene.hold(1, 2, 700) == 0);
  scene.core->note({700, 4, 0, 2});
  CHECK(scene.core->slot(0).code == 3);
  CHECK(scene.core->slot(1).code == 4);
}

TEST_CASE("keeper: nobody hears, nothing piles up") {
  Scene scene;
  scene.core->note({1, 0, 0, 1});
  scene.core->unheard();
  for (int32_t pid = 1000; pid < 1300; ++pid) {
    REQUIRE(scene.core->can_note());
    scene.core->note({pid, 0, 0, 1});
  }
  scene.start();
  CHECK(scene.tell().empty());
}

TEST_CASE("keeper: strangers are said to be strangers and are not mistaken") {
  Scene scene;
  REQUIRE(scene.hold(0, 1, 800, 0, Fate::kStranger) == 0);
  CHECK(scene.core->slot(0).flags == kSlotForeign);
  scene.core->note({800, 1, 0, 1});
  CHECK(scene.core->slot(0).state == SlotState::kHeld);
}

TEST_CASE("keeper: crashes are counted with their times") {
  Scene scene;
  for (int i = 1; i <= 10; ++i) {
    scene.core->ended({kSupervisorPid, 3, 0, 1}, true, i * 1000);
    CHECK(scene.table.supervisor_pid == 0);
    scene.start();
  }
  scene.core->ended({kSupervisorPid, 0, 0, 1}, false, 99);
  CHECK(scene.table.crashes == 10);
  CHECK(scene.table.starts == 11);
  CHECK(scene.table.last_code == 3);
  CHECK(scene.table.crash_times[10 % kKeeperCrashes] == 10'000);
  CHECK(scene.table.crash_times[3] == 3000);
}

TEST_CASE("keeper: the next one takes over the table") {
  Scene scene;
  REQUIRE(scene.hold(0, 1, 900, 1) == 0);
  REQUIRE(scene.hold(1, 1, 901, 1) == 0);
  REQUIRE(scene.hold(2, 1, 902) == 0);
  scene.core->note({902, 8, 0, 1});
  auto& slots = *keeper_slots(&scene.table);
  (&slots)[3].state = static_cast<SlotState>(77);
  (&slots)[1].fds[3] = 5;  // no held number
  scene.table.used = 1000;

  KeeperCore& next = *(scene.core = std::make_unique<KeeperCore>());
  scene.pids.assign(kSlots, 0);
  next.open(&scene.table, scene.pids.data(), 200);
  CHECK(next.used() == kSlots);
  CHECK(next.adopted_pid(0) == 900);
  CHECK(next.adopted_pid(2) == 0);
  CHECK(next.adopted_pid(3) == 0);
  next.adopt(0, false);
  next.adopt(1, true);
  scene.start();
  CHECK(next.slot(0).flags == kSlotForeign);
  next.note({900, 1, 0, 1});
  next.note({901, 6, 0, 1});
  CHECK(next.slot(0).state == SlotState::kHeld);
  CHECK(next.slot(1).code == 6);
  CHECK(scene.tell().size() == 3);
  scene.release(1);
  CHECK(scene.closed.size() == 1);
}

TEST_CASE("keeper: back-off") {
  constexpr int64_t kShort = 999'999'999, kLong = 1'000'000'000;
  CHECK(keeper_backoff(0, kShort, false) == 100);
  CHECK(keeper_backoff(100, kShort, false) == 200);
  CHECK(keeper_backoff(3200, kShort, false) == 5000);
  CHECK(keeper_backoff(5000, kShort, false) == 5000);
  CHECK(keeper_backoff(5000, kLong, false) == 0);
  CHECK(keeper_backoff(0, kShort, true) == 100);
  CHECK(keeper_backoff(5000, kShort, true) == 100);
  CHECK(keeper_backoff(100, kLong, true) == 0);
}

TEST_CASE("keeper: a holder is needed for runs, if it can be asked") {
  Scene scene;
  CHECK_FALSE(needs_holder(scene.table));
  REQUIRE(scene.hold(kSelfSlot, 0, 0, 0b1111) == 0);
  REQUIRE(scene.hold(kFirstRunSlot + 1, 7, 0, 0b0101) == 0);
  CHECK_FALSE(needs_holder(scene.table));  // nobody could ask for it
  REQUIRE(scene.hold(kListenerSlot, 0, 0, 1u << kClientsSocket) == 0);
  CHECK_FALSE(needs_holder(scene.table));
  REQUIRE(scene.hold(kListenerSlot, 0, 0, 1u << kHandoverSocket) == 0);
  CHECK(needs_holder(scene.table));
  scene.table.used = kSlots + 1;
  CHECK_FALSE(needs_holder(scene.table));
  scene.table.used = kFirstRunSlot + 2;
  int32_t dropped[kKeeperFds];
  scene.core->release(kFirstRunSlot + 1, dropped);
  CHECK_FALSE(needs_holder(scene.table));
}

TEST_CASE("keeper: a slot as it is handed over") {
  Scene scene;
  REQUIRE(scene.hold(5, uint64_t{9} << 32 | 2, 77, 0b0110) == 0);
  int32_t fds[kKeeperFds];
  unsigned count = 99;
  const KeeperFrame frame = handover_frame(scene.table, 5, fds, count);
  CHECK(check_keeper_frame(&frame, sizeof frame) == nullptr);
  CHECK(frame.tag == KeeperTag::kHandoverSlot);
  CHECK(frame.slot == 5);
  CHECK(frame.owner == (uint64_t{9} << 32 | 2));
  CHECK(frame.pid == 77);
  CHECK(frame.mask == 0b0110);
  REQUIRE(count == 2);
  CHECK(fds[0] == scene.core->slot(5).fds[1]);
  CHECK(fds[1] == scene.core->slot(5).fds[2]);
}

TEST_CASE("keeper: a supervisor that keeps its word is left alone, one that does not is killed once") {
  using Verdict = KeeperWatch::Verdict;
  constexpr int64_t kPatience = 100;
  KeeperWatch watch = {};
  CHECK(watch.due() == 0);
  CHECK(watch.look(1'000'000) == Verdict::kWait);  // nobody asked
  watch.started();
  for (int64_t at = 10; at < 1000; at += 60) {
    watch.beat(at, kPatience);
    CHECK(watch.due() == at + kPatience);
    CHECK(watch.look(at + kPatience - 1) == Verdict::kWait);
  }
  watch.beat(1000, kPatience);
  CHECK(watch.look(1100) == Verdict::kTell);
  CHECK(watch.due() == 1150);
  SECTION("late, but there") {
    watch.beat(1149, kPatience);
    CHECK(watch.look(1150) == Verdict::kWait);
    CHECK(watch.look(1249) == Verdict::kTell);
  }
  SECTION("it hangs: the manager hears the keeper until the next one speaks") {
    CHECK(watch.look(1150) == Verdict::kKill);
    CHECK(watch.look(1250) == Verdict::kTell);
    CHECK(watch.look(1350) == Verdict::kTell);
    watch.started();
    CHECK(watch.look(1449) == Verdict::kWait);
    for (int64_t at = 1450; at < 3000; at += 100) CHECK(watch.look(at) == Verdict::kTell);
    watch.beat(3000, kPatience);
    CHECK(watch.look(3100) == Verdict::kTell);
    CHECK(watch.look(3150) == Verdict::kKill);
  }
  SECTION("its end comes between") {
    watch.started();
    CHECK(watch.look(1150) == Verdict::kTell);
  }
  SECTION("it says that it will be silent") {
    watch.beat(1120, 0);
    CHECK(watch.due() == 0);
    CHECK(watch.look(9999) == Verdict::kWait);
  }
}

TEST_CASE("keeper: only the end that the keeper saw to is one of a supervisor that hung") {
  Scene scene;
  scene.crash();
  CHECK(scene.table.hung == 0);
  scene.core->hangs();
  scene.crash();
  CHECK(scene.table.hung == scene.table.crashes);
  scene.crash();
  CHECK(scene.table.hung != scene.table.crashes);
}
