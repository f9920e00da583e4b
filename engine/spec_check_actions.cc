// Checks of what config.json lets others do: seccomp actions and hooks.
#include <algorithm>

#include "engine/json.h"
#include "engine/spec_check_parts.h"
#include "engine/spec_names.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr uint32_t kMaxErrno = 4095;  // above it the kernel would cut the value, seccomp(2)
constexpr uint32_t kMaxArgument = 5;
constexpr uint32_t kMaxTrace = 0xFFFF;  // SECCOMP_RET_DATA

/// The value belongs to two actions only (SC-02).
Result<> check_errno(SeccompAction action, const std::optional<uint32_t>& value, std::string_view place) {
  if (!value) return {};
  if (action != SeccompAction::kErrno && action != SeccompAction::kTrace) {
    return fail(cat(place, ": errno value specified for action ", seccomp_action_name(action)));
  }
  const uint32_t highest = action == SeccompAction::kErrno ? kMaxErrno : kMaxTrace;
  if (*value > highest) return fail(cat(place, ": ", *value, " is above ", highest));
  return {};
}

Result<> check_rule(const SeccompRule& rule, std::string_view place) {
  if (rule.names.empty()) return fail(cat(place, ".names: name at least one system call"));
  GANTRY_TRY(check_errno(rule.action, rule.errno_ret, cat(place, ".errnoRet")));
  for (const SeccompArg& arg : rule.args) {
    if (arg.index > kMaxArgument) return fail(cat(place, ".args: index ", arg.index, " is not 0 to ", kMaxArgument));
  }
  const bool write = std::find(rule.names.begin(), rule.names.end(), "write") != rule.names.end();
  if (rule.action == SeccompAction::kNotify && write) {
    return fail(cat(place, ": SCMP_ACT_NOTIFY cannot be used for the write syscall"));
  }
  return {};
}

Result<> check_hook(const Hook& hook, std::string_view place) {
  if (!hook.path.starts_with('/')) {
    return fail(cat(place, ".path: ", json::quoted(hook.path), " must be an absolute path"));
  }
  if (hook.timeout_seconds && *hook.timeout_seconds <= 0) {
    return fail(cat(place, ".timeout: ", *hook.timeout_seconds, " must be at least 1 second"));
  }
  return {};
}

}  // namespace

Result<> check_seccomp_profile(const Seccomp& profile) {
  const std::string place = "config.json: linux.seccomp";
  if (profile.default_action == SeccompAction::kNotify) {
    return fail(cat(place, ".defaultAction: SCMP_ACT_NOTIFY cannot be used as default action"));
  }
  GANTRY_TRY(check_errno(profile.default_action, profile.default_errno_ret, cat(place, ".defaultErrnoRet")));
  bool notifies = false;
  for (size_t i = 0; i < profile.rules.size(); ++i) {
    GANTRY_TRY(check_rule(profile.rules[i], cat(place, ".syscalls[", i, ']')));
    notifies = notifies || profile.rules[i].action == SeccompAction::kNotify;
  }
  if (notifies && profile.listener_path.empty()) {
    return fail(cat(place, ".listenerPath: missing; SCMP_ACT_NOTIFY needs the socket of an agent"));
  }
  if (!profile.listener_metadata.empty() && profile.listener_path.empty()) {
    return fail(cat(place, ".listenerMetadata: useless without listenerPath; give both or none"));
  }
  return {};
}

Result<> check_hooks(const Hooks& hooks) {
  const std::pair<std::string_view, const std::vector<Hook>&> kinds[] = {
      {"prestart", hooks.prestart},
      {"createRuntime", hooks.create_runtime},
      {"createContainer", hooks.create_container},
      {"startContainer", hooks.start_container},
      {"poststart", hooks.poststart},
      {"poststop", hooks.poststop},
  };
  for (const auto& [kind, list] : kinds) {
    for (size_t i = 0; i < list.size(); ++i) {
      GANTRY_TRY(check_hook(list[i], cat("config.json: hooks.", kind, '[', i, ']')));
    }
  }
  return {};
}

}  // namespace gantry
