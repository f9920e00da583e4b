// Namespaces and the session: everything of a container's Plan before the rootfs.
#include <sched.h>

#include "engine/plan_parts.h"
#include "sys/text.h"

// glibc 2.36 has it only with newer headers than some builders.
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace gantry::plan {

namespace {

/// The root directory of /dev/mqueue belongs to whoever makes the ipc namespace: that must be the container's root,
/// whom there is only once the ids are mapped.
bool makes_ipc_late(const Spec& spec) {
  return spec.creates(NamespaceType::kIpc) && spec.creates(NamespaceType::kUser);
}

/// The namespaces that clone3 makes: never time (its offsets would be fixed already), and cgroup only where the
/// clone itself enters the cgroup, since the namespace is rooted at the cgroup of the moment.
uint64_t cloned_namespaces(const Spec& spec, PlanCgroups mode) {
  uint64_t flags = 0;
  for (size_t i = 0; i < kNamespaceTypes; ++i) {
    const auto type = static_cast<NamespaceType>(i);
    if (!spec.creates(type) || type == NamespaceType::kTime) continue;
    if (type == NamespaceType::kCgroup && mode == PlanCgroups::kV1) continue;
    if (type == NamespaceType::kIpc && makes_ipc_late(spec)) continue;
    flags |= clone_flag(type);
  }
  return flags;
}

void add_joins(Draft& draft) {
  for (size_t i = 0; i < kNamespaceTypes; ++i) {
    const auto type = static_cast<NamespaceType>(i);
    if (!draft.spec.joins(type)) continue;
    const std::string& path = draft.spec.ns(type).path;
    draft.writer.join(clone_flag(type), cat("linux.namespaces ", namespace_name(type), " ", path), path);
  }
}

std::string offset_line(std::string_view clock, const std::optional<TimeOffset>& offset) {
  const TimeOffset value = offset.value_or(TimeOffset{});
  return cat(clock, " ", value.secs, " ", value.nanosecs, "\n");
}

void add_time_namespace(Draft& draft) {
  const std::string text =
      offset_line("monotonic", draft.spec.time_monotonic) + offset_line("boottime", draft.spec.time_boottime);
  step_with(draft.writer, init::Op::kTimeOffsets, "linux.timeOffsets", text);
}

}  // namespace

uint64_t clone_flag(NamespaceType type) {
  switch (type) {
    case NamespaceType::kMount:
      return CLONE_NEWNS;
    case NamespaceType::kPid:
      return CLONE_NEWPID;
    case NamespaceType::kNetwork:
      return CLONE_NEWNET;
    case NamespaceType::kIpc:
      return CLONE_NEWIPC;
    case NamespaceType::kUts:
      return CLONE_NEWUTS;
    case NamespaceType::kUser:
      return CLONE_NEWUSER;
    case NamespaceType::kCgroup:
      return CLONE_NEWCGROUP;
    case NamespaceType::kTime:
      return CLONE_NEWTIME;
  }
  return 0;
}

init::Step& step_with(PlanWriter& writer, init::Op op, std::string_view label, std::string_view first) {
  const init::Ref ref = writer.text(first);
  init::Step& step = writer.step(op, label);
  step.s[0] = ref;
  return step;
}

void add_keyring(PlanWriter& writer, const PlanContext& context) {
  if (context.no_new_keyring) return;
  step_with(writer, init::Op::kKeyring, "session keyring", cat("_ses.", context.id));
}

void add_namespaces(Draft& draft) {
  const Spec& spec = draft.spec;
  PlanWriter& writer = draft.writer;
  writer.header().clone_flags = cloned_namespaces(spec, draft.context.cgroup_mode);
  add_joins(draft);
  if (spec.creates(NamespaceType::kCgroup) && draft.context.cgroup_mode == PlanCgroups::kV1) {
    writer.step(init::Op::kUnshare, "linux.namespaces cgroup").n[0] = CLONE_NEWCGROUP;
  }
  if (spec.creates(NamespaceType::kUser)) {
    writer.header().flags |= init::kHeaderKeepDumpable;
    writer.step(init::Op::kMaps, "linux.uidMappings");
  }
  if (makes_ipc_late(spec)) writer.step(init::Op::kUnshare, "linux.namespaces ipc").n[0] = CLONE_NEWIPC;
  if (spec.creates(NamespaceType::kTime)) add_time_namespace(draft);
  writer.step(init::Op::kSetsid);
  add_keyring(writer, draft.context);
  if (spec.creates(NamespaceType::kNetwork)) writer.step(init::Op::kLoopback, "loopback device");
}

}  // namespace gantry::plan
