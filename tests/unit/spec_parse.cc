// config.json to Spec, by the rows of the runtime-spec.
#include "engine/spec_parse.h"

#include <sys/mount.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <string>

#include "engine/spec_names.h"
#include "engine/spec_template.h"
#include "sys/text.h"

namespace gantry {
namespace {

std::string spec_error(std::string_view json) {
  auto spec = parse_spec(json);
  return spec ? "" : spec.error().text;
}

std::string process_error(std::string_view json) {
  auto process = parse_process(json);
  return process ? "" : process.error().text;
}

std::string linux_error(std::string_view members) {
  return spec_error(cat(R"({"linux":{)", members, "}}"));
}

std::string resources_error(std::string_view json) {
  auto resources = parse_resources(json);
  return resources ? "" : resources.error().text;
}

TEST_CASE("SP-02 the template parses into what it says") {
  const auto spec = parse_spec(spec_template({.hostname = "runc"}));
  REQUIRE(spec);
  CHECK(spec->oci_version == "1.3.0");
  REQUIRE(spec->process);
  CHECK(spec->process->terminal);
  CHECK(spec->process->args == std::vector<std::string>{"sh"});
  CHECK(spec->process->cwd == "/");
  CHECK(spec->process->no_new_privileges);
  REQUIRE(spec->process->capabilities);
  CHECK(spec->process->capabilities->bounding == (1ULL << 29 | 1ULL << 5 | 1ULL << 10));
  CHECK(spec->process->capabilities->ambient == 0);
  REQUIRE(spec->process->rlimits.size() == 1);
  CHECK(spec->process->rlimits[0].resource == RLIMIT_NOFILE);
  CHECK(spec->root_path == "rootfs");
  CHECK(spec->root_readonly);
  CHECK(spec->hostname == "runc");
  REQUIRE(spec->mounts.size() == 7);
  CHECK(spec->mounts[1].data == std::vector<std::string>{"mode=755", "size=65536k"});
  CHECK(spec->mounts[5].flags.superblock == MS_RDONLY);
  CHECK(spec->creates(NamespaceType::kMount));
  CHECK_FALSE(spec->ns(NamespaceType::kUser).wanted);
  CHECK(spec->masked_paths.size() == 10);
  CHECK(spec->readonly_paths.size() == 5);
  REQUIRE(spec->resources.devices.size() == 1);
  CHECK_FALSE(spec->resources.devices[0].allow);
  CHECK(spec->resources.devices[0].type == 'a');
}

TEST_CASE("TL-01 spec-load errors") {
  CHECK_THAT(spec_error(""), Catch::Contains("EOF"));
  CHECK_THAT(spec_error("null"), Catch::Contains("config cannot be null"));
  CHECK_THAT(spec_error("[]"), Catch::Contains("expected an object, got an array"));
  CHECK_THAT(spec_error(R"({"process":{"user":{"uid":-1}}})"),
             Catch::Equals("config.json: process.user.uid: expected a whole number from 0 to 4294967295, got -1"));
}

TEST_CASE("TL-06 TL-07 TL-08 TL-10 top level") {
  const auto spec = parse_spec(R"({"annotations":{"b":"2","a":"","b":"3"},"windows":{"x":1},"solaris":1,"zos":[],
                                   "freebsd":{},"vm":{},"somethingNew":{"a":1},"process":null})");
  REQUIRE(spec);
  CHECK(spec->annotations == std::map<std::string, std::string>{{"a", ""}, {"b", "3"}});
  CHECK_FALSE(spec->process);
  CHECK_FALSE(spec->has_linux);
  CHECK_FALSE(spec->has_root);
  CHECK_THAT(spec_error(R"({"annotations":{"a":1}})"), Catch::Contains("annotations.a: expected a string"));
  CHECK(spec_error(R"({"vm":{"hypervisor":{"path":"/x"}}})") == "config.json: vm is not supported yet");
}

TEST_CASE("what cannot be done yet is refused by name") {
  CHECK(linux_error(R"("intelRdt":{"closID":"x"})") == "config.json: linux.intelRdt is not supported yet");
  CHECK(linux_error(R"("netDevices":{"eth0":{}})") == "config.json: linux.netDevices is not supported yet");
  CHECK(linux_error(R"("memoryPolicy":{"mode":"MPOL_BIND"})") ==
        "config.json: linux.memoryPolicy is not supported yet");
  CHECK(linux_error(R"("personality":{"domain":"LINUX32"})") == "config.json: linux.personality is not supported yet");
  CHECK(process_error(R"({"scheduler":{"policy":"SCHED_FIFO"}})") == "process: scheduler is not supported yet");
  CHECK(process_error(R"({"ioPriority":{"class":"IOPRIO_CLASS_RT"}})") == "process: ioPriority is not supported yet");
  CHECK(process_error(R"({"execCPUAffinity":{"initial":"0"}})") == "process: execCPUAffinity is not supported yet");
  CHECK(linux_error(R"("intelRdt":null,"netDevices":{},"memoryPolicy":{},"personality":null)").empty());
}

TEST_CASE("PR-01 PR-02 PR-03 PR-04 PR-05 PR-24 plain process members") {
  const auto process = parse_process(R"({"terminal":true,"consoleSize":{"height":10,"width":110},"cwd":"/w",
    "args":["a",""],"env":["A=1","A=2"],"user":{"uid":1,"gid":2,"umask":18,"additionalGids":[5,6],"username":"x"},
    "oomScoreAdj":-500,"apparmorProfile":"p","selinuxLabel":"l","commandLine":"ignored"})");
  REQUIRE(process);
  CHECK(process->console_size->rows == 10);
  CHECK(process->console_size->columns == 110);
  CHECK(process->args == std::vector<std::string>{"a", ""});
  CHECK(process->env == std::vector<std::string>{"A=1", "A=2"});
  CHECK(process->user.umask == 18U);
  CHECK(process->user.additional_gids == std::vector<gid_t>{5, 6});
  CHECK(process->oom_score_adj == -500);
  CHECK_FALSE(process->capabilities);
  CHECK_THAT(process_error(R"({"consoleSize":{"height":-1}})"), Catch::Contains("consoleSize.height"));
  CHECK_THAT(process_error(R"({"env":["A\u0000=1"]})"), Catch::Contains("env[0]: must not contain a NUL byte"));
}

