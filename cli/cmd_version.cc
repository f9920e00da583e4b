#include "cli/commands.h"
#include "cli/output.h"
#include "cli/version.h"

namespace gantry::cli {

namespace {

Result<int> run_version(const Call& call) {
  GANTRY_TRY(print(version_text(call.globals.program)));
  return 0;
}

}  // namespace

constinit const Command kVersion{
    .name = "version",
    .summary = "print the version",
    .arguments = {},
    .description = {},
    .flags = {},
    .count = {0, 0},
    .run = run_version,
};

}  // namespace gantry::cli
