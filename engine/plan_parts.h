// The parts of the Plan builder, one file each by subject: they append their steps to the writer. Private to plan_*.cc.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/plan_build.h"
#include "engine/plan_writer.h"

namespace gantry::plan {

/// A mount whose read-only flag waits until everything below it is made (MT-19).
struct DeferredReadonly {
  std::string label;
  uint32_t keep;  ///< index of the kept mount fd, from 0
};

/// What the parts of one container Plan share.
struct Draft {
  const Spec& spec;
  const PlanContext& context;
  PlanWriter writer = {};
  std::vector<DeferredReadonly> deferred = {};

  /// Made or joined; without one nothing may be mounted.
  bool has_mount_namespace() const { return spec.ns(NamespaceType::kMount).wanted; }
  bool has_user_namespace() const { return spec.ns(NamespaceType::kUser).wanted; }
};

/// Which steps around the identity differ between a container's init and an exec'd process.
enum class Role : uint8_t { kInit, kExec };

/// CLONE_NEW* of a namespace type.
uint64_t clone_flag(NamespaceType type);

/// Appends a step with one string.
init::Step& step_with(PlanWriter& writer, init::Op op, std::string_view label, std::string_view first);

/// Header and everything before the rootfs: cgroups, maps, time, session, keyring, loopback.
void add_namespaces(Draft& draft);
void add_keyring(PlanWriter& writer, const PlanContext& context);

/// Propagation and the rootfs itself, then all mounts of the config in order (MT-*), and the notify directory.
Result<> add_root(Draft& draft);
Result<> add_mounts(Draft& draft);

/// The two forms of a mount of type "cgroup" (MT-15, MT-16). `index` is that of the mount in the config.
Result<> add_cgroup_mount(Draft& draft, const Mount& mount, const std::string& label);

/// One ordinary mount.
Result<> add_mount(Draft& draft, const Mount& mount, const std::string& label);

/// Default and configured devices and the links in /dev (LX-07..09).
void add_devices(Draft& draft);

/// Hook points, pivot, and what needs the container's root: cwd, console (`bind`: also on /dev/console), read-only
/// flags, names, sysctl, masks.
Result<> add_pivot(Draft& draft);
Result<> add_console(PlanWriter& writer, const Process& process, const PlanContext& context, bool bind);
void add_finish(Draft& draft);

/// umask to exec. `waits`: the Plan of a container, which waits for `start` and runs startContainer hooks.
Result<> add_process(PlanWriter& writer, const Process& process, const PlanContext& context, Role role,
                     const std::vector<Hook>& start_hooks);

/// The end of a Plan without process.
void add_ready(PlanWriter& writer);
void add_wait_start(PlanWriter& writer, const PlanContext& context);

/// startContainer hooks (HK-05). Those without an env get `env`, which must be the one of add_process()'s exec: init
/// knows them by the shared list and adds the same HOME.
void add_start_hooks(PlanWriter& writer, const std::vector<Hook>& hooks, const std::vector<std::string>& env,
                     const PlanContext& context);

/// An absolute path, seen from `bundle` when it is relative.
std::string below_bundle(std::string_view bundle, std::string_view path);

}  // namespace gantry::plan
