// The process itself: terminal, identity, environment, seccomp, the wait for `start`, exec.
#include <linux/capability.h>
#include <linux/seccomp.h>

#include <algorithm>
#include <unordered_set>

#include "engine/plan_parts.h"
#include "engine/spec_names.h"
#include "sys/text.h"

namespace gantry {

Result<std::vector<std::string>> effective_env(const std::vector<std::string>& env,
                                               const std::vector<std::string>& extra) {
  std::vector<std::string> kept;
  std::unordered_set<std::string_view> seen;
  const size_t total = env.size() + extra.size();
  for (size_t left = total; left > 0; --left) {
    const size_t i = left - 1;
    const std::string& entry = i < env.size() ? env[i] : extra[i - env.size()];
    const size_t equals = entry.find('=');
    const std::string place = cat("process.env[", i, "]: ");
    if (entry.find('\0') != std::string::npos) {
      return fail(cat(place, "invalid environment variable \"",
                      entry.substr(0, entry.find_first_of(std::string("=\0", 2))), "\": contains nul byte (\\x00)"));
    }
    if (equals == std::string::npos) return fail(cat(place, "invalid environment variable: missing '='"));
    if (equals == 0) return fail(cat(place, "invalid environment variable: name cannot be empty"));
    if (!seen.insert(std::string_view(entry).substr(0, equals)).second) continue;
    kept.push_back(entry);
  }
  std::reverse(kept.begin(), kept.end());
  return kept;
}

namespace plan {

namespace {

constexpr uint32_t kDefaultUmask = 0022;

/// The value of `name` in the environment, or nothing.
std::string_view env_value(const std::vector<std::string>& env, std::string_view name) {
  for (const std::string& entry : env) {
    if (entry.size() > name.size() && entry.starts_with(name) && entry[name.size()] == '=') {
      return std::string_view(entry).substr(name.size() + 1);
    }
  }
  return {};
}

/// An empty HOME counts as none: init looks it up in the container's passwd.
void drop_empty_home(std::vector<std::string>& env) {
  std::erase_if(env, [](const std::string& entry) { return entry == "HOME="; });
}

bool has_capability(const Process& process, int number) {
  return process.capabilities && (process.capabilities->effective >> number & 1) != 0;
}

/// Without no_new_privs the filter is a privileged thing, and the identity that loads it may not have the privilege.
bool keeps_sys_admin(const Process& process, const PlanSeccomp& seccomp) {
  return !seccomp.bpf.empty() && !process.no_new_privileges && !has_capability(process, CAP_SYS_ADMIN);
}

Result<> add_identity(PlanWriter& writer, const Process& process, const PlanContext& context) {
  init::IdentityArgs args = {};
  args.uid = process.user.uid;
  args.gid = process.user.gid;
  args.group_count = static_cast<uint32_t>(process.user.additional_gids.size());
  args.groups = writer.bytes(process.user.additional_gids.data(), args.group_count * sizeof(gid_t));
  args.flags = init::kIdentityChownStdio;
  if (context.setgroups_denied) {
    if (args.group_count > 0) return fail("cannot set any additional groups in a rootless container");
  } else {
    args.flags |= init::kIdentitySetGroups;
  }
  if (process.capabilities) {
    args.bounding = process.capabilities->bounding;
    args.effective = process.capabilities->effective;
    args.inheritable = process.capabilities->inheritable;
    args.permitted = process.capabilities->permitted;
    args.ambient = process.capabilities->ambient;
  }
  if (keeps_sys_admin(process, context.seccomp)) args.flags |= init::kIdentityKeepSysAdmin;
  const init::Ref blob = writer.blob(args);
  writer.step(init::Op::kIdentity, cat("process.user ", args.uid, ":", args.gid)).s[0] = blob;
  return {};
}

/// PR-07. By init itself and not by the engine: once the user has changed, prlimit(2) would take CAP_SYS_RESOURCE.
void add_rlimits(PlanWriter& writer, const Process& process) {
  for (size_t index = 0; index < process.rlimits.size(); ++index) {
    const Rlimit& limit = process.rlimits[index];
    auto& step = writer.step(init::Op::kRlimit, cat("process.rlimits[", index, "] ", rlimit_name(limit.resource)));
    step.n[0] = static_cast<uint64_t>(limit.resource);
    step.n[1] = limit.soft;
    step.n[2] = limit.hard;
  }
}

void add_user(PlanWriter& writer, const Process& process, const PlanContext& context, Role role) {
  writer.step(init::Op::kUmask, "process.user.umask").n[0] = process.user.umask.value_or(kDefaultUmask);
  if (process.no_new_privileges) writer.step(init::Op::kNoNewPrivs, "process.noNewPrivileges");
  if (context.slots.pidfd_socket != init::kNoSlot) {
    const std::string_view payload = role == Role::kInit ? "standard" : "setns";
    step_with(writer, init::Op::kPidfdSocket, "--pidfd-socket", payload).n[0] =
        static_cast<uint64_t>(context.slots.pidfd_socket);
  }
  step_with(writer, init::Op::kChdir, cat("process.cwd ", process.cwd), process.cwd).flags |= init::kStepChdirEarly;
}

uint32_t filter_flags(const PlanSeccomp& seccomp) {
  uint32_t flags = seccomp.flags;
  constexpr uint32_t kListenerOnly = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
  if (!seccomp.listener) return flags & ~kListenerOnly;
  flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  // The kernel wants to know that a failed TSYNC is not meant to come back as a thread id: that would look like an fd.
  if ((flags & SECCOMP_FILTER_FLAG_TSYNC) != 0) flags |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  return flags;
}

/// Where the listener appears: beyond all passed fds, so that none of them has to move for it.
uint64_t listener_number(const PlanSlots& slots) {
  return static_cast<uint64_t>(init::kFirstSlot + slots.count);
}

void add_filter(PlanWriter& writer, const Process& process, const PlanContext& context) {
  const PlanSeccomp& seccomp = context.seccomp;
  if (seccomp.bpf.empty()) return;
  const init::Ref filter = writer.bytes(seccomp.bpf.data(), seccomp.bpf.size());
  init::Step& step = writer.step(init::Op::kSeccomp, "linux.seccomp");
  step.s[0] = filter;
  step.n[0] = filter_flags(seccomp);
  if (seccomp.listener) {
    step.flags |= init::kStepListener;
    step.n[1] = listener_number(context.slots);
  }
  if (keeps_sys_admin(process, seccomp)) writer.step(init::Op::kFinalCaps, "process.capabilities");
}

void add_exec(PlanWriter& writer, const Process& process, const std::vector<std::string>& env) {
  const init::Ref argv = writer.list(process.args);
  const init::Ref variables = writer.list(env);
  init::Step& step = writer.step(init::Op::kExec);
  step.s[0] = argv;
  step.n[0] = process.args.size();
  step.s[1] = variables;
  step.n[1] = env.size();
  if (env_value(env, "HOME").empty()) {
    step.flags |= init::kStepNeedHome;
    step.n[2] = process.user.uid;
  }
}

void add_preserved(PlanWriter& writer, const PlanSlots& slots) {
  if (slots.preserved_count == 0) return;
  init::Step& step = writer.step(init::Op::kPlaceFds, "--preserve-fds");
  step.n[0] = static_cast<uint64_t>(slots.first_preserved);
  step.n[1] = static_cast<uint64_t>(slots.preserved_count);
}

}  // namespace

Result<> add_console(PlanWriter& writer, const Process& process, const PlanContext& context, bool bind) {
  if (!process.terminal) return {};
  if (context.slots.console_socket == init::kNoSlot) return fail("process.terminal: no console socket is connected");
  const ConsoleSize size = process.console_size.value_or(ConsoleSize{});
  init::Step& step = writer.step(init::Op::kConsole, "process.terminal");
  step.n[0] = static_cast<uint64_t>(context.slots.console_socket);
  step.n[1] = size.rows;
  step.n[2] = size.columns;
  step.n[3] = process.user.uid;
  if (bind) step.flags |= init::kStepBind;
  return {};
}

void add_ready(PlanWriter& writer) {
  writer.step(init::Op::kReady);
}

void add_wait_start(PlanWriter& writer, const PlanContext& context) {
  init::Step& step = writer.step(init::Op::kWaitStart, "exec.fifo");
  step.n[0] = static_cast<uint64_t>(context.slots.exec_fifo);
  step.n[1] = static_cast<uint64_t>(context.slots.status_fifo);
}

Result<> add_process(PlanWriter& writer, const Process& process, const PlanContext& context, Role role,
                     const std::vector<Hook>& start_hooks) {
  if (process.args.empty()) return fail("process.args: must not be empty");
  if (!process.selinux_label.empty()) {
    return fail("selinux label is specified in config, but selinux is disabled or not supported");
  }
  auto made = effective_env(process.env, context.extra_env);
  GANTRY_LET(std::vector<std::string> env, std::move(made));
  drop_empty_home(env);

  add_user(writer, process, context, role);
  add_rlimits(writer, process);
  GANTRY_TRY(add_identity(writer, process, context));
  step_with(writer, init::Op::kChdir, cat("process.cwd ", process.cwd), process.cwd);
  if (role == Role::kExec && !process.apparmor_profile.empty()) {
    const std::string& profile = process.apparmor_profile;
    step_with(writer, init::Op::kApparmor, cat("process.apparmorProfile ", profile), profile);
  }
  // No label: the text of a missing executable is one that callers match from its beginning.
  const init::Ref path = writer.text_or_absent(env_value(env, "PATH"));
  step_with(writer, init::Op::kLookPath, {}, process.args[0]).s[1] = path;
  if (context.seccomp.listener && !context.seccomp.bpf.empty()) {
    writer.step(init::Op::kSeccompAnnounce, "linux.seccomp").n[0] = listener_number(context.slots);
  }
  add_ready(writer);
  add_filter(writer, process, context);
  // execve would close the listener before the engine has fetched it.
  if (role == Role::kExec && context.seccomp.listener) add_wait_start(writer, context);
  if (role == Role::kInit) {
    add_wait_start(writer, context);
    add_start_hooks(writer, start_hooks, env, context);
  }
  add_preserved(writer, context.slots);
  add_exec(writer, process, env);
  return {};
}

}  // namespace plan
}  // namespace gantry
