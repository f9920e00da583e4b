// The rules a parsed Spec must keep.
#include "engine/spec_check.h"

#include <catch2/catch.hpp>
#include <string>

#include "engine/spec_parse.h"
#include "engine/spec_template.h"
#include "sys/text.h"

namespace gantry {
namespace {

/// A good config whose linux object has `linux` and which has `top` besides.
std::string config(std::string_view linux, std::string_view top = R"("hostname":"")") {
  constexpr std::string_view kMountNamespace = R"("namespaces":[{"type":"mount"}])";
  const bool has_namespaces = linux.find("\"namespaces\"") != std::string_view::npos;
  return cat(R"({"ociVersion":"1.0.2","root":{"path":"r"},"process":{"cwd":"/","args":["a"]},)", top, R"(,"linux":{)",
             linux,
             has_namespaces  ? ""
             : linux.empty() ? kMountNamespace
                             : cat(",", kMountNamespace),
             "}}");
}

std::string error_of(std::string_view json) {
  const auto spec = parse_spec(json);
  if (!spec) return "parse: " + spec.error().text;
  std::vector<std::string> warnings;
  const auto checked = check_spec(*spec, warnings);
  return checked ? "" : checked.error().text;
}

std::string linux_error(std::string_view linux) {
  return error_of(config(linux));
}

std::string mount_error(std::string_view mount, std::string_view linux = "") {
  return error_of(config(linux, cat(R"("mounts":[)", mount, ']')));
}

std::string process_error(std::string_view members) {
  const auto process = parse_process(cat(R"({"cwd":"/","args":["a"],)", members, '}'));
  if (!process) return "parse: " + process.error().text;
  std::vector<std::string> warnings;
  const auto checked = check_process(*process, warnings);
  return checked ? "" : checked.error().text;
}

TEST_CASE("SP-01 SP-05 the templates are good") {
  CHECK(error_of(spec_template({.hostname = "runc"})).empty());
  CHECK(error_of(spec_template({.hostname = "g", .cgroup_namespace = true})).empty());
  const std::string rootless = spec_template({.hostname = "g", .rootless = true, .host_uid = 1000, .host_gid = 100});
  CHECK(error_of(rootless).empty());
  CHECK_THAT(rootless, !Catch::Contains("network") && !Catch::Contains("gid=5") && !Catch::Contains("resources") &&
                           Catch::Contains("\"rbind\"") && Catch::Contains("\"hostID\": 1000"));
  CHECK(rootless.back() == '}');
}

TEST_CASE("spec-load errors have runc's texts and order") {
  CHECK(error_of(R"({"process":{}})") == "Cwd property must not be empty");
  CHECK(error_of(R"({"process":{"cwd":"x"}})") == "Cwd must be an absolute path");
  CHECK(error_of(R"({"process":{"cwd":"/"}})") == "args must not be empty");
  CHECK(error_of(R"({"process":{"cwd":"/","args":["a"],"selinuxLabel":"x"}})") ==
        "selinux label is specified in config, but selinux is disabled or not supported");
  CHECK(error_of(R"({"process":{"cwd":"/","args":["a"]}})") == "root must be specified");
  CHECK(error_of(R"({"root":null})") == "root must be specified");
  CHECK_THAT(error_of(R"({"root":{}})"), Catch::Contains("root.path: missing"));
}

TEST_CASE("TL-01 ociVersion") {
  const auto version = [](std::string_view v) {
    return error_of(cat(R"({"root":{"path":"r"},"ociVersion":")", v, "\"}"));
  };
  for (const char* good : {"1.0.0", "1.3.0", "1.0.2-dev", "1.0.0-rc5+build", "1.99.0"}) CHECK(version(good).empty());
  for (const char* bad : {"2.0.0", "0.5.0", "1", "1.0", "1.0.x", "x", "01.0.0", "1.0.0-"}) {
    CHECK_THAT(version(bad), Catch::Contains("ociVersion") && Catch::Contains("1.x.y"));
  }
  CHECK_THAT(version(""), Catch::Contains("ociVersion: missing"));
}

TEST_CASE("TL-04 TL-05 TL-06 names and annotations") {
  CHECK(error_of(config("", R"("hostname":"h")")) == "unable to set hostname without a private UTS namespace");
  CHECK(error_of(config("", R"("domainname":"h")")) == "unable to set domainname without a private UTS namespace");
  CHECK(error_of(config(R"("namespaces":[{"type":"uts"}])", R"("hostname":"h","domainname":"d")")).empty());
  CHECK_THAT(error_of(config(R"("namespaces":[{"type":"uts"}])", cat(R"("hostname":")", std::string(65, 'h'), '"'))),
             Catch::Contains("longer than 64 bytes"));
  CHECK_THAT(error_of(config("", R"("annotations":{"":"x"})")), Catch::Contains("key must not be empty"));
}

TEST_CASE("PR-04 environment") {
  CHECK_THAT(process_error(R"("env":["A=1","B"])"),
             Catch::Equals("process.env[1]: \"B\": invalid environment variable: missing '='"));
  CHECK_THAT(process_error(R"("env":["=1"])"), Catch::Contains("name cannot be empty"));
  CHECK(process_error(R"("env":["A=1","A=2","B="])").empty());
}

TEST_CASE("PR-08 GP-04 rlimits") {
  CHECK_THAT(
      process_error(R"("rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":1,"hard":1}])"),
      Catch::Equals("process.rlimits[1]: RLIMIT_CORE is given twice"));
  CHECK_THAT(process_error(R"("rlimits":[{"type":"RLIMIT_CORE","soft":2,"hard":1}])"),
             Catch::Contains("soft 2 is above hard 1"));
}

TEST_CASE("PR-12 PR-21 ranges of ids and scores") {
  CHECK_THAT(process_error(R"("user":{"uid":4294967295})"), Catch::Contains("not a user id"));
  CHECK_THAT(process_error(R"("user":{"gid":4294967295})"), Catch::Contains("not a group id"));
  CHECK_THAT(process_error(R"("user":{"additionalGids":[4294967295]})"), Catch::Contains("not a group id"));
  CHECK_THAT(process_error(R"("oomScoreAdj":1001)"), Catch::Contains("outside -1000 to 1000"));
  CHECK(process_error(R"("oomScoreAdj":-1000)").empty());
  CHECK(process_error(R"("consoleSize":{"height":65536,"width":1})").empty());
  CHECK_THAT(process_error(R"("terminal":true,"consoleSize":{"height":1,"width":65536})"),
             Catch::Contains("consoleSize: 65536 is above 65535"));
}

TEST_CASE("PR-10 MT-02 warnings") {
  const auto spec = parse_spec(R"({"ociVersion":"1.0.0","root":{"path":"r"},
    "process":{"cwd":"/","args":["a"],"capabilities":{"bounding":["CAP_X","CAP_KILL","CAP_B"]}},
    "mounts":[{"destination":"x","type":"tmpfs"}],"linux":{"namespaces":[{"type":"mount"}]}})");
  REQUIRE(spec);
  std::vector<std::string> warnings;
  REQUIRE(check_spec(*spec, warnings));
  REQUIRE(warnings.size() == 2);
  CHECK_THAT(warnings[0], Catch::Contains("relative"));
  CHECK(warnings[1] == "ignoring unknown or unavailable capabilities: [CAP_B CAP_X]");
}

TEST_CASE("MT-02 destinations") {
  CHECK_THAT(mount_error(R"({"type":"tmpfs"})"), Catch::Contains("mounts[0].destination: missing"));
  for (const char* root : {"/", "//", "/.", "/a/..", "/../.."}) {
    CHECK_THAT(mount_error(cat(R"({"type":"tmpfs","destination":")", std::string_view(root), "\"}")),
               Catch::Contains("is the root itself"));
  }
  CHECK_THAT(mount_error(R"({"destination":"/a"})"), Catch::Contains("mounts[0].type: missing"));
  CHECK_THAT(mount_error(R"({"destination":"/a","options":["bind"]})"), Catch::Contains("mounts[0].source: missing"));
  CHECK(mount_error(R"({"destination":"/a","options":["remount","ro"]})").empty());
}

TEST_CASE("MT-05 a bind takes no data") {
  CHECK_THAT(mount_error(R"({"destination":"/a","source":"/b","options":["rbind","mode=1"]})"),
             Catch::Contains("mounts[0] /a") &&
                 Catch::EndsWith("bind mounts cannot have any filesystem-specific options applied"));
}

TEST_CASE("MT-12 MT-13 id-mapped mounts") {
  const std::string map = R"([{"containerID":0,"hostID":1,"size":1}])";
  const std::string bind = R"({"destination":"/a","source":"/b","options":["bind")";
  CHECK_THAT(mount_error(cat(bind, R"(,"idmap"]})")),
             Catch::EndsWith("id-mapped mounts must have both uid and gid mappings specified"));
  CHECK_THAT(mount_error(cat(bind, R"(],"uidMappings":)", map, '}')),
             Catch::EndsWith("id-mapped mounts must have both uid and gid mappings specified"));
  CHECK(mount_error(cat(bind, R"(],"uidMappings":)", map, R"(,"gidMappings":)", map, '}')).empty());
  constexpr std::string_view kJoined = R"("namespaces":[{"type":"user","path":"/proc/1/ns/user"},{"type":"mount"}])";
  CHECK(mount_error(cat(bind, R"(,"ridmap"]})"), kJoined).empty());
  CHECK_THAT(mount_error(R"({"destination":"/a","type":"tmpfs","options":["idmap"]})"),
             Catch::EndsWith("only supported for bind-mounts"));
}

TEST_CASE("MT-18 proc is protected") {
  const auto bind = [](std::string_view to) {
    return mount_error(cat(R"({"source":"/b","options":["bind"],"destination":")", to, "\"}"));
  };
  CHECK_THAT(bind("/proc/self"), Catch::EndsWith("\"/proc/self\" cannot be mounted because it is inside /proc"));
  CHECK_THAT(bind("/x/../proc//sys/./kernel"), Catch::Contains("\"/proc/sys/kernel\" cannot be mounted"));
  CHECK(bind("/proc/cpuinfo").empty());
  CHECK(bind("/proc/sys/kernel/ns_last_pid").empty());
  CHECK(bind("/proc").empty());
  CHECK(bind("/procfs/x").empty());
  CHECK_THAT(mount_error(R"({"destination":"/proc","type":"tmpfs"})"),
             Catch::EndsWith("\"/proc\" cannot be mounted because it is not of type proc"));
}

