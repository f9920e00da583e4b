#include "engine/plan_dump_names.h"

#include <linux/mount.h>
#include <sched.h>
// glibc's header after the kernel's: both define the MOUNT_ATTR names, with the same values.
#include <sys/mount.h>

#include <array>
#include <iterator>

#include "sys/capability.h"
#include "sys/text.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

namespace gantry::plan {

namespace {

using init::Op;

constexpr OpNames kUnknown = {"?"};

constexpr auto kOps = [] {
  std::array<OpNames, static_cast<size_t>(Op::kCount)> ops;
  ops.fill(kUnknown);
  const auto set = [&ops](Op op, OpNames names) { ops[static_cast<size_t>(op)] = names; };
  set(Op::kJoinCgroups, {"JoinCgroups"});
  set(Op::kUnshare, {"Unshare", {}, {""}, {Form::kClone}});
  set(Op::kMaps, {"Maps"});
  set(Op::kTimeOffsets, {"TimeOffsets", {""}});
  set(Op::kResetAffinity, {"ResetAffinity"});
  set(Op::kSetsid, {"Setsid"});
  set(Op::kKeyring, {"Keyring", {""}});
  set(Op::kLoopback, {"Loopback"});
  set(Op::kPropagation, {"Propagation", {}, {""}, {Form::kMountFlags}});
  set(Op::kRootfs, {"Rootfs", {""}});
  set(Op::kMount, {"Mount", {"", "on "}});
  set(Op::kMkdir, {"Mkdir", {""}, {"mode "}, {Form::kOctal}});
  set(Op::kDevice, {"Device",
                    {"", "from "},
                    {"mode ", "", "owner ", "group "},
                    {Form::kOctal, Form::kDevice, Form::kNumber, Form::kNumber}});
  set(Op::kSymlink, {"Symlink", {"to ", "at "}});
  set(Op::kHooks, {"Hooks", {}, {""}, {Form::kHookPoint}});
  set(Op::kPivot, {"Pivot"});
  set(Op::kRootPropagation, {"RootPropagation", {}, {""}, {Form::kMountFlags}});
  set(Op::kConsole, {"Console",
                     {},
                     {"slot ", "rows ", "columns ", "owner "},
                     {Form::kSigned, Form::kNumber, Form::kNumber, Form::kNumber}});
  set(Op::kSetAttr,
      {"SetAttr", {}, {"set ", "clear ", "on "}, {Form::kAttributes, Form::kAttributes, Form::kMountIndex}});
  set(Op::kReadonlyPath, {"ReadonlyPath", {""}});
  set(Op::kMaskedPath, {"MaskedPath", {""}});
  set(Op::kHostname, {"Hostname", {""}});
  set(Op::kDomainname, {"Domainname", {""}});
  set(Op::kSysctl, {"Sysctl", {"", "= "}});
  set(Op::kApparmor, {"Apparmor", {""}});
  set(Op::kUmask, {"Umask", {}, {""}, {Form::kOctal}});
  set(Op::kNoNewPrivs, {"NoNewPrivs"});
  set(Op::kPidfdSocket, {"PidfdSocket", {""}, {"slot "}, {Form::kSigned}});
  set(Op::kRlimit, {"Rlimit", {}, {"resource ", "soft ", "hard "}, {Form::kSigned, Form::kSigned, Form::kSigned}});
  set(Op::kMkCwd, {"MkCwd", {""}});
  set(Op::kIdentity, {"Identity"});
  set(Op::kChdir, {"Chdir", {""}});
  set(Op::kLookPath, {"LookPath", {"", "PATH "}});
  set(Op::kSeccompAnnounce, {"SeccompAnnounce", {}, {"fd "}, {Form::kSigned}});
  set(Op::kReady, {"Ready"});
  set(Op::kSeccomp, {"Seccomp", {}, {"flags ", "fd "}, {Form::kHex, Form::kSigned}});
  set(Op::kFinalCaps, {"FinalCaps"});
  set(Op::kWaitStart, {"WaitStart", {}, {"fifo slot ", "status slot "}, {Form::kSigned, Form::kSigned}});
  set(Op::kStartHooks, {"StartHooks", {}, {""}, {Form::kNumber}});
  set(Op::kPlaceFds, {"PlaceFds", {}, {"from slot ", "count "}, {Form::kSigned, Form::kNumber}});
  set(Op::kExec, {"Exec"});
  return ops;
}();

constexpr bool all_named() {
  for (size_t i = 1; i < kOps.size(); ++i) {
    if (kOps[i].name == kUnknown.name) return false;
  }
  return true;
}
static_assert(all_named(), "an operation has no name");

constexpr BitName kClone[] = {
    {CLONE_NEWNS, "mount"}, {CLONE_NEWPID, "pid"},   {CLONE_NEWNET, "network"},   {CLONE_NEWIPC, "ipc"},
    {CLONE_NEWUTS, "uts"},  {CLONE_NEWUSER, "user"}, {CLONE_NEWCGROUP, "cgroup"}, {CLONE_NEWTIME, "time"},
};

constexpr BitName kMountFlags[] = {
    {MS_RDONLY, "ro"},     {MS_SYNCHRONOUS, "sync"},      {MS_MANDLOCK, "mand"},     {MS_DIRSYNC, "dirsync"},
    {MS_SILENT, "silent"}, {MS_UNBINDABLE, "unbindable"}, {MS_PRIVATE, "private"},   {MS_SLAVE, "slave"},
    {MS_SHARED, "shared"}, {MS_I_VERSION, "iversion"},    {MS_LAZYTIME, "lazytime"}, {MS_REC, "recursive"},
};

constexpr BitName kHeaderFlags[] = {
    {init::kHeaderNoClone, "no clone"},           {init::kHeaderOomScore, "oom score"},
    {init::kHeaderKeepDumpable, "keep dumpable"}, {init::kHeaderJoinEarly, "join early"},
    {init::kHeaderCommitAhead, "commit ahead"},   {init::kHeaderCgroupByWrite, "cgroup by write"},
    {init::kHeaderTargetRoot, "target's root"},
};

constexpr BitName kStepFlags[] = {
    {init::kStepBind, "bind"},           {init::kStepReplace, "replace"},          {init::kStepNoPivot, "no pivot"},
    {init::kStepRecursive, "recursive"}, {init::kStepListener, "listener"},        {init::kStepNeedHome, "need HOME"},
    {init::kStepChdirEarly, "early"},    {init::kStepHostMounts, "host's mounts"},
};

constexpr BitName kMountArgs[] = {
    {init::kMountRecursive, "recursive"},
    {init::kMountTmpCopyUp, "copy up"},
    {init::kMountFromLauncher, "from launcher"},
    {init::kMountIdmap, "idmap"},
    {init::kMountIdmapRecursive, "idmap recursive"},
    {init::kMountRealDirectory, "real directory"},
    {init::kMountInheritMode, "inherit mode"},
    {init::kMountKeepLocked, "keep locked"},
    {init::kMountSysfsFallback, "sysfs fallback"},
    {init::kMountCgroupFallback, "cgroup fallback"},
};

constexpr BitName kIdentity[] = {
    {init::kIdentitySetGroups, "set groups"},
    {init::kIdentityKeepSysAdmin, "keep sys_admin"},
    {init::kIdentityChownStdio, "chown stdio"},
};

// strictatime is a value of the access time field and noatime another; neither is a bit of its own, but they are
// single ones, which is all that a name needs.
constexpr BitName kAttributes[] = {
    {MOUNT_ATTR_RDONLY, "ro"},
    {MOUNT_ATTR_NOSUID, "nosuid"},
    {MOUNT_ATTR_NODEV, "nodev"},
    {MOUNT_ATTR_NOEXEC, "noexec"},
    {MOUNT_ATTR_NOATIME, "noatime"},
    {MOUNT_ATTR_STRICTATIME, "strictatime"},
    {MOUNT_ATTR_NODIRATIME, "nodiratime"},
    {MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"},
};

}  // namespace

const OpNames& op_names(init::Op op) {
  const auto index = static_cast<size_t>(op);
  return index < kOps.size() ? kOps[index] : kUnknown;
}

std::span<const BitName> clone_names() {
  return kClone;
}
std::span<const BitName> mount_flag_names() {
  return kMountFlags;
}
std::span<const BitName> header_flag_names() {
  return kHeaderFlags;
}
std::span<const BitName> step_flag_names() {
  return kStepFlags;
}
std::span<const BitName> mount_arg_names() {
  return kMountArgs;
}
std::span<const BitName> identity_flag_names() {
  return kIdentity;
}

std::string_view kind_name(init::Kind kind) {
  switch (kind) {
    case init::Kind::kContainer:
      return "container";
    case init::Kind::kExec:
      return "exec";
    case init::Kind::kHook:
      return "hook";
  }
  return "?";
}

std::string_view mount_kind_name(init::MountKind kind) {
  switch (kind) {
    case init::MountKind::kFilesystem:
      return "filesystem";
    case init::MountKind::kBind:
      return "bind";
    case init::MountKind::kRemount:
      return "remount";
  }
  return "?";
}

std::string bit_names(std::span<const BitName> names, uint64_t bits) {
  std::string out;
  for (const BitName& name : names) {
    if ((bits & name.bit) != name.bit) continue;
    bits &= ~name.bit;
    out += cat(out.empty() ? "" : "|", name.name);
  }
  if (bits == 0 && !out.empty()) return out;
  if (bits == 0) return "0";
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof digits, bits, 16);
  return cat(out, out.empty() ? "0x" : "|0x", std::string_view(digits, end.ptr));
}

std::string attribute_names(uint64_t bits) {
  if ((bits & MOUNT_ATTR__ATIME) != MOUNT_ATTR__ATIME) return bit_names(kAttributes, bits);
  const uint64_t rest = bits & ~uint64_t{MOUNT_ATTR__ATIME};
  return rest == 0 ? "atime" : bit_names(kAttributes, rest) + "|atime";
}

std::string capability_list(uint64_t mask) {
  std::string out;
  for (int number = 0; number < 64; ++number) {
    if ((mask >> number & 1) == 0) continue;
    const std::string_view name = sys::capability_name(number);
    out += cat(out.empty() ? "" : " ", name.empty() ? cat("CAP_", number) : std::string(name));
  }
  return out.empty() ? "none" : out;
}

}  // namespace gantry::plan
