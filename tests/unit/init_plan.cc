#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <vector>

#include "sys/init/plan.h"

using namespace gantry::init;

namespace {

/// A small Plan that is changed by hand to be wrong in one way.
struct Draft {
  Header header = {};
  std::vector<Join> joins;
  std::vector<Step> steps;
  std::string arena = std::string(8, '\0');

  Draft() {
    header.magic = kPlanMagic;
    header.version = kPlanVersion;
    header.kind = Kind::kContainer;
    header.cgroup_slot = header.target_slot = kNoSlot;
    header.slot_count = 3;
  }
  Ref bytes(const void* data, size_t size) {
    arena.resize((arena.size() + 7) / 8 * 8, '\0');
    const auto at = static_cast<uint32_t>(arena.size());
    arena.append(static_cast<const char*>(data), size);
    return {at, static_cast<uint32_t>(size)};
  }
  Ref text(const std::string& value) {
    Ref ref = bytes(value.c_str(), value.size() + 1);
    ref.length -= 1;
    return ref;
  }
  template <class T>
  Ref blob(const T& value) {
    return bytes(&value, sizeof value);
  }
  Step& step(Op op) {
    Step made = {};
    made.op = op;
    return steps.emplace_back(made);
  }
  Step& text_step(Op op, const std::string& value) {
    const Ref ref = text(value);
    Step& made = step(op);
    made.s[0] = ref;
    return made;
  }

  std::vector<uint64_t> storage;
  std::string_view build() {
    header.join_offset = sizeof header;
    header.join_count = static_cast<uint32_t>(joins.size());
    header.step_offset = static_cast<uint32_t>(header.join_offset + joins.size() * sizeof(Join));
    header.step_count = static_cast<uint32_t>(steps.size());
    header.arena_offset = static_cast<uint32_t>(header.step_offset + steps.size() * sizeof(Step));
    header.arena_size = static_cast<uint32_t>(arena.size());
    header.size = static_cast<uint32_t>(header.arena_offset + arena.size());
    return lay_out();
  }
  std::string_view lay_out() {
    std::string all(reinterpret_cast<const char*>(&header), sizeof header);
    all.append(reinterpret_cast<const char*>(joins.data()), joins.size() * sizeof(Join));
    all.append(reinterpret_cast<const char*>(steps.data()), steps.size() * sizeof(Step));
    all.append(arena);
    storage.assign(all.size() / 8 + 1, 0);
    std::memcpy(storage.data(), all.data(), all.size());
    return {reinterpret_cast<const char*>(storage.data()), all.size()};
  }
  std::string judge() { return verdict(build()); }
  static std::string verdict(std::string_view bytes) {
    PlanView view = {};
    const char* wrong = open_plan(bytes.data(), bytes.size(), &view);
    return wrong != nullptr ? wrong : "";
  }
};

}  // namespace

TEST_CASE("a plan of every kind of step opens and its texts can be read") {
  Draft draft;
  draft.text_step(Op::kRootfs, "/rootfs");
  MountArgs mount = {};
  mount.kind = MountKind::kFilesystem;
  mount.fstype = draft.text("tmpfs");
  const std::string list("mode=755\0size=1k", 17);
  mount.data = draft.bytes(list.data(), list.size());
  mount.data_count = 2;
  const Ref blob = draft.blob(mount), destination = draft.text("/dev");
  Step& mounting = draft.step(Op::kMount);
  mounting.s[1] = destination;
  mounting.s[2] = blob;
  const std::string argv("sh\0-c\0", 6);
  const Ref arguments = draft.bytes(argv.data(), argv.size());
  Step& exec = draft.step(Op::kExec);
  exec.s[0] = arguments;
  exec.n[0] = 2;
  const std::string_view bytes = draft.build();
  PlanView view = {};
  REQUIRE(open_plan(bytes.data(), bytes.size(), &view) == nullptr);
  CHECK(std::string(text(view, view.steps[0].s[0])) == "/rootfs");
  CHECK(std::string(text(view, view.steps[1].s[1])) == "/dev");
  CHECK(text(view, view.steps[1].s[0]) == nullptr);
  CHECK(view.header->step_count == 3);
}

