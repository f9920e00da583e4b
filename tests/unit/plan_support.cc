#include "plan_support.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/mount_options.h"
#include "engine/plan_dump.h"

namespace plan_test {

using gantry::Mount;
using gantry::NamespaceType;
using gantry::PlanContext;
using gantry::Spec;
namespace init = gantry::init;

Mount mount_of(std::string type, std::string source, std::string destination, std::vector<std::string> options) {
  Mount mount;
  mount.type = std::move(type);
  mount.source = std::move(source);
  mount.destination = std::move(destination);
  for (const std::string& option : options) REQUIRE(gantry::apply_mount_option(option, mount));
  return mount;
}

namespace {

gantry::Process default_process() {
  gantry::Process process;
  process.args = {"sh"};
  process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"};
  process.cwd = "/";
  gantry::Capabilities caps;
  caps.bounding = caps.effective = caps.permitted = 1ull << 29 | 1ull << 5 | 1ull << 10;
  process.capabilities = caps;
  process.no_new_privileges = true;
  return process;
}

std::vector<Mount> default_mounts() {
  return {
      mount_of("proc", "proc", "/proc", {}),
      mount_of("tmpfs", "tmpfs", "/dev", {"nosuid", "strictatime", "mode=755", "size=65536k"}),
      mount_of("devpts", "devpts", "/dev/pts",
               {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}),
      mount_of("tmpfs", "shm", "/dev/shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}),
      mount_of("mqueue", "mqueue", "/dev/mqueue", {"nosuid", "noexec", "nodev"}),
      mount_of("sysfs", "sysfs", "/sys", {"nosuid", "noexec", "nodev", "ro"}),
      mount_of("cgroup", "cgroup", "/sys/fs/cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}),
  };
}

constexpr sock_filter kFilter[] = {
    {0x20, 0, 0, 0},
    {0x15, 0, 1, 165},
    {0x06, 0, 0, SECCOMP_RET_ALLOW},
};

}  // namespace

Spec default_spec() {
  Spec spec;
  spec.oci_version = "1.3.0";
  spec.process = default_process();
  spec.root_path = "rootfs";
  spec.root_readonly = true;
  spec.hostname = "gantry";
  spec.mounts = default_mounts();
  spec.has_linux = true;
  for (const auto type : {NamespaceType::kPid, NamespaceType::kNetwork, NamespaceType::kIpc, NamespaceType::kUts,
                          NamespaceType::kMount}) {
    spec.ns(type).wanted = true;
  }
  spec.masked_paths = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"};
  spec.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
  return spec;
}

Spec podman_spec() {
  Spec spec = default_spec();
  spec.root_readonly = false;
  spec.ns(NamespaceType::kCgroup).wanted = true;
  spec.ns(NamespaceType::kNetwork).path = "/run/netns/pod";
  spec.process->args = {"/bin/sh", "-c", "echo hello"};
  spec.process->env = {"TERM=xterm", "container=podman",   "PATH=/bin",
                       "HOME=/root", "PATH=/usr/bin:/bin", "HOSTNAME=c1"};
  spec.process->no_new_privileges = false;
  spec.process->user.umask = 027;
  spec.process->user.uid = 1000;
  spec.process->user.gid = 100;
  spec.process->user.additional_gids = {10, 20};
  spec.process->oom_score_adj = 100;
  spec.mounts.push_back(mount_of("bind", "/run/c1/hosts", "/etc/hosts", {"bind", "rprivate"}));
  spec.mounts.push_back(mount_of("bind", "data", "/data", {"rbind", "rslave", "ro", "nosuid"}));
  spec.mounts.push_back(mount_of("tmpfs", "tmpfs", "/run/lock", {"ro", "tmpcopyup"}));
  gantry::Device fuse;
  fuse.path = "/dev/fuse";
  fuse.type = S_IFCHR;
  fuse.major = 10;
  fuse.minor = 229;
  spec.devices = {fuse};
  spec.sysctl = {{"net.ipv4.ping_group_range", "0 0"}, {"net/ipv4/conf/eth0.1/forwarding", "1"}};
  spec.rootfs_propagation = 0;
  return spec;
}

void add_user_namespace(Spec& spec) {
  spec.ns(NamespaceType::kUser).wanted = true;
  spec.uid_mappings = {{0, 100000, 65536}};
  spec.gid_mappings = {{0, 200000, 65536}};
}

PlanContext context() {
  PlanContext made;
  made.id = "c1";
  made.bundle = "/srv/c1";
  made.rootfs = "/srv/c1/rootfs";
  made.cgroup_mode = gantry::PlanCgroups::kV1;
  made.v1 = {{"/sys/fs/cgroup/cpu,cpuacct", "cpu,cpuacct", "/parent/c1"},
             {"/sys/fs/cgroup/memory", "memory", "/parent/c1"},
             {"/sys/fs/cgroup/systemd", "name=systemd", "/parent/c1"}};
  made.slots.exec_fifo = 0;
  made.slots.status_fifo = 1;
  made.slots.count = 2;
  return made;
}

std::string_view some_filter() {
  return {reinterpret_cast<const char*>(kFilter), sizeof kFilter};
}

Opened::Opened(gantry::Result<std::string> plan) {
  INFO((plan ? "" : plan.error().text));
  REQUIRE(plan);
  bytes_ = std::move(*plan);
  const char* wrong = init::open_plan(bytes_.data(), bytes_.size(), &view_);
  INFO((wrong != nullptr ? wrong : ""));
  REQUIRE(wrong == nullptr);
}

std::vector<std::string> Opened::ops() const {
  std::vector<std::string> names;
  for (uint32_t i = 0; i < view_.header->step_count; ++i) names.emplace_back(gantry::op_name(view_.steps[i].op));
  return names;
}

const init::Step& Opened::find(init::Op op, size_t nth) const {
  for (uint32_t i = 0; i < view_.header->step_count; ++i) {
    if (view_.steps[i].op == op && nth-- == 0) return view_.steps[i];
  }
  FAIL("no step " << gantry::op_name(op));
  return view_.steps[0];
}

size_t Opened::count(init::Op op) const {
  size_t found = 0;
  for (uint32_t i = 0; i < view_.header->step_count; ++i) found += view_.steps[i].op == op ? 1 : 0;
  return found;
}

const init::Step* Opened::find_mount(std::string_view destination) const {
  for (uint32_t i = 0; i < view_.header->step_count; ++i) {
    const init::Step& step = view_.steps[i];
    if (step.op == init::Op::kMount && text(step.s[1]) == destination) return &step;
  }
  return nullptr;
}

bool Opened::has_mount(std::string_view destination) const {
  return find_mount(destination) != nullptr;
}

init::MountArgs Opened::mount(std::string_view destination) const {
  const init::Step* step = find_mount(destination);
  INFO("mount on " << destination);
  REQUIRE(step != nullptr);
  return blob<init::MountArgs>(step->s[2]);
}

std::string Opened::text(init::Ref ref) const {
  return {view_.arena + ref.offset, ref.length};
}

std::string Opened::label(const init::Step& step) const {
  return view_.arena + step.label;
}

void check_golden(std::string_view name, const gantry::Result<std::string>& plan) {
  INFO((plan ? "" : plan.error().text));
  REQUIRE(plan);
  const auto dumped = gantry::dump_plan(*plan);
  INFO((dumped ? "" : dumped.error().text));
  REQUIRE(dumped);
  const auto file = std::filesystem::path(__FILE__).parent_path() / "golden" / (std::string(name) + ".txt");
  if (std::getenv("GANTRY_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(file, std::ios::binary) << *dumped;
    return;
  }
  std::ifstream in(file, std::ios::binary);
  REQUIRE(in.good());
  const std::string wanted{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  CHECK(*dumped == wanted);
}

}  // namespace plan_test
