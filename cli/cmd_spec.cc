#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>

#include "cli/commands.h"
#include "engine/spec_template.h"
#include "sys/fd.h"
#include "sys/file.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 2> kFlags{{
    {"bundle", "b", Kind::kText, "DIR", "directory to write config.json into (default: the current directory)"},
    {"rootless", "", Kind::kBool, "", "a configuration for containers without root"},
}};

bool is_pure_cgroup2() {
  struct statfs info{};
  return ::statfs("/sys/fs/cgroup", &info) == 0 && info.f_type == CGROUP2_SUPER_MAGIC;
}

Result<int> run_spec(const Call& call) {
  const std::string bundle = call.options.text("bundle").empty() ? "." : call.options.text("bundle");
  const sys::Fd dir(::open(bundle.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail_path(errno, "chdir", bundle);
  SpecTemplateOptions options;
  options.hostname = call.globals.program;
  options.cgroup_namespace = is_pure_cgroup2();
  options.rootless = call.options.on("rootless");
  options.host_uid = ::geteuid();
  options.host_gid = ::getegid();
  const sys::Fd file(::openat(dir.get(), "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file && errno == EEXIST) return fail("File config.json exists. Remove it first");
  if (!file) return fail_path(errno, "open", "config.json");
  GANTRY_TRY(sys::write_all(file, spec_template(options)));
  return 0;
}

}  // namespace

constinit const Command kSpec{
    .name = "spec",
    .summary = "write a config.json to start from",
    .arguments = {},
    .description =
        "It runs `sh` on the terminal in the root file system ./rootfs. Edit process.args and root.path,\n"
        "then use `run`. An existing config.json is left alone.",
    .flags = kFlags,
    .count = {0, 0},
    .run = run_spec,
};

}  // namespace gantry::cli
