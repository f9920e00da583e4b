// open_plan(): whatever it accepts can be walked without leaving the buffer.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "sys/init/plan.h"

namespace gantry::init {

namespace {

size_t walked = 0;

void walk_text(const PlanView& plan, Ref ref) {
  const char* value = text(plan, ref);
  if (value == nullptr) return;
  if (std::strlen(value) != ref.length) std::abort();
  walked += ref.length;
}

void walk_list(const PlanView& plan, Ref list, uint64_t count) {
  const char* entry = plan.arena + list.offset;
  for (uint64_t i = 0; i < count; ++i) entry += std::strlen(entry) + 1;
  if (count > 0 && entry != plan.arena + list.offset + list.length) std::abort();
}

void walk_step(const PlanView& plan, const Step& step) {
  if (step.label != 0) walked += std::strlen(plan.arena + step.label);
  if (step.op == Op::kMount) {
    const auto* args = reinterpret_cast<const MountArgs*>(plan.arena + step.s[2].offset);
    walk_text(plan, step.s[0]);
    walk_text(plan, step.s[1]);
    walk_list(plan, args->data, args->data_count);
    if (args->kind == MountKind::kFilesystem) walk_text(plan, args->fstype);
    walk_text(plan, args->uid_map);
    walk_text(plan, args->gid_map);
    walk_text(plan, args->fallback);
  } else if (step.op == Op::kExec) {
    walk_list(plan, step.s[0], step.n[0]);
    walk_list(plan, step.s[1], step.n[1]);
    walk_text(plan, step.s[2]);
  } else if (step.op == Op::kStartHooks) {
    const auto* hooks = reinterpret_cast<const HookArgs*>(plan.arena + step.s[0].offset);
    for (uint64_t i = 0; i < step.n[0]; ++i) {
      walk_text(plan, hooks[i].path);
      walk_list(plan, hooks[i].argv, hooks[i].argc);
      walk_list(plan, hooks[i].env, hooks[i].envc);
      walk_text(plan, hooks[i].state);
    }
  } else if (step.op == Op::kIdentity) {
    const auto* args = reinterpret_cast<const IdentityArgs*>(plan.arena + step.s[0].offset);
    const auto* groups = reinterpret_cast<const uint32_t*>(plan.arena + args->groups.offset);
    for (uint32_t i = 0; i < args->group_count; ++i) walked += groups[i];
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Of the exact size, so that the sanitizer sees the first byte behind it; from operator new it is aligned.
  std::vector<uint8_t> bytes(data, data + size);
  PlanView plan = {};
  if (open_plan(bytes.data(), bytes.size(), &plan) != nullptr) return 0;
  for (uint32_t i = 0; i < plan.header->join_count; ++i) walk_text(plan, plan.joins[i].path);
  for (uint32_t i = 0; i < plan.header->step_count; ++i) walk_step(plan, plan.steps[i]);
  return 0;
}

}  // namespace gantry::init
