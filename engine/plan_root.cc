// The rootfs: from the propagation of the new mount namespace to the pivot, and what is settled right after it.
#include <sys/mount.h>

#include <algorithm>

#include "engine/plan_parts.h"
#include "sys/text.h"

namespace gantry::plan {

namespace {

/// What "/" gets before the rootfs is bound. A container that shares must still be in the host's peer groups then;
/// an unbindable "/" could not be bound at all, so that waits until after the pivot.
uint64_t early_propagation(unsigned long wanted) {
  const uint64_t kind = wanted & ~static_cast<unsigned long>(MS_REC);
  if (kind == 0) return MS_SLAVE | MS_REC;
  if (kind == MS_UNBINDABLE) return MS_PRIVATE | MS_REC;
  return kind | MS_REC;
}

/// net.ipv4.ip_forward or net/ipv4/conf/eth0.1/forwarding: the first separator says which of the two forms it is, and
/// the other character then belongs to a name (sysctl(8)).
std::string sysctl_path(std::string_view key) {
  std::string path(key);
  const size_t first = path.find_first_of("./");
  if (first == std::string::npos || path[first] == '/') return path;
  for (char& c : path) {
    if (c == '.') {
      c = '/';
    } else if (c == '/') {
      c = '.';
    }
  }
  return path;
}

bool is_unbindable(const Spec& spec) {
  return (spec.rootfs_propagation & MS_UNBINDABLE) != 0;
}

void add_root_propagation(Draft& draft) {
  init::Step& step = draft.writer.step(init::Op::kRootPropagation, "linux.rootfsPropagation");
  step.n[0] = draft.spec.rootfs_propagation;
}

bool is_root(const std::string& path) {
  return clean_path(path) == "/";
}

void add_hook_point(Draft& draft, init::HookPoint point, std::string_view label) {
  draft.writer.step(init::Op::kHooks, label).n[0] = static_cast<uint64_t>(point);
}

void add_readonly(Draft& draft) {
  for (const DeferredReadonly& mount : draft.deferred) {
    init::Step& step = draft.writer.step(init::Op::kSetAttr, mount.label);
    step.n[0] = MOUNT_ATTR_RDONLY;
    step.n[2] = mount.keep;
  }
  // The root cannot be covered by a mount of itself as the other paths are: nobody would walk into it.
  const auto& paths = draft.spec.readonly_paths;
  const auto root = std::find_if(paths.begin(), paths.end(), is_root);
  if (!draft.spec.root_readonly && root == paths.end()) return;
  const std::string_view label = draft.spec.root_readonly ? "root.readonly" : "linux.readonlyPaths /";
  init::Step& step = draft.writer.step(init::Op::kSetAttr, label);
  step.n[0] = MOUNT_ATTR_RDONLY;
  step.n[2] = ~uint64_t{0};
}

void add_paths(Draft& draft, init::Op op, const std::vector<std::string>& paths, std::string_view field) {
  for (size_t i = 0; i < paths.size(); ++i) {
    if (op == init::Op::kReadonlyPath && is_root(paths[i])) continue;
    step_with(draft.writer, op, cat(field, "[", i, "] ", paths[i]), paths[i]);
  }
}

}  // namespace

Result<> add_root(Draft& draft) {
  const std::string& rootfs = draft.context.rootfs;
  if (!draft.has_mount_namespace()) {
    if (!draft.context.notify_dir.empty())
      return fail("NOTIFY_SOCKET: cannot be mounted for a container without a mount namespace; unset it");
    step_with(draft.writer, init::Op::kRootfs, cat("root.path ", rootfs), rootfs).flags |= init::kStepHostMounts;
    return {};
  }
  const unsigned long wanted = draft.spec.rootfs_propagation;
  if (draft.context.no_pivot && (wanted & MS_PRIVATE) != 0) {
    return fail("rootfsPropagation of [r]private is not safe without pivot_root");
  }
  draft.writer.step(init::Op::kPropagation, "linux.rootfsPropagation").n[0] = early_propagation(wanted);
  step_with(draft.writer, init::Op::kRootfs, cat("root.path ", rootfs), rootfs);
  return {};
}

Result<> add_pivot(Draft& draft) {
  const Spec& spec = draft.spec;
  if (draft.context.runtime_hooks_point) add_hook_point(draft, init::HookPoint::kRuntime, "hooks");
  if (!spec.hooks.create_container.empty()) {
    add_hook_point(draft, init::HookPoint::kCreateContainer, "hooks.createContainer");
  }
  init::Step& pivot = draft.writer.step(init::Op::kPivot, cat("root.path ", draft.context.rootfs));
  if (!draft.has_mount_namespace()) {
    pivot.flags |= init::kStepHostMounts;
  } else if (draft.context.no_pivot) {
    pivot.flags |= init::kStepNoPivot;
  }
  if (spec.rootfs_propagation != 0 && !is_unbindable(spec)) add_root_propagation(draft);
  if (spec.process) {
    step_with(draft.writer, init::Op::kMkCwd, cat("process.cwd ", spec.process->cwd), spec.process->cwd);
  }
  return {};
}

void add_finish(Draft& draft) {
  const Spec& spec = draft.spec;
  PlanWriter& writer = draft.writer;
  add_readonly(draft);
  if (!spec.hostname.empty()) step_with(writer, init::Op::kHostname, "hostname", spec.hostname);
  if (!spec.domainname.empty()) step_with(writer, init::Op::kDomainname, "domainname", spec.domainname);
  if (spec.process && !spec.process->apparmor_profile.empty()) {
    const std::string& profile = spec.process->apparmor_profile;
    step_with(writer, init::Op::kApparmor, cat("process.apparmorProfile ", profile), profile);
  }
  for (const auto& [key, value] : spec.sysctl) {
    const init::Ref written = writer.text(value);
    step_with(writer, init::Op::kSysctl, cat("linux.sysctl ", key), sysctl_path(key)).s[1] = written;
  }
  add_paths(draft, init::Op::kReadonlyPath, spec.readonly_paths, "linux.readonlyPaths");
  add_paths(draft, init::Op::kMaskedPath, spec.masked_paths, "linux.maskedPaths");
  // Read-only paths are binds: they would be refused.
  if (is_unbindable(spec)) add_root_propagation(draft);
}

}  // namespace gantry::plan
