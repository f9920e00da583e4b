// Rules of the process: environment, identity, seccomp, hooks.
#include <linux/capability.h>
#include <linux/seccomp.h>

#include <catch2/catch.hpp>

#include "plan_support.h"
#include "sys/capability.h"

using namespace gantry;
using namespace plan_test;
using init::Op;

namespace {

using Env = std::vector<std::string>;

std::string env_error(const Env& env) {
  const auto made = effective_env(env, {});
  return made ? "" : made.error().text;
}

init::IdentityArgs identity(const Spec& spec, const PlanContext& where) {
  const Opened plan(build_container_plan(spec, where));
  return plan.blob<init::IdentityArgs>(plan.find(Op::kIdentity).s[0]);
}

PlanContext exec_context() {
  PlanContext where = context();
  where.slots = {};
  where.slots.target_pidfd = 0;
  where.slots.count = 1;
  return where;
}

}  // namespace

TEST_CASE("PR-04 of equal variables the last one wins") {
  CHECK(*effective_env({"A=1", "B=2", "A=3", "C="}, {"B=4"}) == Env{"A=3", "C=", "B=4"});
  CHECK(*effective_env({"A=x=y"}, {}) == Env{"A=x=y"});
}

TEST_CASE("PR-04 malformed variables are named") {
  CHECK(env_error({"A=1", "B"}) == "process.env[1]: invalid environment variable: missing '='");
  CHECK(env_error({"=x"}) == "process.env[0]: invalid environment variable: name cannot be empty");
  CHECK(env_error({std::string("AB=\0x", 5)}) ==
        "process.env[0]: invalid environment variable \"AB\": contains nul byte (\\x00)");
}

TEST_CASE("PR-04 HOME is looked up when it is missing or empty") {
  Spec spec = default_spec();
  spec.process->user.uid = 7;
  const auto exec_step = [&spec] {
    const Opened plan(build_container_plan(spec, context()));
    return plan.find(Op::kExec);
  };
  CHECK(exec_step().flags == init::kStepNeedHome);
  CHECK(exec_step().n[2] == 7);
  spec.process->env.emplace_back("HOME=");
  CHECK(exec_step().flags == init::kStepNeedHome);
  CHECK(exec_step().n[1] == 2);
  spec.process->env.emplace_back("HOME=/home/me");
  CHECK(exec_step().flags == 0);
}

TEST_CASE("CR-11 the executable is looked up in the container's PATH, without a label") {
  Spec spec = default_spec();
  const Opened plan(build_container_plan(spec, context()));
  CHECK(plan.find(Op::kLookPath).label == 0);
  spec.process->env.clear();
  const Opened bare(build_container_plan(spec, context()));
  CHECK(bare.find(Op::kLookPath).s[1].offset == 0);
}

TEST_CASE("PR-07 init sets the rlimits itself, before it changes the user") {
  Spec spec = default_spec();
  spec.process->rlimits = {{RLIMIT_NOFILE, 1024, 4096}};
  const Opened plan(build_container_plan(spec, context()));
  const init::Step& step = plan.find(Op::kRlimit);
  CHECK(step.n[0] == RLIMIT_NOFILE);
  CHECK(step.n[1] == 1024);
  CHECK(step.n[2] == 4096);
  CHECK(&step < &plan.find(Op::kIdentity));
  CHECK(plan.label(step) == "process.rlimits[0] RLIMIT_NOFILE");
}

TEST_CASE("PR-22 umask is 0022 unless given") {
  Spec spec = default_spec();
  CHECK(Opened(build_container_plan(spec, context())).find(Op::kUmask).n[0] == 022);
  spec.process->user.umask = 0;
  CHECK(Opened(build_container_plan(spec, context())).find(Op::kUmask).n[0] == 0);
}

TEST_CASE("PR-10 absent capabilities are none") {
  Spec spec = default_spec();
  CHECK(identity(spec, context()).bounding != 0);
  spec.process->capabilities.reset();
  const init::IdentityArgs args = identity(spec, context());
  CHECK((args.bounding | args.effective | args.inheritable | args.permitted | args.ambient) == 0);
}