TEST_CASE("PR-07 rlimits") {
  const auto process = parse_process(R"({"rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":18446744073709551615}]})");
  REQUIRE(process);
  CHECK(process->rlimits[0].resource == RLIMIT_CORE);
  CHECK(process->rlimits[0].hard == RLIM_INFINITY);
  CHECK_THAT(process_error(R"({"rlimits":[{"type":"RLIMIT_X"}]})"), Catch::EndsWith("wrong rlimit value: RLIMIT_X"));
  CHECK_THAT(process_error(R"({"rlimits":[{}]})"), Catch::Contains("wrong rlimit value"));
  CHECK(rlimit_name(RLIMIT_STACK) == "RLIMIT_STACK");
}

TEST_CASE("PR-10 capabilities") {
  const auto process = parse_process(R"({"capabilities":{"bounding":["CAP_CHOWN","CAP_ZZ","CAP_AA"],
    "effective":["CAP_CHECKPOINT_RESTORE"],"inheritable":null,"ambient":["CAP_AA","cap_chown"]}})");
  REQUIRE(process);
  CHECK(process->capabilities->bounding == 1);
  CHECK(process->capabilities->effective == uint64_t{1} << 40);
  CHECK(process->capabilities->unknown == std::vector<std::string>{"CAP_AA", "CAP_ZZ", "cap_chown"});
  const auto empty = parse_process(R"({"capabilities":{}})");
  REQUIRE(empty);
  CHECK(empty->capabilities);
  CHECK(capability_number("CAP_SYS_ADMIN") == 21U);
}

