// Rules of mounts one by one.
#include <linux/mount.h>
#include <sys/mount.h>

#include <catch2/catch.hpp>

#include "engine/plan_parts.h"
#include "plan_support.h"
#include "sys/text.h"

using namespace gantry;
using namespace plan_test;
using init::MountArgs;
using init::Op;

namespace {

Opened with(Mount mount, PlanContext where = context(), Spec spec = default_spec()) {
  spec.mounts.push_back(std::move(mount));
  return Opened(build_container_plan(spec, where));
}

std::string refusal(Mount mount) {
  Spec spec = default_spec();
  spec.mounts.push_back(std::move(mount));
  const auto plan = build_container_plan(spec, context());
  return plan ? "" : plan.error().text;
}

}  // namespace

TEST_CASE("MT-02 destinations are cleaned, so that no step makes a directory named ..") {
  CHECK(clean_path("/a/./b//../c/") == "/a/c");
  CHECK(clean_path("../..") == "/");
  CHECK(clean_path("relative") == "/relative");
  CHECK(with(mount_of("tmpfs", "t", "/x/../y/", {})).has_mount("/y"));
}

TEST_CASE("MT-03 relative sources of binds are below the bundle, others stay as they are") {
  const Opened plan = with(mount_of("bind", "data", "/d", {"bind"}));
  CHECK(plan.text(plan.find(Op::kMount, 10).s[0]) == "/srv/c1/data");
  const Opened other = with(mount_of("overlay", "over", "/d", {"lowerdir=/a:/b"}));
  CHECK(other.text(other.find(Op::kMount, 10).s[0]) == "over");
  CHECK(refusal(mount_of("bind", "", "/d", {"bind"})) == "mounts[7] /d: a bind mount needs a source");
}

TEST_CASE("MT-08 propagation goes to a call of its own") {
  CHECK(with(mount_of("bind", "/s", "/d", {"bind", "rshared"})).mount("/d").propagation == (MS_SHARED | MS_REC));
  CHECK(with(mount_of("bind", "/s", "/d", {"bind", "slave"})).mount("/d").propagation == MS_SLAVE);
}

TEST_CASE("MT-11 recursive attributes stand apart") {
  const MountArgs args = with(mount_of("bind", "/s", "/d", {"rbind", "rro"})).mount("/d");
  CHECK(args.rec_set == MOUNT_ATTR_RDONLY);
  CHECK(args.attr_set == 0);
  CHECK((args.flags & init::kMountRecursive) != 0);
}

TEST_CASE("MT-12 idmap takes its own maps, those of the user namespace, or fails") {
  Mount mapped = mount_of("bind", "/s", "/d", {"bind", "ridmap"});
  CHECK(refusal(mapped) == "mounts[7] /d from /s: id-mapped mounts must have both uid and gid mappings specified");
  mapped.uid_mappings = {{0, 1000, 10}, {10, 2000, 5}};
  CHECK_FALSE(refusal(mapped).empty());
  mapped.gid_mappings = {{0, 3000, 1}};
  const Opened plan = with(mapped);
  const MountArgs args = plan.mount("/d");
  CHECK(args.flags == (init::kMountIdmap | init::kMountIdmapRecursive | init::kMountFromLauncher));
  CHECK(plan.text(args.uid_map) == "0 1000 10\n10 2000 5\n");
  CHECK(plan.text(args.gid_map) == "0 3000 1\n");
  Spec spec = default_spec();
  add_user_namespace(spec);
  const MountArgs implied = with(mount_of("bind", "/s", "/d", {"bind", "idmap"}), context(), spec).mount("/d");
  CHECK(implied.uid_map.offset == 0);
  CHECK(implied.flags == (init::kMountIdmap | init::kMountFromLauncher));
}

TEST_CASE("MT-13 mappings without the word are like idmap") {
  Mount mapped = mount_of("bind", "/s", "/d", {"bind"});
  mapped.uid_mappings = mapped.gid_mappings = {{0, 1, 1}};
  CHECK((with(mapped).mount("/d").flags & init::kMountIdmap) != 0);
}

