// Mounts of type "cgroup": one word in the config, many mounts on v1.
#include <sys/mount.h>

#include "engine/plan_parts.h"
#include "sys/text.h"

namespace gantry::plan {

namespace {

constexpr uint64_t kSafe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

std::string base_name(std::string_view path) {
  return std::string(path.substr(path.rfind('/') + 1));
}

/// A mount of the same options as `asked` at another place.
Mount derived(const Mount& asked, std::string destination) {
  Mount made;
  made.destination = std::move(destination);
  made.flags.set = kSafe | (asked.flags.set & MOUNT_ATTR_RDONLY);
  made.flags.any_attribute = true;
  made.flags.propagation = asked.flags.propagation;
  made.flags.propagation_recursive = asked.flags.propagation_recursive;
  return made;
}

Mount hierarchy_mount(const Draft& draft, const Mount& asked, const V1Hierarchy& hierarchy) {
  Mount made = derived(asked, cat(asked.destination, "/", base_name(hierarchy.mountpoint)));
  if (draft.spec.ns(NamespaceType::kCgroup).wanted) {
    // In a cgroup namespace a fresh mount shows the container's cgroup as its root.
    made.type = "cgroup";
    made.source = "cgroup";
    for (const std::string_view option : split(hierarchy.options, ',')) made.data.emplace_back(option);
  } else {
    made.bind = true;
    made.recursive_bind = true;
    made.source = hierarchy.mountpoint + hierarchy.container_path;
  }
  return made;
}

/// cpu -> cpu,cpuacct and cpuacct -> cpu,cpuacct.
void add_joint_links(Draft& draft, const Mount& asked, const std::string& name, const std::string& label) {
  if (name.find(',') == std::string::npos) return;
  for (const std::string_view controller : split(name, ',')) {
    const init::Ref link = draft.writer.text(clean_path(cat(asked.destination, "/", controller)));
    step_with(draft.writer, init::Op::kSymlink, label, name).s[1] = link;
  }
}

Result<> add_v1(Draft& draft, const Mount& asked, const std::string& label) {
  Mount top = derived(asked, asked.destination);
  top.type = "tmpfs";
  top.source = "tmpfs";
  top.data = {"mode=755"};
  GANTRY_TRY(add_mount(draft, top, label));
  for (const V1Hierarchy& hierarchy : draft.context.v1) {
    const std::string name = base_name(hierarchy.mountpoint);
    GANTRY_TRY(add_mount(draft, hierarchy_mount(draft, asked, hierarchy), cat(label, "/", name)));
  }
  for (const V1Hierarchy& hierarchy : draft.context.v1) {
    add_joint_links(draft, asked, base_name(hierarchy.mountpoint), label);
  }
  return {};
}

}  // namespace

Result<> add_cgroup_mount(Draft& draft, const Mount& mount, const std::string& label) {
  switch (draft.context.cgroup_mode) {
    case PlanCgroups::kV1:
      return add_v1(draft, mount, label);
    case PlanCgroups::kV2: {
      Mount unified = mount;
      unified.type = "cgroup2";
      return add_mount(draft, unified, label);
    }
    case PlanCgroups::kNone:
      break;
  }
  return fail(cat(label, ": a mount of type cgroup needs a cgroup, and this container has none"));
}

}  // namespace gantry::plan
