// The keeper's rules under any sequence of requests and exits: no descriptor is lost or closed twice, no exit of a slot
// is lost or told to nobody, and no two slots wait for one process.
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "sys/init/keeper_table.h"

namespace gantry::init {
namespace {

constexpr uint32_t kSlots = 6;

void require(bool holds) {
  if (!holds) std::abort();
}

class Model {
 public:
  Model() {
    make_keeper_table(table(), kSlots);
    core_->open(&table(), pids_.data(), 1);
    start();
  }

  void hold(uint8_t slot, uint8_t owner, uint8_t pid, uint8_t mask, uint8_t fate);
  void release(uint8_t slot);
  void note(uint8_t pid, uint8_t code);
  void tell();
  void crash();
  void take_over(uint8_t children);
  void raw(const uint8_t* data, size_t size);
  void unheard() { core_->unheard(); }
  void check() const;

 private:
  KeeperTable& table() { return *reinterpret_cast<KeeperTable*>(bytes_.data()); }
  void start() {
    core_->starting();
    core_->started(2);
    told_.clear();
  }
  void close(const int32_t (&dropped)[kKeeperFds]) {
    for (const int32_t fd : dropped)
      if (fd >= 0) require(open_.erase(fd) == 1);
  }

  std::vector<char> bytes_ = std::vector<char>(keeper_table_size(kSlots));
  std::vector<int32_t> pids_ = std::vector<int32_t>(kSlots);
  std::unique_ptr<KeeperCore> core_ = std::make_unique<KeeperCore>();
  std::set<int32_t> open_;   ///< held numbers
  std::set<uint32_t> told_;  ///< slots whose exit this supervisor has heard
  int32_t next_fd_ = kFirstHeld;
};

void Model::hold(uint8_t slot, uint8_t owner, uint8_t pid, uint8_t mask, uint8_t fate) {
  KeeperFrame frame = {};
  frame.magic = kKeeperFrameMagic;
  frame.tag = KeeperTag::kHold;
  frame.slot = slot % (kSlots + 1);
  frame.owner = owner % 3;
  frame.pid = pid % 16;
  frame.mask = mask % 16;
  const KeeperVerdict verdict = core_->judge(frame, static_cast<unsigned>(__builtin_popcount(frame.mask)));
  require(verdict.action == KeeperAction::kHold);
  if (verdict.err != 0) return;
  require(frame.slot < kSlots);
  int32_t fds[kKeeperFds], dropped[kKeeperFds];
  for (uint32_t i = 0; i < kKeeperFds; ++i) {
    fds[i] = (frame.mask & 1u << i) != 0 ? next_fd_++ : -1;
    if (fds[i] >= 0) open_.insert(fds[i]);
  }
  core_->hold(frame, fds, static_cast<Fate>(fate % 3), dropped);
  close(dropped);
  require(core_->slot(frame.slot).state != SlotState::kFree);
}

void Model::release(uint8_t slot) {
  int32_t dropped[kKeeperFds];
  core_->release(slot % kSlots, dropped);
  close(dropped);
  told_.erase(slot % kSlots);
  require(core_->slot(slot % kSlots).state == SlotState::kFree);
}

void Model::note(uint8_t pid, uint8_t code) {
  if (core_->can_note()) core_->note({pid % 16 + 1, code, 0, 1});
}

void Model::tell() {
  KeeperFrame frame;
  if (!core_->next_exit(frame)) {
    for (uint32_t i = 0; i < kSlots; ++i) require(core_->slot(i).state != SlotState::kExited || told_.contains(i));
    require(core_->can_note());
    return;
  }
  require(check_keeper_frame(&frame, sizeof frame) == nullptr && frame.tag == KeeperTag::kExited);
  core_->told(frame);
  if (frame.slot == kUnslotted) return;
  require(frame.slot < kSlots && core_->slot(frame.slot).state == SlotState::kExited);
  require(told_.insert(frame.slot).second);
}

void Model::crash() {
  core_->ended({2, 1, 0, 1}, true, 1);
  start();
}

void Model::take_over(uint8_t children) {
  core_ = std::make_unique<KeeperCore>();
  pids_.assign(kSlots, 0);
  core_->open(&table(), pids_.data(), 3);
  for (uint32_t i = 0; i < core_->used(); ++i)
    if (core_->adopted_pid(i) != 0) core_->adopt(i, (children >> i & 1) != 0);
  start();
}

/// Whatever passes the check is judged; nothing else happens.
void Model::raw(const uint8_t* data, size_t size) {
  if (check_keeper_frame(data, size) != nullptr) return;
  KeeperFrame frame;
  std::memcpy(&frame, data, sizeof frame);
  for (unsigned count = 0; count < 8; ++count) {
    const KeeperVerdict verdict = core_->judge(frame, count);
    require(verdict.action != KeeperAction::kRefuse || verdict.err != 0);
    if (verdict.action == KeeperAction::kHold && verdict.err == 0) require(frame.slot < kSlots);
    if (verdict.action == KeeperAction::kRelease && verdict.err == 0) require(frame.slot < kSlots);
  }
}

void Model::check() const {
  std::set<int32_t> seen;
  for (uint32_t i = 0; i < kSlots; ++i) {
    const KeeperSlot& slot = core_->slot(i);
    require(slot.state <= SlotState::kExited);
    if (slot.state == SlotState::kFree) continue;
    require(i < core_->used());
    for (const int32_t fd : slot.fds)
      if (fd >= 0) require(seen.insert(fd).second);
  }
  require(seen == open_);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kStep = 6;
  Model model;
  for (; size >= kStep; data += kStep, size -= kStep) {
    switch (data[0] % 8) {
      case 0:
      case 1:
        model.hold(data[1], data[2], data[3], data[4], data[5]);
        break;
      case 2:
        model.release(data[1]);
        break;
      case 3:
        model.note(data[1], data[2]);
        break;
      case 4:
        model.tell();
        break;
      case 5:
        data[1] < 128 ? model.crash() : model.take_over(data[2]);
        break;
      case 6:
        model.raw(data + 1, size - 1 < sizeof(KeeperFrame) ? size - 1 : sizeof(KeeperFrame));
        break;
      default:
        data[1] < 16 ? model.unheard() : model.tell();
        break;
    }
    model.check();
  }
  return 0;
}

}  // namespace gantry::init
