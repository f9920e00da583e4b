// The container's configuration after parsing: typed, defaulted, with no strings left to interpret.
//
// Source: OCI runtime-spec 1.3.0 (config.md, config-linux.md). parse_spec() makes it from bytes, check_spec() judges
// it, plan_build() compiles it. An absent optional is "not given"; a protection that is absent is never "skip it".
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace gantry {

/// One range of a user namespace map; all ids in numbers, `size` >= 1.
struct IdMapping {
  uint32_t container_id = 0;
  uint32_t host_id = 0;
  uint32_t size = 0;
  bool operator==(const IdMapping&) const = default;
};

/// In characters; without a terminal it has no meaning, so any number is accepted then (PR-02).
struct ConsoleSize {
  uint64_t rows = 0;
  uint64_t columns = 0;
};

struct Rlimit {
  int resource = 0;  ///< RLIMIT_*
  rlim_t soft = 0;
  rlim_t hard = 0;
};

/// Capability sets as bit masks (bit N = capability N, linux/capability.h). Unknown names are collected, not failed
/// (PR-10).
struct Capabilities {
  uint64_t bounding = 0;
  uint64_t effective = 0;
  uint64_t inheritable = 0;
  uint64_t permitted = 0;
  uint64_t ambient = 0;
  std::vector<std::string> unknown;  ///< names for the warning "ignoring unknown or unavailable capabilities: [..]"
};

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
  std::optional<uint32_t> umask;
  std::vector<gid_t> additional_gids;
};

/// process of config.json, or the whole of `exec --process FILE`.
struct Process {
  bool terminal = false;
  std::optional<ConsoleSize> console_size;
  User user;
  std::vector<std::string> args;
  std::vector<std::string> env;  ///< KEY=VALUE in order, duplicates still there
  std::string cwd;
  std::optional<Capabilities> capabilities;  ///< absent: none, as if all five sets were empty
  std::vector<Rlimit> rlimits;
  bool no_new_privileges = false;
  std::string apparmor_profile;
  std::string selinux_label;
  std::optional<int> oom_score_adj;
};

/// Mount options after parsing. `set`/`clear` are MOUNT_ATTR_* bits (mount_setattr(2)); atime is handled as a field, as
/// the kernel wants. The recursive pair comes from rro, rnosuid, ... and is applied with AT_RECURSIVE.
struct MountFlags {
  uint64_t set = 0;
  uint64_t clear = 0;
  uint64_t rec_set = 0;
  uint64_t rec_clear = 0;
  uint64_t propagation = 0;  ///< one MS_SHARED/SLAVE/PRIVATE/UNBINDABLE, 0 = none given
  bool propagation_recursive = false;
  bool any_attribute = false;    ///< an attribute option was given at all: a bind without one is not remounted (MT-23)
  unsigned long superblock = 0;  ///< MS_* that belong to the superblock: MS_RDONLY for "ro", MS_SYNCHRONOUS,
                                 ///< MS_DIRSYNC, MS_MANDLOCK, MS_LAZYTIME, MS_I_VERSION, MS_SILENT
};

struct Mount {
  std::string destination;  ///< absolute path inside the rootfs
  std::string source;       ///< as given; relative to the bundle for binds
  std::string type;         ///< as given; empty for most binds
  bool bind = false;
  bool recursive_bind = false;
  bool remount = false;
  bool tmpcopyup = false;
  bool idmap = false;            ///< mappings below, or those of the container's user namespace when empty
  bool idmap_recursive = false;  ///< ridmap
  bool copy_symlink = false;     ///< crun's options (CX-07) are refused by the parser unless noted
  MountFlags flags;
  std::vector<std::string> data;  ///< filesystem-specific options in order, each KEY or KEY=VALUE
  std::vector<IdMapping> uid_mappings;
  std::vector<IdMapping> gid_mappings;
};

enum class NamespaceType : uint8_t { kMount, kPid, kNetwork, kIpc, kUts, kUser, kCgroup, kTime };
inline constexpr size_t kNamespaceTypes = 8;

/// "mount", "pid", ...: the spec's names.
const char* namespace_name(NamespaceType type);

struct NamespaceSpec {
  bool wanted = false;  ///< listed in linux.namespaces
  std::string path;     ///< join this one; empty = new
};

struct TimeOffset {
  int64_t secs = 0;
  uint32_t nanosecs = 0;
};

struct Device {
  std::string path;
  mode_t type = 0;  ///< S_IFCHR, S_IFBLK or S_IFIFO
  uint32_t major = 0;
  uint32_t minor = 0;
  mode_t mode = 0666;
  uid_t uid = 0;
  gid_t gid = 0;
};

struct DeviceRule {
  bool allow = false;
  char type = 'a';               ///< 'a', 'c' or 'b'
  std::optional<int64_t> major;  ///< absent = any
  std::optional<int64_t> minor;
  bool read = false, write = false, mknod = false;
};

