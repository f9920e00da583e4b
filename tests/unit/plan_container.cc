// Rules of the container Plan one by one.
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "plan_support.h"

using namespace gantry;
using namespace plan_test;
using init::Op;

namespace {

Opened build(const Spec& spec, const PlanContext& where = context()) {
  return Opened(build_container_plan(spec, where));
}

std::string refusal(const Spec& spec, const PlanContext& where = context()) {
  const auto plan = build_container_plan(spec, where);
  return plan ? "" : plan.error().text;
}

/// True when the names stand in this order, with anything between them.
bool in_order(const std::vector<std::string>& ops, const std::vector<std::string>& wanted) {
  auto at = ops.begin();
  for (const std::string& name : wanted) {
    at = std::find(at, ops.end(), name);
    INFO("missing or too early: " << name);
    CHECK(at != ops.end());
    if (at == ops.end()) return false;
    ++at;
  }
  return true;
}

Hook hook(std::string path) {
  return Hook{std::move(path), {}, std::nullopt, std::nullopt};
}

}  // namespace

TEST_CASE("IO-01 the steps of a container stand in the order of the specification") {
  Spec spec = podman_spec();
  add_user_namespace(spec);
  spec.ns(NamespaceType::kTime).wanted = true;
  spec.ns(NamespaceType::kNetwork).path.clear();
  spec.root_readonly = true;
  spec.domainname = "d";
  spec.rootfs_propagation = MS_SLAVE | MS_REC;
  spec.process->terminal = true;
  spec.process->apparmor_profile = "p";
  spec.process->no_new_privileges = true;
  spec.hooks.create_container = {hook("/h")};
  spec.hooks.start_container = {hook("/h")};
  PlanContext where = context();
  where.slots.console_socket = 2;
  where.slots.pidfd_socket = 3;
  where.slots.first_preserved = 4;
  where.slots.preserved_count = 1;
  where.slots.count = 5;
  where.seccomp.bpf = some_filter();
  where.seccomp.listener = true;
  CHECK(in_order(build(spec, where).ops(), {"JoinCgroups",     "ResetAffinity",   "Unshare",  "Maps",
                                            "TimeOffsets",     "Setsid",          "Keyring",  "Loopback",
                                            "Propagation",     "Rootfs",          "Mount",    "Device",
                                            "Symlink",         "Hooks",           "Hooks",    "Pivot",
                                            "RootPropagation", "MkCwd",           "Console",  "SetAttr",
                                            "Hostname",        "Domainname",      "Apparmor", "Sysctl",
                                            "ReadonlyPath",    "MaskedPath",      "Umask",    "NoNewPrivs",
                                            "PidfdSocket",     "Chdir",           "Identity", "Chdir",
                                            "LookPath",        "SeccompAnnounce", "Ready",    "Seccomp",
                                            "WaitStart",       "StartHooks",      "PlaceFds", "Exec"}));
}

TEST_CASE("LX-01 a cgroup namespace is cloned on v2 and unshared after the join on v1") {
  Spec spec = default_spec();
  spec.ns(NamespaceType::kCgroup).wanted = true;
  const Opened v1 = build(spec);
  CHECK((v1.view().header->clone_flags & CLONE_NEWCGROUP) == 0);
  CHECK(v1.find(Op::kUnshare).n[0] == CLONE_NEWCGROUP);
  PlanContext where = context();
  where.cgroup_mode = PlanCgroups::kV2;
  where.slots.cgroup_dir = 1;
  const Opened v2 = build(spec, where);
  CHECK((v2.view().header->clone_flags & CLONE_NEWCGROUP) != 0);
  CHECK(v2.view().header->cgroup_slot == 1);
  CHECK(v2.count(Op::kUnshare) == 0);
  CHECK(v2.count(Op::kJoinCgroups) == 0);
}

TEST_CASE("LX-03 namespaces by path are joined with their type and not created") {
  Spec spec = default_spec();
  spec.ns(NamespaceType::kUser).wanted = true;
  spec.ns(NamespaceType::kUser).path = "/proc/1/ns/user";
  spec.ns(NamespaceType::kNetwork).path = "/run/netns/a";
  const Opened plan = build(spec);
  REQUIRE(plan.view().header->join_count == 2);
  CHECK(plan.view().joins[0].clone_flag == CLONE_NEWNET);
  CHECK(plan.text(plan.view().joins[0].path) == "/run/netns/a");
  CHECK(plan.view().joins[1].clone_flag == CLONE_NEWUSER);
  CHECK((plan.view().header->clone_flags & (CLONE_NEWNET | CLONE_NEWUSER)) == 0);
  CHECK(plan.count(Op::kMaps) == 0);
  CHECK(plan.count(Op::kLoopback) == 0);
  CHECK((plan.view().header->flags & init::kHeaderKeepDumpable) == 0);
}