TEST_CASE("MT-14 clearing words clear, and locked flags of an outer namespace are kept") {
  const MountArgs args = with(mount_of("bind", "/s", "/d", {"bind", "rw", "noatime"})).mount("/d");
  CHECK(args.attr_set == MOUNT_ATTR_NOATIME);
  CHECK(args.attr_clear == (MOUNT_ATTR_RDONLY | MOUNT_ATTR__ATIME));
  CHECK((args.flags & init::kMountKeepLocked) != 0);
}

TEST_CASE("MT-23 a bind without attribute words changes nothing") {
  const MountArgs args = with(mount_of("bind", "/s", "/d", {"bind", "private"})).mount("/d");
  CHECK(args.attr_set == 0);
  CHECK(args.attr_clear == 0);
  CHECK(args.flags == 0);
  CHECK(args.superblock == 0);
}

TEST_CASE("MT-16 cgroup2 keeps the options of the host's, unless the cgroup namespace is a new one") {
  PlanContext where = context();
  where.cgroup_mode = PlanCgroups::kV2;
  where.v2_options = {"nsdelegate", "memory_recursiveprot"};
  const std::string both("favordynmods\0nsdelegate\0memory_recursiveprot\0", 45);
  for (const char* type : {"cgroup", "cgroup2"}) {
    const Opened plan = with(mount_of(type, "c", "/c", {"ro", "favordynmods"}), where);
    CHECK(plan.mount("/c").data_count == 3);
    CHECK(plan.text(plan.mount("/c").data) == both);
    Spec spec = default_spec();
    spec.ns(NamespaceType::kCgroup).wanted = true;
    spec.ns(NamespaceType::kCgroup).path = "/proc/1/ns/cgroup";
    CHECK(with(mount_of(type, "c", "/c", {}), where, spec).mount("/c").data_count == 2);
    spec.ns(NamespaceType::kCgroup).path.clear();
    CHECK(with(mount_of(type, "c", "/c", {}), where, spec).mount("/c").data_count == 0);
  }
  CHECK(with(mount_of("bind", "/s", "/d", {"bind"}), where).mount("/d").data_count == 0);
  CHECK(with(mount_of("tmpfs", "t", "/d", {}), where).mount("/d").data_count == 0);
}

TEST_CASE("MT-15 v1 with the host's cgroup namespace binds, with a private one mounts") {
  const Opened host = with(mount_of("proc", "p", "/p", {}));
  CHECK(host.mount("/sys/fs/cgroup/cpu,cpuacct").kind == init::MountKind::kBind);
  Spec spec = default_spec();
  spec.ns(NamespaceType::kCgroup).wanted = true;
  const Opened own = with(mount_of("proc", "p", "/p", {}), context(), spec);
  const MountArgs args = own.mount("/sys/fs/cgroup/systemd");
  CHECK(args.kind == init::MountKind::kFilesystem);
  CHECK(args.data_count == 1);
  CHECK(own.text(args.data) == std::string("name=systemd\0", 13));
  CHECK((args.attr_set & MOUNT_ATTR_RDONLY) != 0);
}

TEST_CASE("MT-15 a read-write cgroup mount stays so everywhere") {
  Spec spec = default_spec();
  spec.mounts.pop_back();
  spec.mounts.push_back(mount_of("cgroup", "cgroup", "/sys/fs/cgroup", {"nosuid", "rw"}));
  const Opened plan(build_container_plan(spec, context()));
  CHECK(plan.mount("/sys/fs/cgroup").keep == 0);
  CHECK((plan.mount("/sys/fs/cgroup/memory").attr_set & MOUNT_ATTR_RDONLY) == 0);
}

TEST_CASE("a cgroup mount without any cgroup is refused by name") {
  PlanContext where = context();
  where.cgroup_mode = PlanCgroups::kNone;
  const auto plan = build_container_plan(default_spec(), where);
  REQUIRE_FALSE(plan);
  CHECK_THAT(plan.error().text, Catch::StartsWith("mounts[6] /sys/fs/cgroup: "));
}

