#include "engine/plan_build.h"

#include "engine/plan_parts.h"
#include "sys/text.h"

namespace gantry {

namespace {

void set_slots(PlanWriter& writer, int count) {
  writer.header().slot_count = static_cast<uint32_t>(count);
}

void set_oom_score(PlanWriter& writer, const Process& process) {
  if (!process.oom_score_adj) return;
  writer.header().flags |= init::kHeaderOomScore;
  writer.header().oom_score_adj = *process.oom_score_adj;
}

/// The cgroup and CPU steps with which every process of a container begins.
void add_cgroup_entry(PlanWriter& writer, const PlanContext& context) {
  if (context.join_files) {
    writer.header().cgroup_files = writer.list(*context.join_files);
    writer.header().cgroup_file_count = static_cast<uint32_t>(context.join_files->size());
  } else if (context.join_early) {
    writer.header().flags |= init::kHeaderJoinEarly;
  } else if (context.cgroup_mode == PlanCgroups::kV1) {
    writer.step(init::Op::kJoinCgroups, "cgroup");
  }
  // v2, and the cgroup2 tree of a hybrid host.
  writer.header().cgroup_slot = context.slots.cgroup_dir;
  if (context.cgroup_by_write) writer.header().flags |= init::kHeaderCgroupByWrite;
  writer.step(init::Op::kResetAffinity, "cgroup");
}

Result<> add_inside(plan::Draft& draft) {
  GANTRY_TRY(plan::add_root(draft));
  if (draft.has_mount_namespace()) GANTRY_TRY(plan::add_mounts(draft));
  plan::add_devices(draft);
  GANTRY_TRY(plan::add_pivot(draft));
  if (draft.spec.process) {
    GANTRY_TRY(plan::add_console(draft.writer, *draft.spec.process, draft.context, draft.has_mount_namespace()));
  }
  plan::add_finish(draft);
  return {};
}

}  // namespace

uint64_t container_namespaces(const Spec& spec) {
  uint64_t flags = 0;
  for (size_t i = 0; i < kNamespaceTypes; ++i) {
    if (spec.namespaces[i].wanted) flags |= plan::clone_flag(static_cast<NamespaceType>(i));
  }
  return flags;
}

Result<std::string> build_container_plan(const Spec& spec, const PlanContext& context) {
  plan::Draft draft{spec, context};
  draft.writer.header().kind = init::Kind::kContainer;
  set_slots(draft.writer, context.slots.count);
  if (spec.process) set_oom_score(draft.writer, *spec.process);

  add_cgroup_entry(draft.writer, context);
  plan::add_namespaces(draft);
  GANTRY_TRY(add_inside(draft));
  if (spec.process) {
    GANTRY_TRY(plan::add_process(draft.writer, *spec.process, context, plan::Role::kInit, spec.hooks.start_container));
  } else {
    plan::add_ready(draft.writer);
    plan::add_wait_start(draft.writer, context);
  }
  return draft.writer.finish();
}

Result<std::string> build_exec_plan(const Spec& container, const Process& process, const PlanContext& context) {
  if (context.slots.target_pidfd == init::kNoSlot) return fail("exec: the container's init is not known");
  PlanWriter writer;
  writer.header().kind = init::Kind::kExec;
  writer.header().target_slot = context.slots.target_pidfd;
  writer.header().target_flags = container_namespaces(container);
  if (!container.ns(NamespaceType::kMount).wanted) writer.header().flags |= init::kHeaderTargetRoot;
  if (context.commit_ahead) writer.header().flags |= init::kHeaderCommitAhead;
  set_slots(writer, context.slots.count);
  set_oom_score(writer, process);

  add_cgroup_entry(writer, context);
  writer.step(init::Op::kSetsid);
  plan::add_keyring(writer, context);
  GANTRY_TRY(plan::add_console(writer, process, context, false));
  GANTRY_TRY(plan::add_process(writer, process, context, plan::Role::kExec, {}));
  return writer.finish();
}

}  // namespace gantry