TEST_CASE("LX-06 time offsets are written in the kernel's form, and the namespace is never cloned") {
  Spec spec = default_spec();
  spec.ns(NamespaceType::kTime).wanted = true;
  spec.time_boottime = TimeOffset{86400, 0};
  const Opened plan = build(spec);
  CHECK(plan.text(plan.find(Op::kTimeOffsets).s[0]) == "monotonic 0 0\nboottime 86400 0\n");
  CHECK((plan.view().header->clone_flags & 0x80) == 0);
}

TEST_CASE("HK-11 without a mount namespace nothing is mounted, whatever the config says") {
  Spec spec = default_spec();
  spec.ns(NamespaceType::kMount).wanted = false;
  spec.process->terminal = true;
  spec.masked_paths.clear();
  spec.readonly_paths.clear();
  spec.root_readonly = false;
  PlanContext where = context();
  where.slots.console_socket = 2;
  where.slots.count = 3;
  const Opened plan = build(spec, where);
  for (const Op op : {Op::kMount, Op::kPropagation, Op::kRootPropagation, Op::kSetAttr}) CHECK(plan.count(op) == 0);
  CHECK(plan.find(Op::kRootfs).flags == init::kStepHostMounts);
  CHECK(plan.find(Op::kPivot).flags == init::kStepHostMounts);
  CHECK(plan.find(Op::kConsole).flags == 0);
  CHECK(plan.find(Op::kDevice).s[1].offset == 0);
  CHECK(plan.find(Op::kSymlink).flags == 0);
  where.notify_dir = "/run/gantry/x/notify";
  CHECK_THAT(refusal(spec, where), Catch::Contains("NOTIFY_SOCKET"));
}

TEST_CASE("CR-05 no pivot: the flag, and private propagation is refused") {
  Spec spec = default_spec();
  PlanContext where = context();
  where.no_pivot = true;
  CHECK(build(spec, where).find(Op::kPivot).flags == init::kStepNoPivot);
  spec.rootfs_propagation = MS_PRIVATE | MS_REC;
  CHECK(refusal(spec, where) == "rootfsPropagation of [r]private is not safe without pivot_root");
  CHECK(refusal(spec).empty());
}

TEST_CASE("LX-14 propagation before the rootfs and after the pivot") {
  Spec spec = default_spec();
  CHECK(build(spec).find(Op::kPropagation).n[0] == (MS_SLAVE | MS_REC));
  CHECK(build(spec).count(Op::kRootPropagation) == 0);
  spec.rootfs_propagation = MS_UNBINDABLE;
  const Opened unbindable = build(spec);
  CHECK(unbindable.find(Op::kPropagation).n[0] == (MS_PRIVATE | MS_REC));
  CHECK(unbindable.find(Op::kRootPropagation).n[0] == MS_UNBINDABLE);
  spec.rootfs_propagation = MS_SHARED;
  CHECK(build(spec).find(Op::kPropagation).n[0] == (MS_SHARED | MS_REC));
}

TEST_CASE("LX-14 an unbindable root becomes so after the binds on it") {
  Spec spec = default_spec();
  spec.readonly_paths = {"/proc/bus"};
  spec.rootfs_propagation = MS_UNBINDABLE | MS_REC;
  const Opened late = build(spec);
  CHECK(late.count(Op::kRootPropagation) == 1);
  CHECK(&late.find(Op::kRootPropagation) > &late.find(Op::kReadonlyPath));
  spec.rootfs_propagation = MS_SHARED;
  const Opened early = build(spec);
  CHECK(&early.find(Op::kRootPropagation) < &early.find(Op::kReadonlyPath));
}

TEST_CASE("HK-03 HK-04 hook points: runtime on demand, createContainer only with such hooks") {
  Spec spec = default_spec();
  PlanContext where = context();
  CHECK(build(spec, where).count(Op::kHooks) == 1);
  where.runtime_hooks_point = false;
  CHECK(build(spec, where).count(Op::kHooks) == 0);
  spec.hooks.create_container = {hook("/h")};
  CHECK(build(spec, where).find(Op::kHooks).n[0] == static_cast<uint64_t>(init::HookPoint::kCreateContainer));
}

