// Device nodes and the links in /dev.
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "engine/plan_parts.h"
#include "sys/text.h"

namespace gantry::plan {

namespace {

struct DefaultDevice {
  std::string_view path;
  uint32_t major;
  uint32_t minor;
};

constexpr DefaultDevice kDefaultDevices[] = {
    {"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
    {"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

struct Link {
  std::string_view path;
  std::string_view target;
};

constexpr Link kLinks[] = {
    {"/dev/fd", "/proc/self/fd"},       {"/dev/stdin", "/proc/self/fd/0"}, {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"}, {"/dev/core", "/proc/kcore"},
};

constexpr std::string_view kPtmx = "/dev/ptmx";

bool is_mounted(const Spec& spec, std::string_view path) {
  return std::any_of(spec.mounts.begin(), spec.mounts.end(),
                     [path](const Mount& mount) { return clean_path(mount.destination) == path; });
}

bool is_configured(const Spec& spec, std::string_view path) {
  return std::any_of(spec.devices.begin(), spec.devices.end(),
                     [path](const Device& device) { return clean_path(device.path) == path; });
}

/// A /dev of the user's own is left as it is (LX-09).
bool has_own_dev(const Spec& spec) {
  return std::any_of(spec.mounts.begin(), spec.mounts.end(), [](const Mount& mount) {
    return (mount.bind || mount.type == "bind" || mount.type == "rbind") && clean_path(mount.destination) == "/dev";
  });
}

void add_device(Draft& draft, const Device& device, const std::string& label) {
  const std::string path = clean_path(device.path);
  init::Step& step = step_with(draft.writer, init::Op::kDevice, label, path);
  step.n[0] = device.type | device.mode;
  step.n[1] = makedev(device.major, device.minor);
  step.n[2] = device.uid;
  step.n[3] = device.gid;
  // mknod of a device is the host's privilege; a fifo may be made anywhere.
  if (device.type == S_IFIFO) return;
  if (!draft.has_mount_namespace()) return;
  step.s[1] = step.s[0];
  if (draft.has_user_namespace()) step.flags |= init::kStepBind;
}

void add_link(Draft& draft, std::string_view path, std::string_view target) {
  const init::Ref link = draft.writer.text(path);
  init::Step& step = step_with(draft.writer, init::Op::kSymlink, cat("default link ", path), target);
  step.s[1] = link;
  // What is in the way may be a file of the host.
  if (draft.has_mount_namespace()) step.flags |= init::kStepReplace;
}

}  // namespace

void add_devices(Draft& draft) {
  const Spec& spec = draft.spec;
  if (has_own_dev(spec)) return;
  for (const DefaultDevice& known : kDefaultDevices) {
    if (is_configured(spec, known.path) || is_mounted(spec, known.path)) continue;
    Device device;
    device.path = known.path;
    device.type = S_IFCHR;
    device.major = known.major;
    device.minor = known.minor;
    add_device(draft, device, cat("default device ", known.path));
  }
  for (size_t i = 0; i < spec.devices.size(); ++i) {
    const Device& device = spec.devices[i];
    // The link below takes its place, and could not if it were bound there.
    if (clean_path(device.path) == kPtmx) continue;
    add_device(draft, device, cat("linux.devices[", i, "] ", device.path));
  }
  if (!is_mounted(spec, kPtmx)) add_link(draft, kPtmx, "pts/ptmx");
  for (const Link& link : kLinks) {
    if (!is_mounted(spec, link.path)) add_link(draft, link.path, link.target);
  }
}

}  // namespace gantry::plan
