#include "engine/supervisor/limits.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

#include "engine/cgroup.h"
#include "engine/spec_parse.h"
#include "sys/file.h"
#include "sys/init/keeper.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr size_t kMaxCgroupText = 64 << 10;
/// Slots of the keeper's that no container has.
constexpr uint64_t kHeldByUs = 4;

/// 0: not readable, or no number ("max").
uint64_t number_in(const std::string& path) {
  const Result<std::string> text = sys::read_file(path, 4096);
  if (!text) return 0;
  return parse_number<uint64_t>(std::string_view(*text).substr(0, text->find('\n'))).value_or(0);
}

void look_at_cgroup(const std::string& top, const std::string& own, std::vector<LimitsUse::Cgroup>& into) {
  // The root of a hierarchy has no limit.
  for (std::string path = own; path.size() > 1; path.resize(path.rfind('/'))) {
    LimitsUse::Cgroup found{cat(top, path), number_in(cat(top, path, "/pids.max")), 0};
    if (found.max == 0) continue;
    found.current = number_in(cat(found.path, "/pids.current"));
    into.push_back(std::move(found));
  }
}

std::vector<LimitsUse::Cgroup> look_at_cgroups() {
  std::vector<LimitsUse::Cgroup> found;
  const Result<std::string> text = sys::read_file("/proc/self/cgroup", kMaxCgroupText);
  if (!text) return found;
  const auto hierarchies = parse_proc_cgroup(*text, "/sys/fs/cgroup");
  if (!hierarchies) return found;
  for (const CgroupHierarchy& each : *hierarchies) {
    const auto& names = each.controllers;
    if (names.empty() || std::find(names.begin(), names.end(), "pids") != names.end())
      look_at_cgroup(each.mountpoint, each.own_path, found);
  }
  return found;
}

}  // namespace

Result<> check_limits(const LimitsUse& use, bool terminal) {
  const uint64_t files = std::max(use.files_used, kFilesPerRun * use.runs);
  const uint64_t held = init::kFirstHeld + kFilesPerHeldRun * (use.runs + kHeldByUs);
  if (files + kFilesPerRun + kFilesReserved > use.files_max || held + kFilesPerHeldRun > use.files_max)
    return fail(cat("RLIMIT_NOFILE of the supervisor is ", use.files_max,
                    ", which leaves no file descriptors for another ", "container beside ", use.runs,
                    ": raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn) and ", "start the supervisor anew"));
  for (const LimitsUse::Cgroup& cgroup : use.cgroups)
    if (cgroup.current + kProcessesPerStart > cgroup.max)
      return fail(cat("pids.max of the supervisor's cgroup ", cgroup.path, " is ", cgroup.max, " and ", cgroup.current,
                      " processes are in it: raise it (TasksMax= of the unit)"));
  if (terminal && use.terminals_max != 0 && use.terminals_used + use.terminals_reserved >= use.terminals_max)
    return fail(cat("kernel.pty.max is ", use.terminals_max, ", of which ", use.terminals_reserved,
                    " are reserved for the host, and ", use.terminals_used,
                    " terminals are in use: raise it (sysctl kernel.pty.max)"));
  return {};
}

LimitsUse look_at_limits(uint64_t runs, bool terminal) {
  LimitsUse use;
  use.runs = runs;
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  use.files_max = files.rlim_cur;
  struct stat open{};
  if (::stat("/proc/self/fd", &open) == 0) use.files_used = static_cast<uint64_t>(open.st_size);
  use.cgroups = look_at_cgroups();
  if (!terminal) return use;
  use.terminals_max = number_in("/proc/sys/kernel/pty/max");
  use.terminals_reserved = number_in("/proc/sys/kernel/pty/reserve");
  use.terminals_used = number_in("/proc/sys/kernel/pty/nr");
  return use;
}

bool wants_terminal(const std::string& config) {
  if (config.find("\"terminal\"") == config.npos) return false;
  const auto spec = parse_spec(config);
  return spec && spec->process && spec->process->terminal;
}

}  // namespace gantry
