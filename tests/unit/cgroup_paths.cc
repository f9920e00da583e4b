// Where a container's cgroups are.
#include <linux/mount.h>

#include <catch2/catch.hpp>

#include "engine/cgroup.h"

namespace gantry {
namespace {

CgroupHost v2_host() {
  return {CgroupMode::kV2, "/sys/fs/cgroup", {{{}, "/sys/fs/cgroup", ""}}};
}

CgroupHost hybrid_host() {
  CgroupHost host{CgroupMode::kHybrid, "/sys/fs/cgroup", {}};
  host.hierarchies.push_back({{"cpu", "cpuacct"}, "/sys/fs/cgroup/cpu,cpuacct", ""});
  host.hierarchies.push_back({{"name=systemd"}, "/sys/fs/cgroup/systemd", ""});
  host.hierarchies.push_back({{}, "/sys/fs/cgroup/unified", ""});
  return host;
}

std::string error_of(CgroupMode mode, const std::vector<std::string>& arguments) {
  const auto subs = parse_sub_cgroups(mode, arguments);
  return subs ? "" : subs.error().text;
}

}  // namespace

TEST_CASE("cgroup paths never leave their root") {
  CHECK(clean_path("/a/b") == "/a/b");
  CHECK(clean_path("a//b/./c/") == "/a/b/c");
  CHECK(clean_path("/a/../b") == "/b");
  CHECK(clean_path("/../../etc") == "/etc");
  CHECK(clean_path("../..") == "/");
  CHECK(clean_path("") == "/");
  CHECK(clean_path("...") == "/...");
  for (const char* path : {"/", "/a", "/a/b", "/...", "/a/..b", "/.a"}) CHECK(is_clean_path(path));
  for (const char* path : {"", "a", "//", "/a/", "/a//b", "/./a", "/a/.", "/a/..", "/../a", "."})
    CHECK_FALSE(is_clean_path(path));
}

TEST_CASE("an absolute path is below each mountpoint, controller by controller") {
  const auto paths = resolve_cgroup(hybrid_host(), "/user/../pod/x", "id");
  REQUIRE(paths);
  using Pair = std::pair<std::string, std::string>;
  CHECK(paths->dirs == std::vector<Pair>{{"cpu", "/sys/fs/cgroup/cpu,cpuacct/pod/x"},
                                         {"cpuacct", "/sys/fs/cgroup/cpu,cpuacct/pod/x"},
                                         {"name=systemd", "/sys/fs/cgroup/systemd/pod/x"},
                                         {"", "/sys/fs/cgroup/unified/pod/x"}});
  CHECK(resolve_cgroup(v2_host(), "/a", "id")->dirs == std::vector<Pair>{{"", "/sys/fs/cgroup/a"}});
}

TEST_CASE("a relative or empty path is below the caller's place and stays the same") {
  const auto by_id = resolve_cgroup(v2_host(), "", "box");
  REQUIRE(by_id);
  CHECK(by_id->dirs.front().second.ends_with("/box"));
  CHECK(by_id->dirs == resolve_cgroup(v2_host(), "box", "other")->dirs);
  CHECK(resolve_cgroup(hybrid_host(), "sub/../box", "x")->dirs == resolve_cgroup(hybrid_host(), "", "box")->dirs);
}

TEST_CASE("the root of a hierarchy is no container's cgroup") {
  for (const char* const path : {"/", "/..", ".", "a/..", "//"}) {
    const auto paths = resolve_cgroup(v2_host(), path, "id");
    REQUIRE_FALSE(paths);
    CHECK(paths.error().text.find("linux.cgroupsPath") == 0);
  }
  CHECK_FALSE(resolve_cgroup(v2_host(), "/a\nb", "id"));
  CHECK_FALSE(resolve_cgroup(v2_host(), std::string_view("/a\0b", 4), "id"));
}

TEST_CASE("stored paths are not believed when they name more than a container's cgroup") {
  using Dirs = std::vector<std::pair<std::string, std::string>>;
  for (const Dirs& dirs : {Dirs{}, Dirs{{"cpu", "/sys/fs/cgroup/cpu"}}, Dirs{{"cpu", "/"}}, Dirs{{"cpu", "relative"}},
                           Dirs{{"cpu", "/sys/fs/cgroup/cpu/a/../.."}}, Dirs{{"cpu", "/sys/fs/cgroup/cpu/"}}}) {
    CHECK_FALSE(Cgroup::open({CgroupMode::kV1, dirs}));
  }
  CHECK_FALSE(Cgroup::open({CgroupMode::kV2, {{"", "/sys/fs/cgroup"}}}));
  CHECK(Cgroup::open({CgroupMode::kV2, {{"", "/sys/fs/cgroup/a"}}}));
  CHECK(Cgroup::open({CgroupMode::kV1, {{"cpu", "/sys/fs/cgroup/cpu/a"}}}));
}

TEST_CASE("a cgroup that is gone is empty, thawed and easy to remove") {
  auto gone = Cgroup::open(
      {CgroupMode::kHybrid, {{"freezer", "/sys/fs/cgroup/freezer/no/such"}, {"", "/sys/fs/cgroup/unified/no/such"}}});
  REQUIRE(gone);
  CHECK(*gone->empty());
  CHECK_FALSE(*gone->frozen());
  CHECK(gone->oom_kills() == 0);
  CHECK_FALSE(gone->join_fds());
}

TEST_CASE("/proc/PID/cgroup names hierarchies") {
  const auto lines = parse_proc_cgroup("4:cpu,cpuacct:/a:/b\n1:name=systemd:/init.scope\n0::/\n", "/cg");
  REQUIRE(lines);
  REQUIRE(lines->size() == 3);
  CHECK((*lines)[0].controllers == std::vector<std::string>{"cpu", "cpuacct"});
  CHECK((*lines)[0].mountpoint == "/cg/cpu,cpuacct");
  CHECK((*lines)[0].own_path == "/a:/b");
  CHECK((*lines)[1].mountpoint == "/cg/systemd");
  CHECK((*lines)[2].controllers.empty());
  CHECK((*lines)[2].mountpoint == "/cg/unified");
  CHECK_FALSE(parse_proc_cgroup("nonsense\n", "/cg"));
  CHECK_FALSE(parse_proc_cgroup("1:cpu\n", "/cg"));
}

TEST_CASE("--cgroup arguments") {
  const auto plain = parse_sub_cgroups(CgroupMode::kV2, {"/a//b/./"});
  REQUIRE(plain);
  CHECK(plain->front().path == "a/b");
  CHECK(plain->front().controllers.empty());
  const auto pair = parse_sub_cgroups(CgroupMode::kV1, {"cpu,cpuacct:x", "memory:/"});
  REQUIRE(pair);
  CHECK((*pair)[0].controllers == std::vector<std::string>{"cpu", "cpuacct"});
  CHECK((*pair)[1].path.empty());

  CHECK(error_of(CgroupMode::kV2, {".."}) == "bad sub cgroup path: ..");
  CHECK(error_of(CgroupMode::kV2, {"a/../../b"}) == "bad sub cgroup path: a/../../b");
  CHECK(error_of(CgroupMode::kV1, {"cpu:../other"}) == "bad sub cgroup path: ../other");
  CHECK(error_of(CgroupMode::kV1, {"a", "b"}) == "invalid --cgroup argument: a (missing <controller>: prefix)");
  CHECK(error_of(CgroupMode::kV1, {":a"}) == "invalid --cgroup argument: :a (empty <controller> prefix)");
  CHECK(error_of(CgroupMode::kV1, {"cpu,:a"}) == "invalid --cgroup argument: cpu,:a (empty <controller> prefix)");
  CHECK(error_of(CgroupMode::kV1, {"cpu:a", "cpu:b"}) ==
        "invalid --cgroup argument(s): controller cpu specified multiple times");
  CHECK(error_of(CgroupMode::kV2, {"cpu:a"}) == "unknown controller cpu in SubCgroupPaths");
  CHECK(error_of(CgroupMode::kV1, {"a/..b"}).empty());
}

TEST_CASE("modes have names in the state file") {
  for (const auto mode : {CgroupMode::kV1, CgroupMode::kHybrid, CgroupMode::kV2}) {
    CHECK(*parse_cgroup_mode(cgroup_mode_name(mode)) == mode);
  }
  CHECK_FALSE(parse_cgroup_mode("v3"));
}

TEST_CASE("CG-07 only a writable mount in a cgroup namespace of its own gives the cgroup away") {
  Spec spec;
  spec.process.emplace().user.uid = 5;
  spec.mounts.emplace_back().type = "cgroup";
  CHECK_FALSE(cgroup_owner(spec));
  spec.namespaces[static_cast<size_t>(NamespaceType::kCgroup)].wanted = true;
  CHECK(cgroup_owner(spec) == uid_t{5});
  spec.mounts[0].flags.set = MOUNT_ATTR_RDONLY;
  CHECK_FALSE(cgroup_owner(spec));
  spec.mounts[0].flags.set = 0;
  spec.namespaces[static_cast<size_t>(NamespaceType::kCgroup)].path = "/proc/1/ns/cgroup";
  CHECK_FALSE(cgroup_owner(spec));
}

TEST_CASE("CG-07 the owner is a uid of the host") {
  Spec spec;
  spec.process.emplace().user.uid = 5;
  spec.mounts.emplace_back().type = "cgroup2";
  spec.namespaces[static_cast<size_t>(NamespaceType::kCgroup)].wanted = true;
  spec.namespaces[static_cast<size_t>(NamespaceType::kUser)].wanted = true;
  CHECK_FALSE(cgroup_owner(spec));  // nobody on the host
  spec.uid_mappings = {{0, 1000, 1}, {1, 100000, 10}};
  CHECK(cgroup_owner(spec) == uid_t{100004});
}

}  // namespace gantry
