// The functions behind the operations of a Plan, one for each Op; they return, or die with a reason.
#pragma once

#include "sys/init/context.h"

namespace gantry::init {

using StepFunction = void (*)(Context&, const Step&);

// mounts.cc
void step_mount(Context& ctx, const Step& step);
void step_set_attr(Context& ctx, const Step& step);
// rootfs.cc
void step_propagation(Context& ctx, const Step& step);
void step_rootfs(Context& ctx, const Step& step);
void step_pivot(Context& ctx, const Step& step);
void step_mkdir(Context& ctx, const Step& step);
void step_make_cwd(Context& ctx, const Step& step);
// devices.cc
void step_device(Context& ctx, const Step& step);
void step_symlink(Context& ctx, const Step& step);
// masks.cc
void step_readonly_path(Context& ctx, const Step& step);
void step_masked_path(Context& ctx, const Step& step);
// console.cc
void step_console(Context& ctx, const Step& step);
void step_pidfd_socket(Context& ctx, const Step& step);
// namespaces.cc
void step_unshare(Context& ctx, const Step& step);
void step_maps(Context& ctx, const Step& step);
void step_time_offsets(Context& ctx, const Step& step);
void step_loopback(Context& ctx, const Step& step);
void step_hostname(Context& ctx, const Step& step);
void step_domainname(Context& ctx, const Step& step);
void step_sysctl(Context& ctx, const Step& step);
void step_reset_affinity(Context& ctx, const Step& step);
// identity.cc
void step_identity(Context& ctx, const Step& step);
void step_final_caps(Context& ctx, const Step& step);
void step_chdir(Context& ctx, const Step& step);
// security.cc
void step_keyring(Context& ctx, const Step& step);
void step_apparmor(Context& ctx, const Step& step);
void step_no_new_privs(Context& ctx, const Step& step);
void step_seccomp_announce(Context& ctx, const Step& step);
void step_seccomp(Context& ctx, const Step& step);
// hooks.cc
void step_start_hooks(Context& ctx, const Step& step);
// start.cc
void step_ready(Context& ctx, const Step& step);
void step_look_path(Context& ctx, const Step& step);
void step_wait_start(Context& ctx, const Step& step);
void step_exec(Context& ctx, const Step& step);

// classic_mount.cc
/// True when an option is too long for fsconfig(2), or a flag that only mount(2) has (iversion).
bool needs_classic_mount(const Context& ctx, const MountArgs& args);

/// The file system of `args` as a detached mount with its attributes, made by mount(2) in a private directory that
/// covers `target` for a moment. `mode` may be empty: the mode of its root directory (tmpfs).
int classic_mount(Context& ctx, const MountArgs& args, const char* source, int target, const char* mode);

// copyup.cc
/// Copies what lies below `from` into the (detached, empty) mount `to`: owners, modes, times' owners aside, xattrs.
/// Returns a negative errno on failure.
long copy_tree(int from, int to);

}  // namespace gantry::init