TEST_CASE("MT-02 MT-03 MT-04 MT-13 mounts") {
  const auto spec = parse_spec(R"({"mounts":[{"destination":"etc/x","source":"s","type":"bind"},
    {"destination":"/y","type":"none","source":"s","options":["rbind","nosuid","rro"],
     "uidMappings":[{"containerID":0,"hostID":1000,"size":10}],
     "gidMappings":[{"containerID":0,"hostID":1000,"size":10}]},
    {"destination":"/z","type":"tmpfs","options":[null,"size=1"]}]})");
  REQUIRE(spec);
  CHECK(spec->mounts[0].destination == "/etc/x");
  CHECK(spec->mounts[0].bind);
  REQUIRE(spec->parse_warnings.size() == 1);
  CHECK_THAT(spec->parse_warnings[0], Catch::Contains("mounts[0].destination: \"etc/x\" is relative"));
  CHECK(spec->mounts[1].recursive_bind);
  CHECK(spec->mounts[1].idmap);
  CHECK_FALSE(spec->mounts[1].idmap_recursive);
  CHECK(spec->mounts[1].uid_mappings == std::vector<IdMapping>{{0, 1000, 10}});
  CHECK(spec->mounts[2].data == std::vector<std::string>{"size=1"});
  CHECK_THAT(spec_error(R"({"mounts":[{"source":"a\u0000"}]})"), Catch::Contains("mount field contains null byte"));
  CHECK_THAT(spec_error(R"({"mounts":[{"options":["a\u0000"]}]})"),
             Catch::Equals("config.json: mounts[0].options[0]: mount field contains null byte"));
  CHECK(spec_error(R"({"mounts":[{"options":["copy-symlink"]}]})") ==
        "config.json: mounts[0].options[0]: \"copy-symlink\" is not supported yet");
}

TEST_CASE("LX-01 LX-02 namespaces") {
  const auto spec = parse_spec(R"({"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"},{"type":"time"}]}})");
  REQUIRE(spec);
  CHECK(spec->joins(NamespaceType::kPid));
  CHECK(spec->creates(NamespaceType::kTime));
  CHECK_THAT(linux_error(R"("namespaces":[{"type":"X"}])"), Catch::EndsWith("namespace {\"X\" \"\"} does not exist"));
  CHECK_THAT(linux_error(R"("namespaces":[{"type":"pid"},{"type":"pid"}])"),
             Catch::EndsWith("malformed spec file: duplicated ns {\"pid\" \"\"}"));
  CHECK_THAT(linux_error(R"("namespaces":[{}])"), Catch::EndsWith("namespace {\"\" \"\"} does not exist"));
}

TEST_CASE("LX-06 time offsets") {
  const auto spec = parse_spec(R"({"linux":{"timeOffsets":{"monotonic":{"secs":-5,"nanosecs":7}}}})");
  REQUIRE(spec);
  CHECK(spec->time_monotonic->secs == -5);
  CHECK(spec->time_monotonic->nanosecs == 7);
  CHECK_FALSE(spec->time_boottime);
  CHECK_THAT(linux_error(R"("timeOffsets":{"realtime":{"secs":1}})"), Catch::Contains("timeOffsets.realtime: unknown"));
}

TEST_CASE("LX-07 devices") {
  const auto spec = parse_spec(R"({"linux":{"devices":[{"path":"/dev/x","type":"u","major":1,"minor":2,"fileMode":8630,
    "uid":3,"gid":4},{"path":"/dev/p","type":"p"}]}})");
  REQUIRE(spec);
  CHECK(spec->devices[0].type == S_IFCHR);
  CHECK(spec->devices[0].mode == 0666);
  CHECK(spec->devices[1].type == S_IFIFO);
  CHECK(spec->devices[1].mode == 0666);
  CHECK_THAT(linux_error(R"("devices":[{"path":"/dev/x","type":"z"}])"), Catch::Contains("invalid device type \"z\""));
  CHECK_THAT(linux_error(R"("devices":[{"path":"/dev/x"}])"), Catch::Contains("devices[0]: device without a type"));
}