TEST_CASE("LX-03 namespace paths") {
  CHECK_THAT(linux_error(R"("namespaces":[{"type":"pid","path":"ns/pid"}])"),
             Catch::StartsWith("invalid namespace path ns/pid"));
  CHECK_THAT(linux_error(R"("namespaces":[{"type":"pid","path":"/a,b"}])"),
             Catch::StartsWith("invalid namespace path /a,b"));
}

TEST_CASE("LX-05 PR-21 user namespaces") {
  const std::string user = R"("namespaces":[{"type":"user"}])";
  const std::string map = R"([{"containerID":0,"hostID":1000,"size":10}])";
  const auto both = [](std::string_view uids, std::string_view gids) {
    return cat(R"("namespaces":[{"type":"user"},{"type":"mount"}],"uidMappings":)", uids, R"(,"gidMappings":)", gids);
  };
  CHECK(linux_error(cat(R"("uidMappings":)", map)) ==
        "user namespace mappings specified, but user namespace isn't enabled in the config");
  CHECK(linux_error(user) == "user namespaces enabled, but no namespace path to join nor mappings to apply specified");
  CHECK(linux_error(R"("namespaces":[{"type":"user","path":"/x"},{"type":"mount"}])").empty());
  CHECK(linux_error(both(map, map)).empty());
  CHECK(linux_error(both(map, "[]")) == "user namespaces enabled, but no gid mappings found");
  CHECK(linux_error(both("[]", map)) == "user namespaces enabled, but no uid mappings found");
  CHECK(linux_error(both(R"([{"containerID":1,"hostID":1,"size":1}])", map)) ==
        "user namespaces enabled, but no user mapping found");
  CHECK_THAT(linux_error(both(R"([{"containerID":0,"hostID":1,"size":0}])", map)),
             Catch::Contains("uidMappings[0].size: 0"));
  CHECK_THAT(linux_error(both(R"([{"containerID":0,"hostID":1,"size":5},{"containerID":4,"hostID":9,"size":5}])", map)),
             Catch::Contains("uidMappings[1]: overlaps with [0]"));
  CHECK_THAT(linux_error(both(R"([{"containerID":0,"hostID":4294967290,"size":10}])", map)),
             Catch::Contains("go beyond"));
  const std::string process = R"("process":{"cwd":"/","args":["a"],"user":{"uid":10}})";
  CHECK(error_of(config(both(map, map), process)) == "cannot setuid to unmapped uid 10 in user namespace");
  const std::string groups = R"("process":{"cwd":"/","args":["a"],"user":{"uid":9,"gid":9,"additionalGids":[11]}})";
  CHECK(error_of(config(both(map, map), groups)) == "cannot setgid to unmapped gid 11 in user namespace");
}

