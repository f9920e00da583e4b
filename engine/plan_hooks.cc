// Hooks: those that init runs itself, and Plans of their own for the others.
#include "engine/plan_parts.h"
#include "sys/text.h"

namespace gantry {

namespace {

/// args of the config are the whole argv (HK-01); without them the path stands alone.
std::vector<std::string> hook_argv(const Hook& hook) {
  return hook.args.empty() ? std::vector<std::string>{hook.path} : hook.args;
}

/// 0 = none. What does not fit is as good as none: 49 days.
uint32_t timeout_ms(const Hook& hook) {
  const int64_t ms = int64_t{hook.timeout_seconds.value_or(0)} * 1000;
  return ms < 0 || ms > UINT32_MAX ? 0 : static_cast<uint32_t>(ms);
}

}  // namespace

namespace plan {

void add_start_hooks(PlanWriter& writer, const std::vector<Hook>& hooks, const std::vector<std::string>& env,
                     const PlanContext& context) {
  if (hooks.empty()) return;
  std::vector<init::HookArgs> all;
  for (size_t i = 0; i < hooks.size(); ++i) {
    const std::vector<std::string> argv = hook_argv(hooks[i]);
    const std::vector<std::string>& variables = hooks[i].env ? *hooks[i].env : env;
    init::HookArgs args = {};
    args.path = writer.text(hooks[i].path);
    args.argv = writer.list(argv);
    args.argc = static_cast<uint32_t>(argv.size());
    args.env = writer.list(variables);
    args.envc = static_cast<uint32_t>(variables.size());
    args.state = writer.text_or_absent(context.start_container_state);
    args.timeout_ms = timeout_ms(hooks[i]);
    args.index = static_cast<uint32_t>(i);
    all.push_back(args);
  }
  const init::Ref blob = writer.bytes(all.data(), all.size() * sizeof(init::HookArgs));
  init::Step& step = writer.step(init::Op::kStartHooks, "hooks.startContainer");
  step.s[0] = blob;
  step.n[0] = hooks.size();
}

}  // namespace plan

Result<std::string> build_hook_plan(const Hook& hook, const HookContext& context) {
  PlanWriter writer;
  init::Header& header = writer.header();
  header.kind = init::Kind::kHook;
  header.slot_count = static_cast<uint32_t>(context.slot_count);
  if (context.target_slot == init::kNoSlot) {
    header.flags |= init::kHeaderNoClone;
  } else {
    header.target_slot = context.target_slot;
    header.target_flags = context.target_flags;
    header.flags |= init::kHeaderTargetRoot;  // the container is not pivoted yet, and we may be in a chroot
  }
  writer.step(init::Op::kSetsid);
  if (!context.cwd.empty()) plan::step_with(writer, init::Op::kChdir, context.label, context.cwd);

  const std::vector<std::string> argv = hook_argv(hook);
  const std::vector<std::string>& env = hook.env ? *hook.env : context.default_env;
  const init::Ref path = writer.text(hook.path);
  const init::Ref arguments = writer.list(argv);
  const init::Ref variables = writer.list(env);
  // A process that is cloned has a dialogue, whose end is Ready and Commit; without a clone, exec is the answer.
  if (context.target_slot != init::kNoSlot) plan::add_ready(writer);
  init::Step& step = writer.step(init::Op::kExec, context.label);
  step.s[0] = arguments;
  step.n[0] = argv.size();
  step.s[1] = variables;
  step.n[1] = env.size();
  step.s[2] = path;
  return writer.finish();
}

}  // namespace gantry
