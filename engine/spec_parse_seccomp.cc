// linux.seccomp: names to enums, nothing about the architecture we run on.
#include <algorithm>

#include "engine/json.h"
#include "engine/spec_names.h"
#include "engine/spec_read.h"
#include "sys/text.h"

namespace gantry {

using json::Field;
using json::into;
using json::Value;

namespace {

Result<> read_action(const Value& value, SeccompAction& out) {
  const auto find = [](std::string_view name) { return find_named(seccomp_actions(), name); };
  return read_word(value, find, out, "string ", " is not a valid action for seccomp");
}

Result<> read_op(const Value& value, SeccompArg& out) {
  const auto find = [](std::string_view name) { return find_named(seccomp_operators(), name); };
  return read_word(value, find, out.op, "string ", " is not a valid operator for seccomp");
}

/// A list of words that must all be in `known`.
Result<> read_words(const Value& value, std::span<const std::string_view> known, std::string_view what,
                    std::vector<std::string>& out) {
  out.clear();
  return value.each_item([&](const Value& item) -> Result<> {
    GANTRY_LET(const std::string_view word, item.string());
    if (std::find(known.begin(), known.end(), word) == known.end()) {
      return item.fail(cat("string ", json::one_line(word), " is not a valid ", what, " for seccomp"));
    }
    if (std::find(out.begin(), out.end(), word) == out.end()) out.emplace_back(word);
    return {};
  });
}

Result<> rule_action(const Value& value, SeccompRule& out) {
  return read_action(value, out.action);
}
Result<> default_action(const Value& value, Seccomp& out) {
  return read_action(value, out.default_action);
}

Result<> architectures(const Value& value, Seccomp& out) {
  return read_words(value, seccomp_architectures(), "arch", out.architectures);
}

Result<> flags(const Value& value, Seccomp& out) {
  return read_words(value, seccomp_flags(), "flag", out.flags.emplace());
}

}  // namespace

Result<> read(const Value& value, SeccompArg& out) {
  static constexpr Field<SeccompArg> kFields[] = {
      {"index", into<&SeccompArg::index>},
      {"value", into<&SeccompArg::value>},
      {"valueTwo", into<&SeccompArg::value_two>},
      {"op", read_op},
  };
  GANTRY_TRY(json::read_fields(value, kFields, out));
  if (out.index > 5) return value.fail(cat("index ", out.index, ": a system call has arguments 0 to 5"));
  return {};
}

Result<> read(const Value& value, SeccompRule& out) {
  static constexpr Field<SeccompRule> kFields[] = {
      {"names", into<&SeccompRule::names>},
      {"action", rule_action},
      {"errnoRet", into<&SeccompRule::errno_ret>},
      {"args", into<&SeccompRule::args>},
  };
  GANTRY_TRY(json::read_fields(value, kFields, out));
  if (!value.has("action")) return value.fail("action is missing; write for instance SCMP_ACT_ALLOW");
  return {};
}

Result<> read_seccomp(const Value& value, Spec& out) {
  static constexpr Field<Seccomp> kFields[] = {
      {"defaultAction", default_action},
      {"defaultErrnoRet", into<&Seccomp::default_errno_ret>},
      {"architectures", architectures},
      {"flags", flags},
      {"listenerPath", into<&Seccomp::listener_path>},
      {"listenerMetadata", into<&Seccomp::listener_metadata>},
      {"syscalls", into<&Seccomp::rules>},
  };
  Seccomp profile;
  GANTRY_TRY(json::read_fields(value, kFields, profile));
  if (value.has("defaultAction")) {
    out.seccomp = std::move(profile);
    return {};
  }
  // As for runc, an object that says nothing about calls means no filter; one with rules is not complete.
  if (profile.rules.empty()) return {};
  return value.fail("defaultAction is missing; write for instance SCMP_ACT_ERRNO");
}

}  // namespace gantry
