#include <unistd.h>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/update_flags.h"
#include "engine/spec_parse.h"
#include "sys/file.h"

namespace gantry::cli {

namespace {

constexpr size_t kResourcesLimit = 64 << 20;

Result<Resources> read_resources(const std::string& file) {
  if (file != "-") {
    GANTRY_LET(const std::string json, sys::read_file(file, kResourcesLimit));
    return parse_resources(json);
  }
  sys::Fd input(STDIN_FILENO);
  auto json = sys::read_all(input, kResourcesLimit);
  [[maybe_unused]] const int kept = input.release();
  if (!json) return forward(std::move(json), "read /dev/stdin");
  return parse_resources(*json);
}

Result<int> run_update(const Call& call) {
  const std::string& file = call.options.text("resources");
  auto resources = file.empty() ? update_resources(call.options) : read_resources(file);
  Driver driver(call.globals);
  if (!resources) return std::unexpected(unless_absent(driver, call.id(), std::move(resources).error()));
  GANTRY_TRY(driver.loop().run(update(driver.env(), call.id(), std::move(*resources))));
  return 0;
}

}  // namespace

constinit const Command kUpdate{
    .name = "update",
    .summary = "change the resource limits of a container",
    .arguments = "NAME",
    .description =
        "Only what is given changes. FILE holds an OCI LinuxResources object, for example\n"
        "{\"memory\": {\"limit\": 67108864}}; with it the other options are ignored. Sizes take the units\n"
        "k, m, g; -1 lifts a limit.",
    .flags = kUpdateFlags,
    .count = {1, 1},
    .changes_system = true,
    .run = run_update,
};

}  // namespace gantry::cli
