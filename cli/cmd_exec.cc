#include <array>

#include "cli/commands.h"
#include "cli/create_flags.h"
#include "cli/driver.h"
#include "cli/values.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 17> kFlags{{
    {"console-socket", "", Kind::kText, "PATH", "Unix socket that receives the terminal's master end"},
    {"pidfd-socket", "", Kind::kText, "PATH", "Unix socket that receives a pidfd of the new process"},
    {"cwd", "", Kind::kText, "DIR", "working directory"},
    {"env", "e", Kind::kList, "KEY=VALUE", "add to the environment; may be repeated"},
    {"tty", "t", Kind::kBool, "", "allocate a terminal"},
    {"user", "u", Kind::kText, "UID[:GID]", "run as this user, in numbers"},
    {"additional-gids", "g", Kind::kIntList, "GID", "add a group; may be repeated"},
    {"process", "p", Kind::kText, "FILE",
     "read an OCI process object from FILE; it replaces the other process options"},
    {"detach", "d", Kind::kBool, "", "do not wait for the process"},
    {"pid-file", "", Kind::kText, "PATH", "file to write the process id to"},
    {"process-label", "", Kind::kText, "LABEL", "SELinux label"},
    {"apparmor", "", Kind::kText, "PROFILE", "AppArmor profile"},
    {"no-new-privs", "", Kind::kBool, "", "forbid gaining privileges by execve"},
    {"cap", "c", Kind::kList, "CAP", "add a capability; may be repeated"},
    {"preserve-fds", "", Kind::kInt, "N", "pass N descriptors on, counted from 3 or behind those of LISTEN_FDS"},
    {"cgroup", "", Kind::kList, "[CONTROLLER:]PATH", "run in this existing cgroup below the container's"},
    {"ignore-paused", "", Kind::kBool, "", "allow a paused container"},
}};

Result<> take_identity(const Parsed& flags, ExecOptions& options) {
  if (const std::string& user = flags.text("user"); !user.empty()) {
    GANTRY_LET(const UserArg parsed, parse_user(user));
    options.uid = parsed.uid;
    options.gid = parsed.gid;
  }
  for (const int64_t gid : flags.numbers("additional-gids")) {
    if (gid < 0) return fail(cat("additional-gids must be a positive number ", gid));
    if (gid >= UINT32_MAX) return fail(cat("additional-gids: ", gid, " is not in 0..", UINT32_MAX - 1));
    options.additional_gids.push_back(static_cast<gid_t>(gid));
  }
  return {};
}

Result<ExecOptions> exec_options(const Call& call) {
  const Parsed& flags = call.options;
  ExecOptions options;
  options.id = call.id();
  options.args.assign(flags.args.begin() + 1, flags.args.end());
  options.process_file = flags.text("process");
  if (options.args.empty() && options.process_file.empty()) return fail("exec args cannot be empty");
  if (const std::string& cwd = flags.text("cwd"); !cwd.empty()) options.cwd = cwd;
  options.env = flags.list("env");
  options.tty = flags.on("tty");
  GANTRY_TRY(take_identity(flags, options));
  options.detach = flags.on("detach");
  options.pid_file = flags.text("pid-file");
  options.console_socket = flags.text("console-socket");
  options.pidfd_socket = flags.text("pidfd-socket");
  options.process_label = flags.text("process-label");
  options.apparmor = flags.text("apparmor");
  if (flags.given("no-new-privs")) options.no_new_privs = flags.on("no-new-privs");
  options.caps = flags.list("cap");
  GANTRY_LET(options.preserve_fds, preserve_fds(flags));
  options.cgroups = flags.list("cgroup");
  options.ignore_paused = flags.on("ignore-paused");
  return options;
}

Result<int> run_exec(const Call& call) {
  auto options = exec_options(call);
  Driver driver(call.globals);
  if (!options) return std::unexpected(unless_absent(driver, call.id(), std::move(options).error()));
  return driver.loop().run(exec(driver.env(), std::move(*options)));
}

}  // namespace

constinit const Command kExec{
    .name = "exec",
    .summary = "run another process in a container",
    .arguments = "NAME COMMAND [ARGUMENT...]",
    .description =
        "The process starts from the container's own configuration. Everything behind NAME is passed on\n"
        "unchanged. Exits with the process' status, or 255 if it could not be started.",
    .flags = kFlags,
    .count = {1, -1},
    .order = Order::kBeforeArgs,
    .errors = ErrorStyle::kExec,
    .changes_system = true,
    .run = run_exec,
};

}  // namespace gantry::cli
