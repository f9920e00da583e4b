// mounts[] of the config, and the notify directory.
#include <sys/mount.h>

#include <algorithm>

#include "engine/plan_parts.h"
#include "sys/text.h"

namespace gantry::plan {

namespace {

using init::MountArgs;

bool is_bind(const Mount& mount) {
  return mount.bind || mount.type == "bind" || mount.type == "rbind";
}

bool is_idmapped(const Mount& mount) {
  return mount.idmap || !mount.uid_mappings.empty() || !mount.gid_mappings.empty();
}

bool has_option(const std::vector<std::string>& data, std::string_view key) {
  return std::any_of(data.begin(), data.end(), [key](const std::string& option) { return option.starts_with(key); });
}

/// A superblock that the kernel shares with other mounts, perhaps of other containers in the same namespace: "ro" must
/// only reach this mount, or all later ones would find it read-only.
bool shares_superblock(std::string_view type) {
  return type == "sysfs" || type == "cgroup" || type == "cgroup2" || type == "mqueue";
}

std::string map_text(const std::vector<IdMapping>& mappings) {
  std::string text;
  for (const IdMapping& map : mappings) {
    text += cat(map.container_id, " ", map.host_id, " ", map.size, "\n");
  }
  return text;
}

/// tmpfs and /dev are filled by the mounts, devices and links that follow: "ro" comes last (MT-19).
bool waits_for_readonly(const Draft& draft, const Mount& mount, const MountArgs& args, std::string_view destination) {
  if ((args.attr_set & MOUNT_ATTR_RDONLY) == 0) return false;
  const bool is_tmpfs = args.kind == init::MountKind::kFilesystem && mount.type == "tmpfs";
  return (is_tmpfs || destination == "/dev") && draft.deferred.size() < init::kMaxKept;
}

void defer_readonly(Draft& draft, MountArgs& args, const std::string& label) {
  args.attr_set &= ~uint64_t{MOUNT_ATTR_RDONLY};
  args.superblock &= ~uint64_t{MS_RDONLY};
  draft.deferred.push_back({label, static_cast<uint32_t>(draft.deferred.size())});
  args.keep = static_cast<uint32_t>(draft.deferred.size());
}

Result<> add_idmap(Draft& draft, const Mount& mount, MountArgs& args) {
  args.flags |= init::kMountIdmap | init::kMountFromLauncher;
  if (mount.idmap_recursive) args.flags |= init::kMountIdmapRecursive;
  if (mount.uid_mappings.empty() != mount.gid_mappings.empty() ||
      (mount.uid_mappings.empty() && !draft.has_user_namespace())) {
    return fail("id-mapped mounts must have both uid and gid mappings specified");
  }
  args.uid_map = draft.writer.text_or_absent(map_text(mount.uid_mappings));
  args.gid_map = draft.writer.text_or_absent(map_text(mount.gid_mappings));
  return {};
}

Result<> describe_bind(Draft& draft, const Mount& mount, MountArgs& args) {
  if (mount.source.empty()) return fail("a bind mount needs a source");
  args.kind = init::MountKind::kBind;
  if (mount.recursive_bind || mount.type == "rbind") args.flags |= init::kMountRecursive;
  if (draft.has_user_namespace()) args.flags |= init::kMountFromLauncher;
  // Without an attribute word there is no remount at all, as with mount(8) (MT-23).
  if (mount.flags.any_attribute) {
    args.attr_set = mount.flags.set;
    args.attr_clear = mount.flags.clear;
    args.flags |= init::kMountKeepLocked;
  }
  if (is_idmapped(mount)) GANTRY_TRY(add_idmap(draft, mount, args));
  return {};
}

void describe_filesystem(Draft& draft, const Mount& mount, MountArgs& args) {
  args.kind = init::MountKind::kFilesystem;
  args.fstype = draft.writer.text(mount.type);
  args.attr_set = mount.flags.set;
  args.attr_clear = mount.flags.clear;
  args.superblock = mount.flags.superblock;
  if (shares_superblock(mount.type)) args.superblock &= ~uint64_t{MS_RDONLY};
  if (mount.type == "proc" || mount.type == "sysfs") args.flags |= init::kMountRealDirectory;
  if (mount.type == "sysfs" && !draft.spec.creates(NamespaceType::kNetwork)) args.flags |= init::kMountSysfsFallback;
  if (mount.type == "tmpfs" && !has_option(mount.data, "mode=")) args.flags |= init::kMountInheritMode;
  if (mount.type == "tmpfs" && mount.tmpcopyup) args.flags |= init::kMountTmpCopyUp;
  if (mount.type == "cgroup2" && !draft.context.v2_container_path.empty()) {
    args.flags |= init::kMountCgroupFallback;
    args.fallback = draft.writer.text(draft.context.v2_container_path);
  }
}

void describe_remount(const Mount& mount, MountArgs& args) {
  args.kind = init::MountKind::kRemount;
  args.attr_set = mount.flags.set;
  args.attr_clear = mount.flags.clear;
  // mount(2) with MS_BIND|MS_REMOUNT changes this mount only, without MS_BIND the superblock too.
  if (!is_bind(mount)) args.superblock = mount.flags.superblock;
}

std::string source_of(const Draft& draft, const Mount& mount) {
  if (is_bind(mount) && !mount.source.empty()) return below_bundle(draft.context.bundle, mount.source);
  return mount.source.empty() ? mount.type : mount.source;
}

}  // namespace

Result<> add_mount(Draft& draft, const Mount& mount, const std::string& label) {
  MountArgs args = {};
  if (mount.remount) {
    describe_remount(mount, args);
  } else if (is_bind(mount)) {
    if (auto described = describe_bind(draft, mount, args); !described) return forward(std::move(described), label);
  } else {
    describe_filesystem(draft, mount, args);
  }
  args.rec_set = mount.flags.rec_set;
  args.rec_clear = mount.flags.rec_clear;
  args.propagation = mount.flags.propagation | (mount.flags.propagation_recursive ? uint64_t{MS_REC} : 0);
  if (args.kind != init::MountKind::kBind) {
    std::vector<std::string> data = mount.data;
    const bool resets = mount.type == "cgroup2" && !mount.remount && !draft.spec.creates(NamespaceType::kCgroup);
    if (resets) data.insert(data.end(), draft.context.v2_options.begin(), draft.context.v2_options.end());
    args.data = draft.writer.list(data);
    args.data_count = static_cast<uint32_t>(data.size());
  }
  const std::string destination = clean_path(mount.destination);
  if (waits_for_readonly(draft, mount, args, destination)) defer_readonly(draft, args, label);

  const init::Ref source = draft.writer.text_or_absent(source_of(draft, mount));
  const init::Ref target = draft.writer.text(destination);
  const init::Ref blob = draft.writer.blob(args);
  init::Step& step = draft.writer.step(init::Op::kMount, label);
  step.s[0] = source;
  step.s[1] = target;
  step.s[2] = blob;
  return {};
}

Result<> add_mounts(Draft& draft) {
  for (size_t i = 0; i < draft.spec.mounts.size(); ++i) {
    const Mount& mount = draft.spec.mounts[i];
    std::string label = cat("mounts[", i, "] ", mount.destination);
    if (mount.bind && !mount.source.empty()) label += cat(" from ", mount.source);
    const bool is_cgroup = mount.type == "cgroup" && !is_bind(mount) && !mount.remount;
    GANTRY_TRY(is_cgroup ? add_cgroup_mount(draft, mount, label) : add_mount(draft, mount, label));
  }
  if (draft.context.notify_dir.empty()) return {};
  Mount notify;
  notify.destination = "/run/notify";
  notify.source = draft.context.notify_dir;
  notify.bind = true;
  notify.flags.set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
  notify.flags.any_attribute = true;
  return add_mount(draft, notify, "NOTIFY_SOCKET /run/notify");
}

std::string below_bundle(std::string_view bundle, std::string_view path) {
  return path.starts_with('/') ? std::string(path) : cat(bundle, "/", path);
}

}  // namespace gantry::plan
