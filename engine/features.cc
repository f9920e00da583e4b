#include "engine/features.h"

#include <seccomp.h>

#include <vector>

#include "engine/json_write.h"
#include "engine/mount_options.h"
#include "engine/spec_names.h"
#include "engine/spec_template.h"
#include "sys/capability.h"
#include "sys/text.h"

namespace gantry {

namespace {

using json::Writer;

/// The architectures of the spec that the linked libseccomp can make filters for.
std::vector<std::string_view> filter_architectures() {
  std::vector<std::string_view> known;
  for (const std::string_view name : seccomp_architectures()) {
    std::string token(name.substr(sizeof "SCMP_ARCH_" - 1));
    for (char& c : token) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (seccomp_arch_resolve_name(token.c_str()) != 0) known.push_back(name);
  }
  return known;
}

void put_enabled(Writer& out, std::string_view name, bool enabled) {
  out.key(name).begin_object().member("enabled", enabled).end_object();
}

void put_cgroup(Writer& out) {
  out.key("cgroup").begin_object();
  out.member("v1", true).member("v2", true).member("systemd", false).member("systemdUser", false).member("rdma", true);
  out.end_object();
}

void put_seccomp(Writer& out) {
  out.key("seccomp").begin_object();
  out.member("enabled", true);
  out.key("actions").begin_array();
  for (const auto& action : seccomp_actions()) out.value(action.name);
  out.end_array();
  out.key("operators").begin_array();
  for (const auto& op : seccomp_operators()) out.value(op.name);
  out.end_array();
  out.list("archs", filter_architectures());
  out.list("knownFlags", seccomp_flags());
  out.list("supportedFlags", seccomp_flags());
  out.end_object();
}

void put_linux(Writer& out) {
  out.key("linux").begin_object();
  out.list("namespaces", namespace_names());
  out.list("capabilities", sys::capability_names());
  put_cgroup(out);
  put_seccomp(out);
  put_enabled(out, "apparmor", true);
  put_enabled(out, "selinux", false);
  put_enabled(out, "intelRdt", false);
  const std::vector<std::string_view> none;
  out.key("memoryPolicy").begin_object().list("modes", none).list("flags", none).end_object();
  out.key("mountExtensions").begin_object();
  put_enabled(out, "idmap", true);
  out.end_object();
  put_enabled(out, "netDevices", false);
  out.end_object();
}

void put_annotations(Writer& out, const FeaturesOptions& options) {
  out.key("annotations").begin_object();
  const scmp_version* library = seccomp_version();
  out.member("io.github.seccomp.libseccomp.version", cat(library->major, '.', library->minor, '.', library->micro));
  out.member("org.opencontainers.runc.checkpoint.enabled", "false");
  if (!options.commit.empty()) out.member("org.opencontainers.runc.commit", options.commit);
  if (!options.runc_version.empty()) out.member("org.opencontainers.runc.version", options.runc_version);
  out.end_object();
}

}  // namespace

std::string features_json(const FeaturesOptions& options) {
  Writer out(Writer::Layout::kFourSpaces);
  out.begin_object();
  out.member("ociVersionMin", "1.0.0").member("ociVersionMax", kSpecVersion);
  out.list("hooks", std::vector<std::string_view>{"prestart", "createRuntime", "createContainer", "startContainer",
                                                  "poststart", "poststop"});
  out.list("mountOptions", mount_option_names());
  put_linux(out);
  put_annotations(out, options);
  out.list("potentiallyUnsafeConfigAnnotations", std::vector<std::string_view>{"bundle"});
  out.end_object();
  return out.take();
}

}  // namespace gantry
