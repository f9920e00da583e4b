// process of config.json and of `exec --process`.
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

Result<> read_console_size(const Value& value, Process& out) {
  static constexpr Field<ConsoleSize> kFields[] = {
      {"height", into<&ConsoleSize::rows>},
      {"width", into<&ConsoleSize::columns>},
  };
  return json::read_fields(value, kFields, out.console_size.emplace());
}

Result<> read_user(const Value& value, Process& out) {
  static constexpr Field<User> kFields[] = {
      {"uid", into<&User::uid>},
      {"gid", into<&User::gid>},
      {"umask", into<&User::umask>},
      {"additionalGids", into<&User::additional_gids>},
  };
  return json::read_fields(value, kFields, out.user);
}

Result<> read_capability_set(const Value& value, uint64_t& set, std::vector<std::string>& unknown) {
  set = 0;
  return value.each_item([&](const Value& item) -> Result<> {
    GANTRY_LET(const std::string_view name, item.string());
    if (const auto number = capability_number(name)) {
      set |= uint64_t{1} << *number;
    } else {
      unknown.emplace_back(name);
    }
    return {};
  });
}

template <uint64_t Capabilities::* kSet>
Result<> capability_set(const Value& value, Capabilities& out) {
  return read_capability_set(value, out.*kSet, out.unknown);
}

Result<> read_capabilities(const Value& value, Process& out) {
  static constexpr Field<Capabilities> kFields[] = {
      {"bounding", capability_set<&Capabilities::bounding>},
      {"effective", capability_set<&Capabilities::effective>},
      {"inheritable", capability_set<&Capabilities::inheritable>},
      {"permitted", capability_set<&Capabilities::permitted>},
      {"ambient", capability_set<&Capabilities::ambient>},
  };
  Capabilities& sets = out.capabilities.emplace();
  GANTRY_TRY(json::read_fields(value, kFields, sets));
  std::sort(sets.unknown.begin(), sets.unknown.end());
  sets.unknown.erase(std::unique(sets.unknown.begin(), sets.unknown.end()), sets.unknown.end());
  return {};
}

Result<> rlimit_type(const Value& value, Rlimit& out) {
  GANTRY_LET(const std::string_view name, value.string());
  const auto number = rlimit_number(name);
  if (!number) return value.fail(cat("wrong rlimit value: ", json::one_line(name)));
  out.resource = *number;
  return {};
}

}  // namespace

/// Not in the shared header: only the vector reader below needs it.
Result<> read(const Value& value, Rlimit& out) {
  static constexpr Field<Rlimit> kFields[] = {
      {"type", rlimit_type},
      {"soft", into<&Rlimit::soft>},
      {"hard", into<&Rlimit::hard>},
  };
  out.resource = -1;
  GANTRY_TRY(json::read_fields(value, kFields, out));
  if (out.resource < 0) return value.fail("wrong rlimit value: no type given");
  return {};
}

namespace {

constexpr Field<Process> kFields[] = {
    {"terminal", into<&Process::terminal>},
    {"consoleSize", read_console_size},
    {"user", read_user},
    {"args", into<&Process::args>},
    {"env", into<&Process::env>},
    {"cwd", into<&Process::cwd>},
    {"capabilities", read_capabilities},
    {"rlimits", into<&Process::rlimits>},
    {"noNewPrivileges", into<&Process::no_new_privileges>},
    {"apparmorProfile", into<&Process::apparmor_profile>},
    {"selinuxLabel", into<&Process::selinux_label>},
    {"oomScoreAdj", into<&Process::oom_score_adj>},
    {"scheduler", json::refused<Process>},
    {"ioPriority", json::refused<Process>},
    {"execCPUAffinity", json::refused<Process>},
};

}  // namespace

Result<> read(const Value& value, Process& out) {
  return json::read_fields(value, kFields, out);
}

}  // namespace gantry