TEST_CASE("LX-13 both forms of a sysctl name") {
  Spec spec = default_spec();
  spec.sysctl = {
      {"net.ipv4.ip_forward", "1"}, {"net/ipv4/conf/eth0.1/forwarding", "1"}, {"net.ipv4.conf.eth0/1.mtu", ""}};
  const Opened plan = build(spec);
  CHECK(plan.text(plan.find(Op::kSysctl, 0).s[0]) == "net/ipv4/ip_forward");
  CHECK(plan.text(plan.find(Op::kSysctl, 1).s[0]) == "net/ipv4/conf/eth0.1/forwarding");
  CHECK(plan.text(plan.find(Op::kSysctl, 2).s[0]) == "net/ipv4/conf/eth0.1/mtu");
  CHECK(plan.text(plan.find(Op::kSysctl, 2).s[1]).empty());
  CHECK(plan.label(plan.find(Op::kSysctl, 0)) == "linux.sysctl net.ipv4.ip_forward");
}

TEST_CASE("LX-08 default devices, and a configured one of the same path wins") {
  Spec spec = default_spec();
  CHECK(build(spec).count(Op::kDevice) == 6);
  Device null;
  null.path = "/dev/./null";
  null.type = S_IFCHR;
  null.major = 1;
  null.minor = 3;
  null.mode = 0600;
  spec.devices = {null};
  const Opened plan = build(spec);
  CHECK(plan.count(Op::kDevice) == 6);
  CHECK(plan.text(plan.find(Op::kDevice, 5).s[0]) == "/dev/null");
  CHECK(plan.find(Op::kDevice, 5).n[0] == (S_IFCHR | 0600));
}

TEST_CASE("LX-08 a mount in the place of a default device or link stays") {
  Spec spec = default_spec();
  spec.mounts.push_back(mount_of("bind", "/dev/null", "/dev/null", {"bind"}));
  spec.mounts.push_back(mount_of("bind", "/dev/ptmx", "/dev/ptmx", {"bind"}));
  const Opened plan = build(spec);
  CHECK(plan.count(Op::kDevice) == 5);
  CHECK(plan.text(plan.find(Op::kSymlink, 2).s[1]) == "/dev/fd");  // after the two of /sys/fs/cgroup
}

TEST_CASE("AT-07 a configured /dev/ptmx becomes the link") {
  Spec spec = default_spec();
  Device ptmx;
  ptmx.path = "/dev/ptmx";
  ptmx.type = S_IFCHR;
  ptmx.major = 5;
  ptmx.minor = 2;
  spec.devices = {ptmx};
  CHECK(build(spec).count(Op::kDevice) == 6);
}

TEST_CASE("LX-09 a /dev of the user's own gets no devices and no links") {
  Spec spec = default_spec();
  spec.mounts.push_back(mount_of("", "/srv/dev", "/dev/", {"rbind"}));
  PlanContext where = context();
  where.v1.clear();
  const Opened plan = build(spec, where);
  CHECK(plan.count(Op::kDevice) == 0);
  CHECK(plan.count(Op::kSymlink) == 0);
}

TEST_CASE("LX-07 devices are bound from the host in a user namespace, but for a fifo") {
  Spec spec = default_spec();
  Device fifo;
  fifo.path = "/run/fifo";
  fifo.type = S_IFIFO;
  spec.devices = {fifo};
  CHECK(build(spec).find(Op::kDevice).flags == 0);
  add_user_namespace(spec);
  const Opened plan = build(spec);
  CHECK(plan.find(Op::kDevice, 0).flags == init::kStepBind);
  CHECK(plan.text(plan.find(Op::kDevice, 0).s[1]) == "/dev/null");
  CHECK(plan.find(Op::kDevice, 6).flags == 0);
}

TEST_CASE("LC-09 a config without process ends with the wait for start") {
  Spec spec = default_spec();
  spec.process.reset();
  const std::vector<std::string> ops = build(spec).ops();
  REQUIRE(ops.size() > 2);
  CHECK(ops[ops.size() - 2] == "Ready");
  CHECK(ops.back() == "WaitStart");
}
