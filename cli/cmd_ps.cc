#include <array>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/host_ps.h"
#include "cli/output.h"

namespace gantry::cli {

namespace {

constexpr std::array<Flag, 1> kFlags{{
    {"format", "f", Kind::kText, "FORMAT", "table or json (default: table)"},
}};

Result<int> run_ps(const Call& call) {
  std::vector<pid_t> pids;
  {
    Driver driver(call.globals);
    GANTRY_LET(pids, ps(driver.env(), call.id()));
  }
  const std::string& format = call.options.text("format");
  if (format == "json") {
    GANTRY_TRY(print(pids_json(pids)));
    return 0;
  }
  if (format != "table" && call.options.given("format")) return fail("invalid format option");
  std::vector<std::string> args(call.options.args.begin() + 1, call.options.args.end());
  if (args.empty()) args.emplace_back("-ef");
  GANTRY_LET(const std::string listing, host_ps(args));
  GANTRY_LET(const std::string table, filter_ps(listing, pids));
  GANTRY_TRY(print(table));
  return 0;
}

}  // namespace

constinit const Command kPs{
    .name = "ps",
    .summary = "show the processes of a container",
    .arguments = "NAME [ps options]",
    .description =
        "The table is what the host's ps prints, cut down to the container; its options follow NAME\n"
        "(default: -ef). The pids are those of the host.",
    .flags = kFlags,
    .count = {1, -1},
    .order = Order::kBeforeArgs,
    .run = run_ps,
};

}  // namespace gantry::cli
