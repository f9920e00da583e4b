#include "cli/commands.h"
#include "cli/output.h"
#include "cli/version.h"
#include "engine/features.h"

namespace gantry::cli {

namespace {

Result<int> run_features(const Call& call) {
  FeaturesOptions options;
  if (call.globals.program == "runc") {
    options.runc_version = kRuncVersion;
    options.commit = build_commit();
  }
  GANTRY_TRY(print(features_json(options) + "\n"));
  return 0;
}

}  // namespace

constinit const Command kFeatures{
    .name = "features",
    .summary = "print what this runtime can do, as JSON",
    .arguments = {},
    .description = {},
    .flags = {},
    .count = {0, 0},
    .run = run_features,
};

}  // namespace gantry::cli
