// open_plan(): after it no offset, count or slot of a Plan needs another check.
#include "sys/init/plan.h"

namespace gantry::init {
namespace {

constexpr uint64_t kNamespaceFlags = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 |
                                     0x40000000 | 0x00000080;  // CLONE_NEW*
constexpr uint64_t kCloneNewTimeFlag = 0x00000080;
constexpr uint32_t kMaxJoins = 16, kMaxSlots = 1024, kMaxFilter = 4096;

/// What every check needs. The first complaint wins.
struct Checker {
  PlanView plan;
  const char* wrong = nullptr;

  void require(bool holds, const char* complaint) {
    if (!holds && wrong == nullptr) wrong = complaint;
  }
  const char* bytes(uint32_t offset) const { return plan.arena + offset; }
  uint32_t arena_size() const { return plan.header->arena_size; }
};

/// Length up to the NUL, or `limit` when there is none.
uint32_t bounded_length(const char* text, uint32_t limit) {
  uint32_t size = 0;
  while (size < limit && text[size] != '\0') ++size;
  return size;
}

bool absent(Ref ref) {
  return ref.offset == 0 && ref.length == 0;
}

bool inside(const Checker& check, Ref ref) {
  return ref.offset != 0 && ref.offset <= check.arena_size() && ref.length <= check.arena_size() - ref.offset;
}

void check_label(Checker& check, uint32_t label) {
  if (label == 0) return;
  check.require(label < check.arena_size(), "plan: label outside of the arena");
  if (check.wrong != nullptr) return;
  const uint32_t room = check.arena_size() - label;
  check.require(bounded_length(check.bytes(label), room) < room, "plan: label without end");
}

void check_text(Checker& check, Ref ref) {
  check.require(inside(check, ref) && ref.length < check.arena_size() - ref.offset,
                "plan: string outside of the arena");
  if (check.wrong != nullptr) return;
  check.require(bounded_length(check.bytes(ref.offset), ref.length + 1) == ref.length,
                "plan: string of another length than it says");
}

void check_optional_text(Checker& check, Ref ref) {
  if (!absent(ref)) check_text(check, ref);
}

/// `count` strings, each with its NUL, that fill the piece exactly.
void check_list(Checker& check, Ref ref, uint64_t count) {
  if (count == 0 && absent(ref)) return;
  check.require(inside(check, ref) && ref.length > 0, "plan: list outside of the arena");
  if (check.wrong != nullptr) return;
  const char* list = check.bytes(ref.offset);
  uint64_t found = 0;
  for (uint32_t i = 0; i < ref.length; ++i) found += list[i] == '\0' ? 1 : 0;
  check.require(list[ref.length - 1] == '\0' && found == count, "plan: list of another number of strings");
}

/// Structures: `count` of them, aligned.
template <class T>
const T* check_blob(Checker& check, Ref ref, uint64_t count = 1) {
  check.require(inside(check, ref) && count > 0 && count <= kPlanMaxSize / sizeof(T) &&
                    ref.length == count * sizeof(T) && ref.offset % alignof(T) == 0,
                "plan: structure of a wrong size or place");
  return check.wrong != nullptr ? nullptr : reinterpret_cast<const T*>(check.bytes(ref.offset));
}

void check_slot(Checker& check, uint64_t slot) {
  check.require(slot < check.plan.header->slot_count, "plan: slot that is not passed");
}

void check_optional_slot(Checker& check, uint64_t slot) {
  if (static_cast<int64_t>(slot) != kNoSlot) check_slot(check, slot);
}

void check_mount(Checker& check, const Step& step) {
  check_optional_text(check, step.s[0]);
  check_text(check, step.s[1]);
  const auto* args = check_blob<MountArgs>(check, step.s[2]);
  if (args == nullptr) return;
  check.require(args->kind >= MountKind::kFilesystem && args->kind <= MountKind::kRemount, "plan: unknown mount kind");
  check.require(args->kind != MountKind::kBind || !absent(step.s[0]), "plan: bind mount without a source");
  check.require(args->keep <= kMaxKept, "plan: too many kept mounts");
  if (args->kind == MountKind::kFilesystem) check_text(check, args->fstype);
  check_list(check, args->data, args->data_count);
  check_optional_text(check, args->uid_map);
  check_optional_text(check, args->gid_map);
  check_optional_text(check, args->fallback);
}

void check_identity(Checker& check, const Step& step) {
  const auto* args = check_blob<IdentityArgs>(check, step.s[0]);
  if (args == nullptr) return;
  check.require(args->group_count <= 65536, "plan: too many groups");
  if (args->group_count > 0) check_blob<uint32_t>(check, args->groups, args->group_count);
}

void check_start_hooks(Checker& check, const Step& step) {
  if (step.n[0] == 0) return;
  const auto* hooks = check_blob<HookArgs>(check, step.s[0], step.n[0]);
  for (uint64_t i = 0; hooks != nullptr && check.wrong == nullptr && i < step.n[0]; ++i) {
    check_text(check, hooks[i].path);
    check.require(hooks[i].argc > 0, "plan: hook without arguments");
    check_list(check, hooks[i].argv, hooks[i].argc);
    check_list(check, hooks[i].env, hooks[i].envc);
    check_optional_text(check, hooks[i].state);
  }
}

void check_exec(Checker& check, const Step& step) {
  check.require(step.n[0] > 0, "plan: exec without arguments");
  check_list(check, step.s[0], step.n[0]);
  check_list(check, step.s[1], step.n[1]);
  check_optional_text(check, step.s[2]);
}

void check_seccomp(Checker& check, const Step& step) {
  constexpr uint32_t kFilterSize = 8;  // struct sock_filter
  check_blob<uint32_t>(check, step.s[0], step.s[0].length / sizeof(uint32_t));
  check.require(step.s[0].length % kFilterSize == 0 && step.s[0].length / kFilterSize <= kMaxFilter,
                "plan: seccomp filter of an impossible size");
}

/// Operations that carry only one string.
bool is_text_op(Op op) {
  switch (op) {
    case Op::kTimeOffsets:
    case Op::kKeyring:
    case Op::kRootfs:
    case Op::kMkdir:
    case Op::kReadonlyPath:
    case Op::kMaskedPath:
    case Op::kHostname:
    case Op::kDomainname:
    case Op::kApparmor:
    case Op::kMkCwd:
    case Op::kChdir:
      return true;
    default:
      return false;
  }
}

void check_step(Checker& check, const Step& step) {
  check_label(check, step.label);
  if (is_text_op(step.op)) return check_text(check, step.s[0]);
  switch (step.op) {
    case Op::kMount:
      return check_mount(check, step);
    case Op::kDevice:
      check_text(check, step.s[0]);
      if ((step.flags & kStepBind) != 0) check_text(check, step.s[1]);
      return check_optional_text(check, step.s[1]);
    case Op::kSymlink:
    case Op::kSysctl:
      check_text(check, step.s[0]);
      return check_text(check, step.s[1]);
    case Op::kLookPath:
      check_text(check, step.s[0]);
      return check_optional_text(check, step.s[1]);
    case Op::kHooks:
      return check.require(step.n[0] <= 1, "plan: unknown hook point");
    case Op::kConsole:
      return check_slot(check, step.n[0]);
    case Op::kPidfdSocket:
      check_text(check, step.s[0]);
      return check_slot(check, step.n[0]);
    case Op::kSetAttr:
      return check.require(step.n[2] == ~uint64_t{0} || step.n[2] < kMaxKept, "plan: kept mount out of range");
    case Op::kIdentity:
      return check_identity(check, step);
    case Op::kSeccompAnnounce:
      return check.require(step.n[0] >= 3 && step.n[0] < 1024, "plan: impossible fd number for a listener");
    case Op::kSeccomp:
      return check_seccomp(check, step);
    case Op::kWaitStart:
      check_slot(check, step.n[0]);
      return check_optional_slot(check, step.n[1]);
    case Op::kStartHooks:
      return check_start_hooks(check, step);
    case Op::kPlaceFds:
      return check.require(step.n[1] == 0 || (step.n[0] < check.plan.header->slot_count &&
                                              step.n[1] <= check.plan.header->slot_count - step.n[0]),
                           "plan: fds to place that are not passed");
    case Op::kExec:
      return check_exec(check, step);
    default:
      return check.require(step.op > Op::kInvalid && step.op < Op::kCount, "plan: unknown operation");
  }
}

/// A table of `count` entries of `each` bytes at `offset`.
bool table_fits(const Header& header, uint32_t offset, uint32_t count, size_t each) {
  return offset >= sizeof(Header) && offset % 8 == 0 && offset <= header.size && count <= (header.size - offset) / each;
}

const char* check_header(const Header& header, size_t size) {
  if (header.magic != kPlanMagic) return "plan: wrong magic";
  if (header.version != kPlanVersion) return "plan: another version";
  if (header.size != size) return "plan: another size than it says";
  if (header.kind < Kind::kContainer || header.kind > Kind::kHook) return "plan: unknown kind";
  if (header.flags > (kHeaderNoClone | kHeaderOomScore | kHeaderKeepDumpable | kHeaderJoinEarly | kHeaderTargetRoot |
                      kHeaderCgroupByWrite | kHeaderCommitAhead))
    return "plan: unknown flags";
  if ((header.clone_flags & ~kNamespaceFlags) != 0 || (header.target_flags & ~kNamespaceFlags) != 0)
    return "plan: clone flags that are not namespaces";
  if ((header.clone_flags & kCloneNewTimeFlag) != 0) return "plan: a time namespace cannot be cloned with its offsets";
  if (header.slot_count > kMaxSlots) return "plan: too many slots";
  const auto slots = static_cast<int32_t>(header.slot_count);
  if (header.cgroup_slot < kNoSlot || header.cgroup_slot >= slots) return "plan: cgroup slot that is not passed";
  if (header.target_slot < kNoSlot || header.target_slot >= slots) return "plan: target slot that is not passed";
  if (header.join_count > kMaxJoins) return "plan: too many namespaces to join";
  if (!table_fits(header, header.join_offset, header.join_count, sizeof(Join))) return "plan: joins do not fit";
  if (!table_fits(header, header.step_offset, header.step_count, sizeof(Step))) return "plan: steps do not fit";
  if (!table_fits(header, header.arena_offset, header.arena_size, 1)) return "plan: arena does not fit";
  return nullptr;
}

}  // namespace

const char* open_plan(const void* data, size_t size, PlanView* out) {
  if (size < sizeof(Header) || size > kPlanMaxSize) return "plan: impossible size";
  if (reinterpret_cast<uintptr_t>(data) % alignof(Header) != 0) return "plan: not aligned";
  const auto* base = static_cast<const char*>(data);
  const auto* header = reinterpret_cast<const Header*>(base);
  if (const char* wrong = check_header(*header, size)) return wrong;

  Checker check{{base, header, reinterpret_cast<const Join*>(base + header->join_offset),
                 reinterpret_cast<const Step*>(base + header->step_offset), base + header->arena_offset}};
  for (uint32_t i = 0; i < header->join_count && check.wrong == nullptr; ++i) {
    const Join& join = check.plan.joins[i];
    check.require(join.clone_flag != 0 && (join.clone_flag & ~kNamespaceFlags) == 0, "plan: join of no namespace");
    check_label(check, join.label);
    check_text(check, join.path);
  }
  if (check.wrong == nullptr) check_list(check, header->cgroup_files, header->cgroup_file_count);
  for (uint32_t i = 0; i < header->step_count && check.wrong == nullptr; ++i) check_step(check, check.plan.steps[i]);
  if (check.wrong == nullptr) *out = check.plan;
  return check.wrong;
}

}  // namespace gantry::init