TEST_CASE("LX-14 rootfs propagation") {
  CHECK(parse_spec(R"({"linux":{"rootfsPropagation":"rshared"}})")->rootfs_propagation == (MS_SHARED | MS_REC));
  CHECK(parse_spec(R"({"linux":{"rootfsPropagation":""}})")->rootfs_propagation == 0);
  CHECK_THAT(linux_error(R"("rootfsPropagation":"ro")"), Catch::EndsWith("rootfsPropagation=ro is not supported"));
}

TEST_CASE("HK-01 HK-10 hooks") {
  const auto spec = parse_spec(R"({"hooks":{"prestart":[{"path":"/h","args":["x","y"],"env":[],"timeout":5}],
    "poststop":[{"path":"/p"}]}})");
  REQUIRE(spec);
  const Hook& hook = spec->hooks.prestart[0];
  CHECK(hook.args == std::vector<std::string>{"x", "y"});
  CHECK(hook.env == std::vector<std::string>{});
  CHECK(hook.timeout_seconds == 5);
  CHECK_FALSE(spec->hooks.poststop[0].env);
  CHECK_THAT(spec_error(R"({"hooks":{"poststart":[{"path":1}]}})"), Catch::Contains("hooks.poststart[0].path"));
}

TEST_CASE("SC-01 SC-03 SC-04 SC-06 seccomp") {
  const auto spec = parse_spec(R"({"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
    "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X32","SCMP_ARCH_X32"],"flags":[],
    "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW",
                 "args":[{"index":5,"value":18446744073709551615,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"}]}]}}})");
  REQUIRE(spec);
  REQUIRE(spec->seccomp);
  CHECK(spec->seccomp->default_errno_ret == 38U);
  CHECK(spec->seccomp->architectures == std::vector<std::string>{"SCMP_ARCH_X86_64", "SCMP_ARCH_X32"});
  CHECK(spec->seccomp->flags == std::vector<std::string>{});
  CHECK(spec->seccomp->rules[0].args[0].op == SeccompOp::kMaskedEqual);
  CHECK(spec->seccomp->rules[0].args[0].value == UINT64_MAX);
  CHECK_FALSE(parse_spec(R"({"linux":{"seccomp":{"defaultAction":"SCMP_ACT_KILL"}}})")->seccomp->flags);
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"NO"})"),
             Catch::Contains("string NO is not a valid action for seccomp"));
  CHECK_THAT(linux_error(R"("seccomp":{"architectures":["Z80"]})"), Catch::Contains("string Z80 is not a valid arch"));
  CHECK_THAT(linux_error(R"("seccomp":{"flags":["F"]})"),
             Catch::Contains("seccomp.flags[0]: string F is not a valid flag"));
  CHECK_THAT(linux_error(R"("seccomp":{"syscalls":[{"args":[{"op":"=="}]}]})"),
             Catch::Contains("not a valid operator"));
  CHECK_THAT(linux_error(R"("seccomp":{"syscalls":[{"args":[{"index":6}]}]})"), Catch::Contains("arguments 0 to 5"));
}

TEST_CASE("SC-01 actions are never guessed") {
  CHECK_FALSE(parse_spec(R"({"linux":{"seccomp":{}}})")->seccomp);
  CHECK_THAT(linux_error(R"("seccomp":{"syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW"}]})"),
             Catch::EndsWith("seccomp: defaultAction is missing; write for instance SCMP_ACT_ERRNO"));
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_LOG","syscalls":[{"names":["a"]}]})"),
             Catch::Contains("syscalls[0]: action is missing"));
}

TEST_CASE("a null record is not an empty one") {
  CHECK_THAT(process_error(R"({"rlimits":[null]})"), Catch::EndsWith("rlimits[0]: expected an object, got null"));
  CHECK_THAT(spec_error(R"({"mounts":[null]})"), Catch::EndsWith("mounts[0]: expected an object, got null"));
  CHECK(parse_process(R"({"args":[null]})")->args == std::vector<std::string>{""});
}