TEST_CASE("PR-23 groups where setgroups is denied") {
  Spec spec = default_spec();
  PlanContext where = context();
  where.setgroups_denied = true;
  CHECK((identity(spec, where).flags & init::kIdentitySetGroups) == 0);
  CHECK((identity(spec, context()).flags & init::kIdentitySetGroups) != 0);
  spec.process->user.additional_gids = {1, 2};
  const auto plan = build_container_plan(spec, where);
  REQUIRE_FALSE(plan);
  CHECK(plan.error().text == "cannot set any additional groups in a rootless container");
  CHECK(identity(spec, context()).group_count == 2);
}

TEST_CASE("SC-10 a filter without no_new_privs needs CAP_SYS_ADMIN until it is loaded") {
  Spec spec = default_spec();
  PlanContext where = context();
  where.seccomp.bpf = some_filter();
  const auto keeps = [&] { return (identity(spec, where).flags & init::kIdentityKeepSysAdmin) != 0; };
  const auto drops = [&] { return Opened(build_container_plan(spec, where)).count(Op::kFinalCaps) == 1; };
  CHECK_FALSE(keeps());
  spec.process->no_new_privileges = false;
  CHECK(keeps());
  CHECK(drops());
  spec.process->capabilities->effective |= 1ull << CAP_SYS_ADMIN;
  CHECK_FALSE(keeps());
  CHECK_FALSE(drops());
  spec.process->capabilities.reset();
  CHECK(keeps());
  where.seccomp.bpf = {};
  CHECK_FALSE(keeps());
}

TEST_CASE("SC-04 SC-09 flags of the filter") {
  Spec spec = default_spec();
  PlanContext where = context();
  where.seccomp.bpf = some_filter();
  where.seccomp.flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  const Opened plain(build_container_plan(spec, where));
  CHECK(plain.find(Op::kSeccomp).n[0] == SECCOMP_FILTER_FLAG_TSYNC);
  CHECK(plain.count(Op::kSeccompAnnounce) == 0);
  where.seccomp.listener = true;
  const Opened listening(build_container_plan(spec, where));
  const init::Step& step = listening.find(Op::kSeccomp);
  CHECK(step.n[0] == (SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
                      SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | SECCOMP_FILTER_FLAG_NEW_LISTENER));
  CHECK(step.flags == init::kStepListener);
  CHECK(step.n[1] == listening.find(Op::kSeccompAnnounce).n[0]);
  CHECK(step.n[1] == static_cast<uint64_t>(init::kFirstSlot + where.slots.count));
  CHECK(listening.text(step.s[0]) == some_filter());
}

TEST_CASE("PR-20 an SELinux label is refused where there is no SELinux") {
  Spec spec = default_spec();
  spec.process->selinux_label = "a:b:c";
  const auto plan = build_container_plan(spec, context());
  REQUIRE_FALSE(plan);
  CHECK(plan.error().text == "selinux label is specified in config, but selinux is disabled or not supported");
}

TEST_CASE("PR-01 a terminal without a console socket is an error, and init alone binds /dev/console") {
  Spec spec = default_spec();
  spec.process->terminal = true;
  CHECK_FALSE(build_container_plan(spec, context()));
  PlanContext where = exec_context();
  where.slots.console_socket = 0;
  CHECK(Opened(build_exec_plan(spec, *spec.process, where)).find(Op::kConsole).flags == 0);
}