TEST_CASE("a plan that is cut, grown or foreign is refused") {
  Draft draft;
  draft.text_step(Op::kHostname, "name");
  const std::string_view whole = draft.build();
  REQUIRE(Draft::verdict(whole).empty());
  for (size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(Draft::verdict(whole.substr(0, size)).empty());
  CHECK(Draft::verdict({whole.data(), whole.size() + 1}) == "plan: another size than it says");
  CHECK(Draft::verdict({whole.data() + 1, whole.size() - 1}) == "plan: not aligned");

  Draft magic = draft;
  magic.header.magic ^= 1;
  CHECK(magic.judge() == "plan: wrong magic");
  Draft version = draft;
  version.header.version = 2;
  CHECK(version.judge() == "plan: another version");
}

TEST_CASE("texts must lie in the arena, end there and have the length they say") {
  Draft draft;
  Step& step = draft.text_step(Op::kHostname, "name");
  step.s[0].length = 3;
  CHECK(draft.judge() == "plan: string of another length than it says");
  step.s[0].length = 5;
  CHECK(draft.judge() == "plan: string outside of the arena");
  step.s[0] = {0xffffffff, 4};
  CHECK(draft.judge() == "plan: string outside of the arena");
  step.s[0] = {8, 0xffffffff};
  CHECK(draft.judge() == "plan: string outside of the arena");
  step.s[0] = {};
  CHECK(draft.judge() == "plan: string outside of the arena");
  step.s[0] = {8, 4};
  CHECK(draft.judge().empty());
  step.label = 10'000;
  CHECK(draft.judge() == "plan: label outside of the arena");
  step.label = 8;
  CHECK(draft.judge().empty());
  draft.arena.pop_back();
  step.s[0] = {8, 4};
  CHECK(draft.judge() != "");
}

TEST_CASE("lists hold as many strings as their number") {
  Draft draft;
  const std::string argv("a\0b\0", 4);
  const Ref list = draft.bytes(argv.data(), argv.size());
  Step& exec = draft.step(Op::kExec);
  exec.s[0] = list;
  for (const uint64_t count : {uint64_t{1}, uint64_t{3}, ~uint64_t{0}}) {
    exec.n[0] = count;
    CHECK(draft.judge() == "plan: list of another number of strings");
  }
  exec.n[0] = 0;
  CHECK(draft.judge() == "plan: exec without arguments");
  exec.n[0] = 2;
  CHECK(draft.judge().empty());
  exec.n[1] = 1;
  CHECK(draft.judge() == "plan: list outside of the arena");
}

TEST_CASE("slots, kept mounts and numbers have bounds") {
  Draft draft;
  Step& step = draft.step(Op::kConsole);
  step.n[0] = 2;
  CHECK(draft.judge().empty());
  step.n[0] = 3;
  CHECK(draft.judge() == "plan: slot that is not passed");
  step = {};
  step.op = Op::kPlaceFds;
  step.n[0] = 1;
  step.n[1] = 2;
  CHECK(draft.judge().empty());
  step.n[1] = ~uint64_t{0};
  CHECK(draft.judge() == "plan: fds to place that are not passed");
  step = {};
  step.op = Op::kSetAttr;
  step.n[2] = kMaxKept;
  CHECK(draft.judge() == "plan: kept mount out of range");
  step.n[2] = ~uint64_t{0};
  CHECK(draft.judge().empty());
  step = {};
  step.op = Op::kWaitStart;
  step.n[1] = static_cast<uint64_t>(int64_t{kNoSlot});
  CHECK(draft.judge().empty());
  step = {};
  step.op = Op::kCount;
  CHECK(draft.judge() == "plan: unknown operation");
  step.op = Op::kInvalid;
  CHECK(draft.judge() == "plan: unknown operation");
}

TEST_CASE("structures have their size and place") {
  Draft draft;
  IdentityArgs identity = {};
  identity.group_count = 2;
  const uint32_t groups[2] = {1, 2};
  identity.groups = draft.bytes(groups, sizeof groups);
  const Ref blob = draft.blob(identity);
  Step& step = draft.step(Op::kIdentity);
  step.s[0] = blob;
  CHECK(draft.judge().empty());
  step.s[0].offset += 4;
  CHECK(draft.judge() == "plan: structure of a wrong size or place");
  step.s[0] = {blob.offset, blob.length - 8};
  CHECK(draft.judge() == "plan: structure of a wrong size or place");

  const uint64_t filter[2] = {};
  const Ref program = draft.bytes(filter, sizeof filter);
  step = {};
  step.op = Op::kSeccomp;
  step.s[0] = program;
  CHECK(draft.judge().empty());
  step.s[0].length = 12;
  CHECK(draft.judge() == "plan: seccomp filter of an impossible size");
  step.s[0].length = 0;
  CHECK_FALSE(draft.judge().empty());
}

TEST_CASE("a header cannot ask for what no launcher does") {
  Draft draft;
  draft.header.clone_flags = 0x100;  // CLONE_VM
  CHECK(draft.judge() == "plan: clone flags that are not namespaces");
  draft.header.clone_flags = 0x80;  // CLONE_NEWTIME
  CHECK(draft.judge() == "plan: a time namespace cannot be cloned with its offsets");
  draft.header.clone_flags = 0x20000000;
  draft.header.target_slot = 3;
  CHECK(draft.judge() == "plan: target slot that is not passed");
  draft.header.target_slot = kNoSlot;
  draft.header.cgroup_slot = -2;
  CHECK(draft.judge() == "plan: cgroup slot that is not passed");
  draft.header.cgroup_slot = kNoSlot;
  Join join = {};
  join.path = draft.text("/ns");
  draft.joins.push_back(join);
  CHECK(draft.judge() == "plan: join of no namespace");
  draft.joins[0].clone_flag = 0x40000000;
  CHECK(draft.judge().empty());
}

TEST_CASE("tables cannot overlap the end or the header") {
  Draft draft;
  draft.text_step(Op::kHostname, "name");
  draft.build();
  for (uint32_t Header::* offset : {&Header::join_offset, &Header::step_offset, &Header::arena_offset}) {
    for (const uint32_t value : {0u, 7u, 0xfffffff8u, draft.header.size + 8}) {
      Draft bad = draft;
      bad.header.*offset = value;
      CHECK_FALSE(Draft::verdict(bad.lay_out()).empty());
    }
  }
  Draft many = draft;
  many.header.step_count = 0xffffffff;
  CHECK(Draft::verdict(many.lay_out()) == "plan: steps do not fit");
}
