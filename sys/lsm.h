// Which Linux security module of the two that container configurations name is active on this host.
#pragma once

namespace gantry::sys {

/// AppArmor is built in and enabled: /sys/module/apparmor/parameters/enabled says Y. False when that cannot be read,
/// which is also how it looks without /sys.
bool apparmor_enabled();

/// SELinux is enabled: its file system is mounted on /sys/fs/selinux (statfs(2), SELINUX_MAGIC).
bool selinux_enabled();

}  // namespace gantry::sys
