// The names the runtime-spec uses for kernel numbers, one table each, shared by parser, feature list and command line.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/spec.h"

namespace gantry {

/// Number of "CAP_CHOWN" and so on; nullopt for a name this runtime does not know. Case matters, as for runc.
std::optional<unsigned> capability_number(std::string_view name);

/// RLIMIT_* of "RLIMIT_NOFILE" and so on.
std::optional<int> rlimit_number(std::string_view name);
/// The name of a RLIMIT_* number; "?" for an unknown one.
std::string_view rlimit_name(int resource);

/// Type of the spec's namespace name ("mount", not "mnt").
std::optional<NamespaceType> namespace_type(std::string_view name);
/// All eight names, in NamespaceType's order.
std::span<const std::string_view> namespace_names();

/// A seccomp name and what it stands for.
template <class T>
struct Named {
  std::string_view name;
  T value;
};

/// SCMP_ACT_*, first name of each action first; SCMP_ACT_KILL is an older word for SCMP_ACT_KILL_THREAD.
std::span<const Named<SeccompAction>> seccomp_actions();
std::string_view seccomp_action_name(SeccompAction action);
/// SCMP_CMP_*.
std::span<const Named<SeccompOp>> seccomp_operators();
/// SCMP_ARCH_*, every name of the runtime-spec; whether libseccomp has it is decided when the filter is compiled.
std::span<const std::string_view> seccomp_architectures();
/// SECCOMP_FILTER_FLAG_*.
std::span<const std::string_view> seccomp_flags();

/// Looks a name up in one of the tables above.
template <class T>
std::optional<T> find_named(std::span<const Named<T>> table, std::string_view name) {
  for (const Named<T>& row : table) {
    if (row.name == name) return row.value;
  }
  return std::nullopt;
}

}  // namespace gantry
