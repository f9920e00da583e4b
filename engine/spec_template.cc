#include "engine/spec_template.h"

#include <span>
#include <string_view>
#include <vector>

#include "engine/json_write.h"

namespace gantry {

namespace {

using json::Writer;
using Words = std::vector<std::string_view>;

void put_capabilities(Writer& out) {
  const Words names = {"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"};
  out.key("capabilities").begin_object();
  for (const char* set : {"bounding", "effective", "permitted"}) out.list(set, names);
  out.end_object();
}

void put_process(Writer& out) {
  out.key("process").begin_object();
  out.member("terminal", true);
  out.key("user").begin_object().member("uid", 0).member("gid", 0).end_object();
  out.list("args", Words{"sh"});
  out.list("env", Words{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"});
  out.member("cwd", "/");
  put_capabilities(out);
  out.key("rlimits").begin_array().begin_object();
  out.member("type", "RLIMIT_NOFILE").member("hard", 1024).member("soft", 1024);
  out.end_object().end_array();
  out.member("noNewPrivileges", true);
  out.end_object();
}

struct MountRow {
  std::string_view destination, type, source;
  Words options;
};

void put_mount(Writer& out, const MountRow& mount) {
  out.begin_object();
  out.member("destination", mount.destination).member("type", mount.type).member("source", mount.source);
  if (!mount.options.empty()) out.list("options", mount.options);
  out.end_object();
}

void put_mounts(Writer& out, bool rootless) {
  Words pts = {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"};
  // One mapped id has no group 5 to give the terminals to.
  if (!rootless) pts.emplace_back("gid=5");
  MountRow sys = {"/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}};
  // Without a network namespace of its own a user namespace may not mount a new sysfs.
  if (rootless) sys = {"/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}};
  const MountRow rows[] = {
      {"/proc", "proc", "proc", {}},
      {"/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}},
      {"/dev/pts", "devpts", "devpts", pts},
      {"/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
      {"/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}},
      sys,
      {"/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}},
  };
  out.key("mounts").begin_array();
  for (const MountRow& row : rows) put_mount(out, row);
  out.end_array();
}

void put_map(Writer& out, std::string_view name, uint32_t host_id) {
  out.key(name).begin_array().begin_object();
  out.member("containerID", 0).member("hostID", host_id).member("size", 1);
  out.end_object().end_array();
}

void put_namespaces(Writer& out, const SpecTemplateOptions& options) {
  Words types = {"pid"};
  if (!options.rootless) types.emplace_back("network");
  for (const char* type : {"ipc", "uts", "mount"}) types.emplace_back(type);
  if (options.cgroup_namespace) types.emplace_back("cgroup");
  if (options.rootless) types.emplace_back("user");
  out.key("namespaces").begin_array();
  for (const std::string_view type : types) out.begin_object().member("type", type).end_object();
  out.end_array();
}

void put_linux(Writer& out, const SpecTemplateOptions& options) {
  out.key("linux").begin_object();
  if (options.rootless) {
    put_map(out, "uidMappings", options.host_uid);
    put_map(out, "gidMappings", options.host_gid);
  } else {
    out.key("resources").begin_object().key("devices").begin_array().begin_object();
    out.member("allow", false).member("access", "rwm");
    out.end_object().end_array().end_object();
  }
  put_namespaces(out, options);
  out.list("maskedPaths",
           Words{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                 "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"});
  out.list("readonlyPaths", Words{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"});
  out.end_object();
}

}  // namespace

std::string spec_template(const SpecTemplateOptions& options) {
  Writer out(Writer::Layout::kTab);
  out.begin_object();
  out.member("ociVersion", kSpecVersion);
  put_process(out);
  out.key("root").begin_object().member("path", "rootfs").member("readonly", true).end_object();
  out.member("hostname", options.hostname);
  put_mounts(out, options.rootless);
  put_linux(out, options);
  out.end_object();
  return out.take();
}

}  // namespace gantry
