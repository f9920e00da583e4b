#include "engine/exec_process.h"

#include <fcntl.h>

#include "engine/bundle.h"
#include "engine/spec_check.h"
#include "engine/spec_parse.h"
#include "sys/capability.h"
#include "sys/lsm.h"
#include "sys/text.h"

namespace gantry {
namespace {

/// EX-15: bounding, effective, permitted; ambient only where the config has inheritable ones.
void add_capability(Capabilities& sets, const std::string& name) {
  const auto number = sys::capability_number(name);
  if (!number) {
    sets.unknown.push_back(name);
    return;
  }
  const uint64_t bit = uint64_t{1} << *number;
  sets.bounding |= bit;
  sets.effective |= bit;
  sets.permitted |= bit;
  if (sets.inheritable != 0) sets.ambient |= bit;
}

Result<> apply_options(Process& process, const ExecOptions& options) {
  if (options.args.empty()) return fail("exec args cannot be empty");
  process.args = options.args;
  process.terminal = options.tty;
  process.console_size.reset();
  if (options.cwd) process.cwd = *options.cwd;
  process.env.insert(process.env.end(), options.env.begin(), options.env.end());
  if (options.uid) process.user.uid = *options.uid;
  if (options.gid) process.user.gid = *options.gid;
  auto& gids = process.user.additional_gids;
  gids.insert(gids.end(), options.additional_gids.begin(), options.additional_gids.end());
  if (!options.apparmor.empty()) process.apparmor_profile = options.apparmor;
  if (options.no_new_privs) process.no_new_privileges = *options.no_new_privs;
  if (!options.caps.empty() && !process.capabilities) process.capabilities.emplace();
  for (const std::string& cap : options.caps) add_capability(*process.capabilities, cap);
  return {};
}

/// What the file says nothing about is the container's: it is no way around capabilities (EX-01). Limits are the
/// caller's then, as with runc and crun.
void restrict_as(const Process& container, Process& process) {
  if (!process.capabilities) process.capabilities = container.capabilities;
  if (process.apparmor_profile.empty()) process.apparmor_profile = container.apparmor_profile;
  if (!process.oom_score_adj) process.oom_score_adj = container.oom_score_adj;
  if (!process.user.umask) process.user.umask = container.user.umask;
}

Result<Process> from_file(const Spec& spec, const std::string& path) {
  GANTRY_LET(const std::string bytes, read_json_file(AT_FDCWD, path.c_str(), path));
  auto process = parse_process(bytes);
  if (process && spec.process) restrict_as(*spec.process, *process);
  return process;
}

}  // namespace

Result<Process> exec_process(const Spec& spec, const ExecOptions& options) {
  if (!options.process_label.empty() && !sys::selinux_enabled())
    return fail("selinux label is specified in config, but selinux is disabled or not supported");
  Process process;
  if (!options.process_file.empty()) {
    GANTRY_LET(process, from_file(spec, options.process_file));
  } else {
    if (!spec.process) return fail("process property must not be empty");
    process = *spec.process;
    GANTRY_TRY(apply_options(process, options));
  }
  std::vector<std::string> warnings;
  GANTRY_TRY(check_process(process, warnings));
  for (const std::string& warning : warnings) log_warning(warning);
  return process;
}

}  // namespace gantry