TEST_CASE("LX-06 time offsets need their namespace") {
  const std::string offsets = R"("timeOffsets":{"boottime":{"secs":1}})";
  CHECK(linux_error(offsets) == "time namespace offsets specified, but time namespace isn't enabled in the config");
  CHECK(linux_error(cat(offsets, R"(,"namespaces":[{"type":"time"}])")).empty());
  CHECK_THAT(linux_error(cat(offsets, R"(,"namespaces":[{"type":"time","path":"/x"}])")), Catch::Contains("both"));
  CHECK_THAT(linux_error(R"("namespaces":[{"type":"time"}],"timeOffsets":{"boottime":{"nanosecs":1000000000}})"),
             Catch::Contains("boottime.nanosecs"));
}

TEST_CASE("LX-07 device paths and numbers") {
  CHECK_THAT(linux_error(R"("devices":[{"path":"dev/x","type":"c"}])"), Catch::Contains("devices[0].path"));
  CHECK_THAT(linux_error(R"("devices":[{"path":"/dev/x","type":"c","major":4096}])"),
             Catch::Contains("devices[0].major"));
  CHECK(linux_error(R"("devices":[{"path":"/dev/x","type":"c","major":4095,"minor":1048575}])").empty());
}

TEST_CASE("LX-13 sysctls are namespaced") {
  const auto sysctl = [](std::string_view name, std::string_view ns) {
    return linux_error(cat(R"("sysctl":{")", name, R"(":"1"},"namespaces":[)", ns, ']'));
  };
  const std::string_view ipc = R"({"type":"ipc"})", net = R"({"type":"network"})", uts = R"({"type":"uts"})";
  CHECK(sysctl("kernel.msgmax", ipc).empty());
  CHECK(sysctl("kernel/shm_rmid_forced", ipc).empty());
  CHECK(sysctl("fs.mqueue.msg_max", ipc).empty());
  CHECK(sysctl("kernel.msgmax", net) == "sysctl \"kernel.msgmax\" is not in a separate kernel namespace");
  CHECK(sysctl("net.core.somaxconn", net).empty());
  CHECK(sysctl("net/ipv4/conf/eth0.1/rp_filter", net).empty());
  CHECK(sysctl("net.core.somaxconn", ipc) == "sysctl \"net.core.somaxconn\" not allowed in host network namespace");
  CHECK(sysctl("kernel.domainname", uts).empty());
  CHECK_THAT(sysctl("kernel.hostname", uts), Catch::Contains("conflicts with the OCI \"hostname\" field"));
  CHECK(sysctl("vm.swappiness", ipc) == "sysctl \"vm.swappiness\" is not in a separate kernel namespace");
  CHECK_THAT(sysctl("net/../vm/swappiness", net), Catch::Contains("is not the name of a sysctl"));
  CHECK_THAT(sysctl("net./../x", net), Catch::Contains("is not the name of a sysctl"));
  CHECK(sysctl_path("net.ipv4.conf.eth0/1.rp_filter") == "net/ipv4/conf/eth0.1/rp_filter");
  CHECK(sysctl_path("net/ipv4/conf/eth0.1/rp_filter") == "net/ipv4/conf/eth0.1/rp_filter");
  CHECK(sysctl_path("plain") == std::nullopt);
}