TEST_CASE("RS-01 to RS-22 resources") {
  const auto r =
      parse_resources(R"({"memory":{"limit":-1,"reservation":2,"swap":3,"swappiness":60,"disableOOMKiller":true,
    "useHierarchy":false,"checkBeforeUpdate":true,"kernel":1,"kernelTCP":2},
    "cpu":{"shares":1024,"quota":-1,"period":100000,"burst":5,"realtimeRuntime":1,"realtimePeriod":2,
           "cpus":"0-1","mems":"0","idle":1},
    "pids":{"limit":0},"blockIO":{"weight":10,"leafWeight":20,"weightDevice":[{"major":8,"minor":0,"weight":500}],
    "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":18446744073709551615}]},
    "hugepageLimits":[{"pageSize":"2MB","limit":9}],"network":{"classID":1,"priorities":[{"name":"lo","priority":3}]},
    "rdma":{"mlx":{"hcaHandles":3}},"unified":{"memory.high":"1","a.b":"2"}})");
  REQUIRE(r);
  CHECK(r->memory.limit == -1);
  CHECK(r->memory.check_before_update == true);
  CHECK(r->cpu.quota == -1);
  CHECK(r->cpu.cpus == "0-1");
  CHECK(r->cpu.idle == 1);
  CHECK(r->pids_limit == 0);
  CHECK(r->blkio.weight_devices[0].weight == 500U);
  CHECK(r->blkio.read_bps[0].rate == UINT64_MAX);
  CHECK(r->hugepages[0].page_size == "2MB");
  CHECK(r->network.priorities[0].second == 3);
  CHECK(r->rdma.at("mlx").hca_handles == 3U);
  CHECK(r->unified == std::vector<std::pair<std::string, std::string>>{{"memory.high", "1"}, {"a.b", "2"}});
  CHECK_FALSE(parse_resources("{}")->memory.limit);
  CHECK_THAT(resources_error(R"({"blockIO":{"weight":65536}})"), Catch::Contains("blockIO.weight"));
  for (const char* size : {"2mb", "../B", "MB", "02MB", "2M"}) {
    CHECK_THAT(resources_error(cat(R"({"hugepageLimits":[{"pageSize":")", std::string_view(size), R"(","limit":1}]})")),
               Catch::Contains("invalid page size"));
  }
}

TEST_CASE("RS-23 device rules") {
  const auto r = parse_resources(R"({"devices":[{"allow":true,"type":"c","major":1,"minor":-1,"access":"rm"}]})");
  REQUIRE(r);
  CHECK(r->devices[0].major == 1);
  CHECK_FALSE(r->devices[0].minor);
  CHECK(r->devices[0].mknod);
  CHECK_FALSE(r->devices[0].write);
  CHECK_THAT(resources_error(R"({"devices":[{"access":"r"},{"allow":true}]})"),
             Catch::EndsWith("device access at 1 field cannot be empty"));
  CHECK_THAT(resources_error(R"({"devices":[{"access":"rx"}]})"), Catch::Contains("invalid access \"rx\""));
  CHECK_THAT(resources_error(R"({"devices":[{"type":"x","access":"r"}]})"),
             Catch::Contains("invalid cgroup device type"));
}

TEST_CASE("RS-24 unified keys are file names") {
  CHECK_THAT(resources_error(R"({"unified":{"../x.y":"1"}})"),
             Catch::EndsWith("unified resource \"../x.y\" must be a file name (no slashes)"));
  CHECK_THAT(resources_error(R"({"unified":{"memory":"1"}})"),
             Catch::EndsWith("unified resource \"memory\" must be in the form CONTROLLER.PARAMETER"));
}

TEST_CASE("names cover their tables") {
  CHECK(namespace_name(NamespaceType::kTime) == std::string("time"));
  CHECK(seccomp_architectures().size() == 23);
}

}  // namespace
}  // namespace gantry
