#include "engine/spec_names.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "sys/capability.h"

namespace gantry {

namespace {

constexpr Named<int> kRlimits[] = {
    {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},       {"RLIMIT_FSIZE", RLIMIT_FSIZE},       {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},   {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},   {"RLIMIT_RTTIME", RLIMIT_RTTIME},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

constexpr std::string_view kNamespaces[kNamespaceTypes] = {"mount", "pid",  "network", "ipc",
                                                           "uts",   "user", "cgroup",  "time"};

constexpr Named<SeccompAction> kActions[] = {
    {"SCMP_ACT_KILL", SeccompAction::kKillThread},
    {"SCMP_ACT_KILL_THREAD", SeccompAction::kKillThread},
    {"SCMP_ACT_KILL_PROCESS", SeccompAction::kKillProcess},
    {"SCMP_ACT_TRAP", SeccompAction::kTrap},
    {"SCMP_ACT_ERRNO", SeccompAction::kErrno},
    {"SCMP_ACT_TRACE", SeccompAction::kTrace},
    {"SCMP_ACT_ALLOW", SeccompAction::kAllow},
    {"SCMP_ACT_LOG", SeccompAction::kLog},
    {"SCMP_ACT_NOTIFY", SeccompAction::kNotify},
};

constexpr Named<SeccompOp> kOperators[] = {
    {"SCMP_CMP_NE", SeccompOp::kNotEqual},           {"SCMP_CMP_LT", SeccompOp::kLess},
    {"SCMP_CMP_LE", SeccompOp::kLessEqual},          {"SCMP_CMP_EQ", SeccompOp::kEqual},
    {"SCMP_CMP_GE", SeccompOp::kGreaterEqual},       {"SCMP_CMP_GT", SeccompOp::kGreater},
    {"SCMP_CMP_MASKED_EQ", SeccompOp::kMaskedEqual},
};

constexpr std::string_view kArchitectures[] = {
    "SCMP_ARCH_X86",         "SCMP_ARCH_X86_64", "SCMP_ARCH_X32",       "SCMP_ARCH_ARM",     "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS",        "SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS64N32", "SCMP_ARCH_MIPSEL",  "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32", "SCMP_ARCH_PPC",    "SCMP_ARCH_PPC64",     "SCMP_ARCH_PPC64LE", "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",       "SCMP_ARCH_PARISC", "SCMP_ARCH_PARISC64",  "SCMP_ARCH_RISCV64", "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",        "SCMP_ARCH_SH",     "SCMP_ARCH_SHEB",
};

constexpr std::string_view kFlags[] = {
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
};

}  // namespace

std::optional<unsigned> capability_number(std::string_view name) {
  const auto names = sys::capability_names();
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<unsigned>(found - names.begin());
}

std::optional<int> rlimit_number(std::string_view name) {
  return find_named<int>(kRlimits, name);
}

std::string_view rlimit_name(int resource) {
  for (const Named<int>& row : kRlimits) {
    if (row.value == resource) return row.name;
  }
  return "?";
}

std::optional<NamespaceType> namespace_type(std::string_view name) {
  const auto* found = std::find(std::begin(kNamespaces), std::end(kNamespaces), name);
  if (found == std::end(kNamespaces)) return std::nullopt;
  return static_cast<NamespaceType>(found - std::begin(kNamespaces));
}

std::span<const std::string_view> namespace_names() {
  return kNamespaces;
}

const char* namespace_name(NamespaceType type) {
  return kNamespaces[static_cast<size_t>(type)].data();
}

std::span<const Named<SeccompAction>> seccomp_actions() {
  return kActions;
}

std::string_view seccomp_action_name(SeccompAction action) {
  for (const auto& row : kActions) {
    if (row.value == action) return row.name;
  }
  return "?";
}

std::span<const Named<SeccompOp>> seccomp_operators() {
  return kOperators;
}
std::span<const std::string_view> seccomp_architectures() {
  return kArchitectures;
}
std::span<const std::string_view> seccomp_flags() {
  return kFlags;
}

}  // namespace gantry
