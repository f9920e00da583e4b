// Whole Plans against texts under golden/. To write them anew: GANTRY_UPDATE_GOLDEN=1 unit_plan "[golden]".
#include <linux/seccomp.h>
#include <sys/mount.h>

#include <catch2/catch.hpp>

#include "plan_support.h"

using namespace gantry;
using namespace plan_test;

TEST_CASE("IO-01 the default configuration on a hybrid host", "[golden]") {
  check_golden("default", build_container_plan(default_spec(), context()));
}

TEST_CASE("MT-16 the default configuration on cgroup v2", "[golden]") {
  Spec spec = default_spec();
  spec.ns(NamespaceType::kCgroup).wanted = true;
  PlanContext where = context();
  where.cgroup_mode = PlanCgroups::kV2;
  where.v1.clear();
  where.v2_container_path = "/sys/fs/cgroup/parent/c1";
  where.slots.cgroup_dir = 2;
  where.slots.count = 3;
  check_golden("default_v2", build_container_plan(spec, where));
}

TEST_CASE("MT-15 podman's configuration with a private cgroup namespace on v1", "[golden]") {
  PlanContext where = context();
  where.seccomp.bpf = some_filter();
  where.seccomp.flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
  check_golden("podman", build_container_plan(podman_spec(), where));
}

TEST_CASE("AT-24 a new user namespace", "[golden]") {
  Spec spec = default_spec();
  add_user_namespace(spec);
  spec.mounts.push_back(mount_of("bind", "/srv/volume", "/volume", {"rbind"}));
  spec.ns(NamespaceType::kTime).wanted = true;
  spec.time_monotonic = TimeOffset{-5, 7};
  check_golden("userns", build_container_plan(spec, context()));
}

TEST_CASE("PR-01 CR-03 CR-07 a terminal, a pidfd socket and preserved fds", "[golden]") {
  Spec spec = default_spec();
  spec.process->terminal = true;
  spec.process->console_size = ConsoleSize{24, 80};
  PlanContext where = context();
  where.slots.console_socket = 2;
  where.slots.pidfd_socket = 3;
  where.slots.first_preserved = 4;
  where.slots.preserved_count = 2;
  where.slots.count = 6;
  where.extra_env = {"LISTEN_FDS=1", "LISTEN_PID=1", "NOTIFY_SOCKET=/run/notify/notify.sock"};
  where.notify_dir = "/run/gantry/c1/notify";
  check_golden("terminal", build_container_plan(spec, where));
}

TEST_CASE("HK-03 HK-04 HK-05 hooks, propagation and no pivot", "[golden]") {
  Spec spec = default_spec();
  spec.rootfs_propagation = MS_SHARED | MS_REC;
  spec.domainname = "example.org";
  Hook plain{"/bin/one", {}, std::nullopt, std::nullopt};
  Hook full{"/bin/two", {"two", "-x"}, std::vector<std::string>{"A=b"}, 3};
  spec.hooks.create_container = {plain};
  spec.hooks.start_container = {plain, full};
  PlanContext where = context();
  where.no_pivot = true;
  where.no_new_keyring = true;
  where.start_container_state = "{\"id\":\"c1\"}";
  check_golden("hooks", build_container_plan(spec, where));
}

TEST_CASE("IO-02 a process in a running container", "[golden]") {
  Spec spec = podman_spec();
  add_user_namespace(spec);
  Process process = *spec.process;
  process.no_new_privileges = true;
  process.apparmor_profile = "profile";
  process.terminal = true;
  PlanContext where = context();
  where.slots = {};
  where.slots.target_pidfd = 0;
  where.slots.console_socket = 1;
  where.slots.pidfd_socket = 2;
  where.slots.exec_fifo = 3;
  where.slots.count = 4;
  where.join_early = true;
  where.seccomp.bpf = some_filter();
  where.seccomp.listener = true;
  check_golden("exec", build_exec_plan(spec, process, where));
}

TEST_CASE("HK-03 a hook in the host's namespaces", "[golden]") {
  HookContext where;
  where.label = "hooks.createRuntime[0] /bin/hook";
  where.cwd = "/srv/c1";
  where.default_env = {"PATH=/bin"};
  check_golden("hook_runtime", build_hook_plan(Hook{"/bin/hook", {}, std::nullopt, std::nullopt}, where));
}

TEST_CASE("HK-04 a hook in the container's namespaces", "[golden]") {
  HookContext where;
  where.label = "hooks.createContainer[0] /bin/hook";
  where.cwd = "/srv/c1/rootfs";
  where.target_slot = 0;
  where.target_flags = container_namespaces(podman_spec());
  where.slot_count = 1;
  const Hook hook{"/bin/hook", {"other", "name"}, std::vector<std::string>{}, std::nullopt};
  check_golden("hook_container", build_hook_plan(hook, where));
}