struct MemoryResources {
  std::optional<int64_t> limit, reservation, swap;  ///< bytes, -1 = unlimited
  std::optional<int64_t> kernel, kernel_tcp;        ///< ignored with a warning (RS-04)
  std::optional<uint64_t> swappiness;
  std::optional<bool> disable_oom_killer, use_hierarchy, check_before_update;
};

struct CpuResources {
  std::optional<uint64_t> shares, period, realtime_period, burst;  ///< microseconds but for shares
  std::optional<int64_t> quota, realtime_runtime, idle;
  std::optional<std::string> cpus, mems;
};

struct BlkioDevice {
  int64_t major = 0, minor = 0;
  std::optional<uint64_t> weight, leaf_weight, rate;
};

struct BlkioResources {
  std::optional<uint16_t> weight, leaf_weight;
  std::vector<BlkioDevice> weight_devices, read_bps, write_bps, read_iops, write_iops;
};

struct HugepageLimit {
  std::string page_size;  ///< "2MB"
  uint64_t limit = 0;
};

struct NetworkResources {
  std::optional<uint32_t> class_id;
  std::vector<std::pair<std::string, uint32_t>> priorities;
};

struct RdmaLimit {
  std::optional<uint32_t> hca_handles, hca_objects;
};

/// linux.resources; also what `update --resources` reads.
struct Resources {
  std::vector<DeviceRule> devices;
  MemoryResources memory;
  CpuResources cpu;
  std::optional<int64_t> pids_limit;
  BlkioResources blkio;
  std::vector<HugepageLimit> hugepages;
  NetworkResources network;
  std::map<std::string, RdmaLimit> rdma;
  std::vector<std::pair<std::string, std::string>> unified;  ///< file name -> value, in the config's order
};

enum class SeccompAction : uint8_t { kKillThread, kKillProcess, kTrap, kErrno, kTrace, kAllow, kLog, kNotify };
enum class SeccompOp : uint8_t { kNotEqual, kLess, kLessEqual, kEqual, kGreaterEqual, kGreater, kMaskedEqual };

struct SeccompArg {
  uint32_t index = 0;  ///< 0..5
  uint64_t value = 0, value_two = 0;
  SeccompOp op = SeccompOp::kEqual;
};

struct SeccompRule {
  std::vector<std::string> names;
  SeccompAction action = SeccompAction::kErrno;
  std::optional<uint32_t> errno_ret;
  std::vector<SeccompArg> args;
};

struct Seccomp {
  SeccompAction default_action = SeccompAction::kErrno;
  std::optional<uint32_t> default_errno_ret;
  std::vector<std::string> architectures;         ///< SCMP_ARCH_* names, known ones only
  std::optional<std::vector<std::string>> flags;  ///< SECCOMP_FILTER_FLAG_*; absent and empty differ (SC-04)
  std::string listener_path, listener_metadata;
  std::vector<SeccompRule> rules;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;                ///< argv including [0]; empty = {path}
  std::optional<std::vector<std::string>> env;  ///< absent and empty differ (HK-10)
  std::optional<int> timeout_seconds;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
};

/// Everything config.json says that we act on.
struct Spec {
  std::string oci_version;
  std::optional<Process> process;  ///< absent: create works, start does not (LC-09)
  bool has_root = false;           ///< root was given at all
  std::string root_path;           ///< as given, absolute or relative to the bundle
  bool root_readonly = false;
  std::string hostname, domainname;
  std::vector<Mount> mounts;
  Hooks hooks;
  std::map<std::string, std::string> annotations;
  std::vector<std::string> parse_warnings;  ///< what the parser put right by itself; check_spec hands them on

  // linux
  bool has_linux = false;
  std::array<NamespaceSpec, kNamespaceTypes> namespaces;
  std::vector<IdMapping> uid_mappings, gid_mappings;
  std::optional<TimeOffset> time_monotonic, time_boottime;
  std::vector<Device> devices;
  std::string cgroups_path;
  Resources resources;
  std::vector<std::pair<std::string, std::string>> sysctl;
  std::optional<Seccomp> seccomp;
  unsigned long rootfs_propagation = 0;  ///< MS_* as mount(2) takes it (MS_REC included); 0 = default rslave
  std::vector<std::string> masked_paths, readonly_paths;
  std::string mount_label;

  const NamespaceSpec& ns(NamespaceType type) const { return namespaces[static_cast<size_t>(type)]; }
  NamespaceSpec& ns(NamespaceType type) { return namespaces[static_cast<size_t>(type)]; }
  /// A new one is made.
  bool creates(NamespaceType type) const { return ns(type).wanted && ns(type).path.empty(); }
  bool joins(NamespaceType type) const { return ns(type).wanted && !ns(type).path.empty(); }
};

}  // namespace gantry
