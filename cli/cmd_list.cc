#include <unistd.h>

#include <array>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/output.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 2> kFlags{{
    {"format", "f", Kind::kText, "FORMAT", "table or json (default: table)"},
    {"quiet", "q", Kind::kBool, "", "names only"},
}};

Result<int> run_list(const Call& call) {
  Driver driver(call.globals);
  std::vector<std::string> problems;
  GANTRY_LET(const std::vector<ContainerView> views, list(driver.env(), problems));
  for (const std::string& problem : problems) {
    // Plain text and no failure: one broken entry must not hide the others (SL-07).
    const std::string line = problem + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  }
  const std::string& format = call.options.text("format");
  if (call.options.on("quiet")) {
    GANTRY_TRY(print(list_ids(views)));
  } else if (format == "json") {
    GANTRY_TRY(print(list_json(views)));
  } else if (format == "table" || !call.options.given("format")) {
    GANTRY_TRY(print(list_table(views)));
  } else {
    return fail("invalid format option");
  }
  return 0;
}

}  // namespace

constinit const Command kList{
    .name = "list",
    .summary = "list the containers below the root directory",
    .arguments = {},
    .description = {},
    .flags = kFlags,
    .count = {0, 0},
    .run = run_list,
};

}  // namespace gantry::cli