TEST_CASE("HK-05 HK-10 startContainer hooks share the program's environment unless they have their own") {
  Spec spec = default_spec();
  spec.hooks.start_container = {Hook{"/a", {}, std::nullopt, std::nullopt},
                                Hook{"/b", {"x"}, std::vector<std::string>{}, 2'000'000'000}};
  const Opened plan(build_container_plan(spec, context()));
  const init::Step& step = plan.find(Op::kStartHooks);
  REQUIRE(step.n[0] == 2);
  const auto hooks = plan.blob<std::array<init::HookArgs, 2>>(step.s[0]);
  CHECK(hooks[0].env.offset == plan.find(Op::kExec).s[1].offset);
  CHECK(hooks[0].argc == 1);
  CHECK(hooks[1].env.offset == 0);
  CHECK(hooks[1].envc == 0);
  CHECK(hooks[1].timeout_ms == 0);  // beyond what 32 bits hold
  CHECK(plan.text(hooks[1].argv) == std::string("x\0", 2));
}

TEST_CASE("EX-24 exec enters all namespaces of the container and applies the same process rules") {
  Spec spec = podman_spec();
  add_user_namespace(spec);
  spec.ns(NamespaceType::kTime).wanted = true;
  PlanContext where = exec_context();
  where.seccomp.bpf = some_filter();
  Process process = *spec.process;
  process.apparmor_profile = "p";
  const Opened plan(build_exec_plan(spec, process, where));
  CHECK(plan.view().header->kind == init::Kind::kExec);
  CHECK(plan.view().header->target_flags == container_namespaces(spec));
  CHECK(plan.view().header->clone_flags == 0);
  CHECK(plan.ops() == std::vector<std::string>{"JoinCgroups", "ResetAffinity", "Setsid", "Keyring", "Umask", "Chdir",
                                               "Identity", "Chdir", "Apparmor", "LookPath", "Ready", "Seccomp",
                                               "FinalCaps", "Exec"});
}

TEST_CASE("EX-23 the launcher of an exec joins before the clone") {
  PlanContext where = exec_context();
  where.join_early = true;
  const Spec spec = default_spec();
  const Opened plan(build_exec_plan(spec, *spec.process, where));
  CHECK(plan.view().header->cgroup_slot == init::kNoSlot);
  CHECK((plan.view().header->flags & init::kHeaderJoinEarly) != 0);
  CHECK(plan.count(Op::kJoinCgroups) == 0);
}

TEST_CASE("EX-23 the launcher of an exec opens the cgroups itself when they are known") {
  PlanContext where = exec_context();
  where.join_files = {"/cg/cpu/c1/tasks", "/cg/pids/c1/tasks"};
  const Spec spec = default_spec();
  const Opened plan(build_exec_plan(spec, *spec.process, where));
  const init::Header& header = *plan.view().header;
  CHECK((header.flags & init::kHeaderJoinEarly) == 0);
  CHECK(plan.count(Op::kJoinCgroups) == 0);
  CHECK(header.cgroup_file_count == 2);
  CHECK(plan.text(header.cgroup_files) == std::string("/cg/cpu/c1/tasks\0/cg/pids/c1/tasks\0", 35));
}

TEST_CASE("HK-01 a hook's args are its whole argv") {
  HookContext where;
  const Opened plan(build_hook_plan(Hook{"/bin/h", {"other"}, std::nullopt, std::nullopt}, where));
  CHECK(plan.text(plan.find(Op::kExec).s[0]) == std::string("other\0", 6));
  CHECK(plan.text(plan.find(Op::kExec).s[2]) == "/bin/h");
  CHECK(plan.view().header->flags == init::kHeaderNoClone);
  CHECK(plan.count(Op::kChdir) == 0);
}

TEST_CASE("PR-10 capability names") {
  CHECK(sys::capability_number("CAP_CHOWN") == 0);
  CHECK(sys::capability_number("cap_sys_admin") == CAP_SYS_ADMIN);
  CHECK(sys::capability_number("CHECKPOINT_RESTORE") == CAP_CHECKPOINT_RESTORE);
  CHECK_FALSE(sys::capability_number("CAP_NONE"));
  CHECK_FALSE(sys::capability_number("CAP_"));
  CHECK_FALSE(sys::capability_number(""));
  CHECK(sys::capability_name(CAP_LAST_CAP) == "CAP_CHECKPOINT_RESTORE");
  CHECK(sys::capability_name(-1).empty());
  CHECK(sys::capability_name(64).empty());
  for (size_t i = 0; i < sys::capability_names().size(); ++i) {
    CHECK(sys::capability_number(sys::capability_names()[i]) == static_cast<int>(i));
  }
  const auto bounding = sys::bounding_capabilities();
  REQUIRE(bounding);
  CHECK(*bounding >> 41 == 0);
}