TEST_CASE("MT-17 proc and sysfs want real directories; sysfs may fall back without a network namespace of its own") {
  Spec spec = default_spec();
  CHECK(Opened(build_container_plan(spec, context())).mount("/sys").flags == init::kMountRealDirectory);
  spec.ns(NamespaceType::kNetwork).wanted = false;
  CHECK(Opened(build_container_plan(spec, context())).mount("/sys").flags ==
        (init::kMountRealDirectory | init::kMountSysfsFallback));
}

TEST_CASE("MT-17 ro does not reach superblocks that the kernel shares with other containers") {
  CHECK(with(mount_of("sysfs", "s", "/s", {"ro"})).mount("/s").superblock == 0);
  CHECK(with(mount_of("ext4", "/dev/loop0", "/s", {"ro", "sync"})).mount("/s").superblock ==
        (MS_RDONLY | MS_SYNCHRONOUS));
}

TEST_CASE("MT-19 read-only tmpfs and /dev become so at the end") {
  const Opened plan = with(mount_of("tmpfs", "t", "/t", {"ro"}));
  const MountArgs args = plan.mount("/t");
  CHECK((args.attr_set & MOUNT_ATTR_RDONLY) == 0);
  CHECK(args.superblock == 0);
  CHECK(args.keep == 2);  // the cgroup tmpfs is the first
  CHECK((args.flags & init::kMountInheritMode) != 0);
  const init::Step& late = plan.find(Op::kSetAttr, 1);
  CHECK(late.n[0] == MOUNT_ATTR_RDONLY);
  CHECK(late.n[2] == 1);
  CHECK(plan.label(late) == "mounts[7] /t");
  CHECK((with(mount_of("tmpfs", "t", "/t", {"mode=700"})).mount("/t").flags & init::kMountInheritMode) == 0);
}

TEST_CASE("MT-19 more read-only tmpfs than can be kept are made read-only at once") {
  Spec spec = default_spec();
  for (uint32_t i = 0; i < init::kMaxKept + 2; ++i) {
    spec.mounts.push_back(mount_of("tmpfs", "t", "/t" + std::to_string(i), {"ro"}));
  }
  const Opened plan(build_container_plan(spec, context()));
  CHECK(plan.mount("/t0").keep == 2);
  const MountArgs last = plan.mount("/t" + std::to_string(init::kMaxKept + 1));
  CHECK(last.keep == 0);
  CHECK((last.attr_set & MOUNT_ATTR_RDONLY) != 0);
}

TEST_CASE("MT-21 with a user namespace the launcher opens every bind source") {
  Spec spec = default_spec();
  spec.ns(NamespaceType::kUser).wanted = true;
  spec.ns(NamespaceType::kUser).path = "/proc/1/ns/user";
  const Opened plan = with(mount_of("bind", "/s", "/d", {"bind"}), context(), spec);
  CHECK((plan.mount("/d").flags & init::kMountFromLauncher) != 0);
  CHECK((plan.mount("/sys/fs/cgroup/memory").flags & init::kMountFromLauncher) != 0);
}

TEST_CASE("MT-07 remount changes what is there, its superblock only when it is no bind") {
  const MountArgs whole = with(mount_of("tmpfs", "t", "/dev", {"remount", "ro", "size=1m"})).mount("/dev");
  CHECK(whole.kind == init::MountKind::kFilesystem);  // the first mount of /dev
  const Opened plan = with(mount_of("tmpfs", "t", "/r", {"remount", "ro", "size=1m"}));
  const MountArgs again = plan.mount("/r");
  CHECK(again.kind == init::MountKind::kRemount);
  CHECK(again.keep == 0);
  CHECK(again.superblock == MS_RDONLY);
  CHECK(again.data_count == 1);
  CHECK(with(mount_of("", "x", "/r", {"remount", "bind", "ro"})).mount("/r").superblock == 0);
}

TEST_CASE("EN-05 the notify directory comes after all mounts, read-only") {
  PlanContext where = context();
  where.notify_dir = "/run/gantry/c1/notify";
  const Opened plan(build_container_plan(default_spec(), where));
  CHECK(plan.mount("/run/notify").attr_set ==
        (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  const size_t last = plan.count(Op::kMount) - 1;
  CHECK(plan.text(plan.find(Op::kMount, last).s[1]) == "/run/notify");
}
