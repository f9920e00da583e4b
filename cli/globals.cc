#include "cli/globals.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "engine/go_quote.h"
#include "engine/log.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr std::string_view kDefaultRoot = "/run/gantry";

// Root inside of a user namespace made by somebody who is not root may not use the system's directories.
bool is_mapped_root() {
  const char* user = std::getenv("USER");
  if (user != nullptr && std::string_view(user) == "root") return false;
  const auto map = sys::read_file("/proc/self/uid_map", 64 * 1024);
  if (!map) return false;
  std::vector<std::string> fields;
  for (const auto field : split(trim(*map), ' '))
    if (!field.empty()) fields.emplace_back(field);
  return fields != std::vector<std::string>{"0", "0", "4294967295"};
}

// GF-04.
Result<std::string> default_root() {
  const char* runtime_dir = std::getenv("XDG_RUNTIME_DIR");
  if (runtime_dir == nullptr || *runtime_dir == '\0') return std::string(kDefaultRoot);
  if (::geteuid() == 0 && !is_mapped_root()) return std::string(kDefaultRoot);
  const std::string root = cat(std::string_view(runtime_dir), "/gantry");
  // The sticky bit keeps cleaners of temporary files away.
  if ((::mkdir(root.c_str(), 0700) != 0 && errno != EEXIST) || ::chmod(root.c_str(), 01700) != 0)
    return fail_path(errno, "the directory in $XDG_RUNTIME_DIR must be writable: mkdir", root);
  return root;
}

Result<std::string> current_directory() {
  char path[4096];
  if (::getcwd(path, sizeof path) == nullptr) return fail_errno(errno, "getcwd");
  return std::string(path);
}

Result<> set_root(const Parsed& flags, Globals& globals) {
  globals.root_explicit = flags.given("root");
  if (!globals.root_explicit) {
    GANTRY_LET(globals.root, default_root());
    return {};
  }
  const std::string& given = flags.text("root");
  std::string current;
  // A directory that was removed under us only matters to a relative path.
  if (!given.starts_with('/')) {
    GANTRY_LET(current, current_directory());
  }
  globals.root = clean_path(given, current);
  if (globals.root == "/") return fail("Option --root argument should not be set to /");
  return {};
}

}  // namespace

std::string clean_path(std::string_view path, std::string_view current) {
  return gantry::clean_path(path.starts_with('/') ? std::string(path) : cat(current, "/", path));
}

Result<> set_up_globals(const Parsed& flags, Globals& globals) {
  globals.debug = flags.on("debug");
  globals.systemd_cgroup = flags.on("systemd-cgroup");
  if (flags.given("rootless")) globals.rootless = flags.text("rootless");
  GANTRY_TRY(set_root(flags, globals));
  LogSetup log;
  log.debug = globals.debug;
  log.file = flags.text("log");
  const std::string& format = flags.text("log-format");
  if (!format.empty() && format != "text" && format != "json") return fail(cat("invalid log-format: ", format));
  log.format = format == "json" ? LogFormat::kJson : LogFormat::kText;
  return log_open(log);
}

Result<> check_can_change_system(const Globals& globals, const Command& command) {
  if (globals.rootless != "auto") {
    const auto rootless = parse_go_bool(globals.rootless);
    if (!rootless) return fail(cat("strconv.ParseBool: parsing ", go_quote(globals.rootless), ": invalid syntax"));
    if (*rootless) return fail("--rootless=true is not supported yet: use auto or false, as root");
  }
  if (globals.systemd_cgroup && command.errors == ErrorStyle::kProgram)
    return fail("--systemd-cgroup is not supported yet: leave it out to use the cgroupfs driver");
  if (::geteuid() != 0)
    return fail(cat("rootless containers are not supported yet: run ", globals.program, " ", command.name, " as root"));
  return {};
}

}  // namespace gantry::cli