TEST_CASE("LX-15 LX-16 LX-17 protections") {
  for (const std::string_view field : {"maskedPaths", "readonlyPaths"})
    CHECK(linux_error(cat(R"("namespaces":[],")", field, R"(":["/a"])")) ==
          "unable to restrict sys entries without a private MNT namespace");
  CHECK_THAT(linux_error(R"("maskedPaths":["a"],"namespaces":[{"type":"mount"}])"),
             Catch::Contains("must be an absolute path"));
  CHECK_THAT(linux_error(R"("mountLabel":"x")"), Catch::StartsWith("selinux label is specified in config"));
}

TEST_CASE("HK-11 nothing is mounted in the host's mount namespace") {
  constexpr std::string_view kPid = R"("namespaces":[{"type":"pid"}])";
  const auto error = [&](std::string_view linux, std::string_view top = R"("hostname":"")") {
    return error_of(config(cat(kPid, linux), top));
  };
  CHECK(error("").empty());
  CHECK(error("", R"("mounts":[{"destination":"/proc","type":"proc"}])") ==
        "config.json: mounts[0] /proc: would be mounted on the host without a mount namespace; remove it or add "
        "{\"type\": \"mount\"} to linux.namespaces");
  CHECK_THAT(error(R"(,"rootfsPropagation":"shared")"), Catch::Contains("linux.rootfsPropagation: would change"));
  CHECK_THAT(error("", R"("root":{"path":"r","readonly":true})"), Catch::Contains("root.readonly: would be"));
  CHECK_THAT(error(R"(,"maskedPaths":["/x"])"), Catch::Contains("without a private MNT namespace"));
  CHECK_THAT(error_of(config(R"("namespaces":[{"type":"user"}],"uidMappings":[{"containerID":0,"hostID":1,"size":1}],
                             "gidMappings":[{"containerID":0,"hostID":1,"size":1}])")),
             Catch::Contains("linux.namespaces: user: cannot be given device nodes"));
}

TEST_CASE("SC-02 GP-05 errno values belong to two actions") {
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1})"),
             Catch::EndsWith("errno value specified for action SCMP_ACT_ALLOW"));
  CHECK_THAT(linux_error(
                 R"("seccomp":{"defaultAction":"SCMP_ACT_KILL",
               "syscalls":[{"names":["x"],"action":"SCMP_ACT_LOG","errnoRet":1}]})"),
             Catch::EndsWith("errno value specified for action SCMP_ACT_LOG"));
  CHECK(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":5000})").empty());
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000})"),
             Catch::Contains("above 4095"));
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"action":"SCMP_ACT_LOG"}]})"),
             Catch::Contains("syscalls[0].names"));
}

