// The config.json that `spec` writes.
#pragma once

#include <sys/types.h>

#include <string>

namespace gantry {

/// The version of the runtime-spec this runtime implements, for templates, features and --version.
inline constexpr const char* kSpecVersion = "1.3.0";

struct SpecTemplateOptions {
  std::string hostname;           ///< the program's name; runc prints "runc"
  bool cgroup_namespace = false;  ///< list a cgroup namespace, as runc does on cgroup v2
  bool rootless = false;          ///< SP-05: user namespace with one id, no network namespace, no cgroup limits
  uid_t host_uid = 0;             ///< rootless: what container root is on the host
  gid_t host_gid = 0;
};

/// The whole file, indented by tabs, without a newline at its end (SP-01…SP-05).
std::string spec_template(const SpecTemplateOptions& options);

}  // namespace gantry
