// config.json, process.json and resources: whatever the bytes, no crash, errors of one short line, and a Spec that
// keeps what the rest of the runtime relies on.
#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "engine/json.h"
#include "engine/spec_check.h"
#include "engine/spec_parse.h"

namespace gantry {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void one_line(const Error& error) {
  require(!error.text.empty() && error.text.size() < 700);
  require(std::none_of(error.text.begin(), error.text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }));
}

void clean(std::string_view text) {
  require(text.find('\0') == std::string_view::npos);
}

void clean(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) clean(text);
}

template <class Pairs>
void clean_pairs(const Pairs& pairs) {
  require(pairs.size() <= json::kMaxRecords);
  for (const auto& [key, text] : pairs) {
    clean(key);
    clean(text);
  }
}

void look_at(const Process& process) {
  clean(process.args);
  clean(process.env);
  clean(process.cwd);
  clean(process.apparmor_profile);
  clean(process.selinux_label);
  if (process.capabilities) clean(process.capabilities->unknown);
  for (const Rlimit& limit : process.rlimits) require(limit.resource >= 0 && limit.resource < RLIM_NLIMITS);
}

void look_at(const Resources& resources) {
  clean_pairs(resources.unified);
  for (const auto& [name, value] : resources.unified) {
    require(name.find('/') == std::string::npos && name.find('.') != std::string::npos && name != "..");
  }
  for (const auto& limit : resources.hugepages) {
    require(limit.page_size.find_first_not_of("0123456789KMGB") == std::string::npos);
  }
  for (const auto& [name, limit] : resources.rdma) clean(name);
  for (const auto& [name, priority] : resources.network.priorities) clean(name);
  for (const DeviceRule& rule : resources.devices) {
    require(rule.type == 'a' || rule.type == 'b' || rule.type == 'c');
    require(rule.major.value_or(0) >= 0 && rule.minor.value_or(0) >= 0);
  }
  clean(resources.cpu.cpus.value_or(""));
  clean(resources.cpu.mems.value_or(""));
}

void look_at(const Mount& mount) {
  clean(mount.destination);
  clean(mount.source);
  clean(mount.type);
  clean(mount.data);
  require(mount.destination.empty() || mount.destination.front() == '/');
  // mount_setattr(2): no bit may be set and cleared at once but for the access time field.
  constexpr uint64_t kAtime = 0x70;
  require((mount.flags.set & mount.flags.clear & ~kAtime) == 0);
  require((mount.flags.rec_set & mount.flags.rec_clear & ~kAtime) == 0);
}

void look_at(const std::vector<Hook>& hooks) {
  require(hooks.size() <= json::kMaxRecords);
  for (const Hook& hook : hooks) {
    clean(hook.path);
    clean(hook.args);
    if (hook.env) clean(*hook.env);
  }
}

void look_at(const Seccomp& seccomp) {
  clean(seccomp.listener_path);
  clean(seccomp.listener_metadata);
  clean(seccomp.architectures);
  for (const SeccompRule& rule : seccomp.rules) {
    clean(rule.names);
    for (const SeccompArg& arg : rule.args) require(arg.index <= 5);
  }
}

void look_at(const Spec& spec) {
  if (spec.process) look_at(*spec.process);
  look_at(spec.resources);
  for (const Mount& mount : spec.mounts) look_at(mount);
  for (const auto* hooks : {&spec.hooks.prestart, &spec.hooks.create_runtime, &spec.hooks.create_container,
                            &spec.hooks.start_container, &spec.hooks.poststart, &spec.hooks.poststop}) {
    look_at(*hooks);
  }
  if (spec.seccomp) look_at(*spec.seccomp);
  clean_pairs(spec.annotations);
  clean_pairs(spec.sysctl);
  for (const NamespaceSpec& ns : spec.namespaces) clean(ns.path);
  for (const Device& device : spec.devices) {
    clean(device.path);
    require(device.type != 0 && device.mode <= 07777);
  }
  clean(spec.masked_paths);
  clean(spec.readonly_paths);
  for (const std::string* text :
       {&spec.oci_version, &spec.root_path, &spec.hostname, &spec.domainname, &spec.cgroups_path, &spec.mount_label}) {
    clean(*text);
  }
}

void look_at_checked(const Spec& spec) {
  require(spec.has_root && !spec.root_path.empty());
  for (const NamespaceSpec& ns : spec.namespaces) require(ns.path.empty() || ns.path.front() == '/');
  for (const Mount& mount : spec.mounts) require(!mount.destination.empty() && (!mount.bind || mount.data.empty()));
  for (const auto& [name, value] : spec.sysctl) {
    const auto path = sysctl_path(name);
    require(path && path->front() != '/' && path->find("..") == std::string::npos);
  }
  if (spec.creates(NamespaceType::kUser)) require(!spec.uid_mappings.empty() && !spec.gid_mappings.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> warnings;
  if (const auto spec = parse_spec(bytes); !spec) {
    one_line(spec.error());
  } else {
    look_at(*spec);
    const auto checked = check_spec(*spec, warnings);
    if (checked) look_at_checked(*spec);
    if (!checked) one_line(checked.error());
  }
  if (const auto process = parse_process(bytes); !process) {
    one_line(process.error());
  } else {
    look_at(*process);
    if (const auto checked = check_process(*process, warnings); !checked) one_line(checked.error());
  }
  if (const auto resources = parse_resources(bytes); !resources) {
    one_line(resources.error());
  } else {
    look_at(*resources);
  }
  return 0;
}

}  // namespace gantry