TEST_CASE("SC-09 SC-11 notify") {
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_NOTIFY"})"),
             Catch::Contains("cannot be used as default action"));
  CHECK_THAT(linux_error(
                 R"("seccomp":{"defaultAction":"SCMP_ACT_KILL","listenerPath":"/s",
               "syscalls":[{"names":["write"],"action":"SCMP_ACT_NOTIFY"}]})"),
             Catch::EndsWith("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
  CHECK_THAT(
      linux_error(
          R"("seccomp":{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]})"),
      Catch::Contains("listenerPath: missing"));
  CHECK_THAT(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_KILL","listenerMetadata":"x"})"),
             Catch::Contains("listenerMetadata"));
  CHECK(linux_error(R"("seccomp":{"defaultAction":"SCMP_ACT_KILL","listenerPath":"/s"})").empty());
}

TEST_CASE("HK-01 hooks") {
  CHECK_THAT(error_of(config("", R"("hooks":{"poststop":[{"path":"rel"}]})")),
             Catch::Equals("config.json: hooks.poststop[0].path: \"rel\" must be an absolute path"));
  CHECK_THAT(error_of(config("", R"("hooks":{"prestart":[{"path":"/h"},{}]})")), Catch::Contains("prestart[1].path"));
  CHECK_THAT(error_of(config("", R"("hooks":{"prestart":[{"path":"/h","timeout":0}]})")),
             Catch::Contains("at least 1 second"));
}

}  // namespace
}  // namespace gantry
