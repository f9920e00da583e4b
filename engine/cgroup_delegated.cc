#include "engine/cgroup_delegated.h"

#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>

#include "engine/cgroup.h"
#include "sys/cgroup_fs.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr size_t kProcCgroupLimit = 256u << 10;

bool is_delegated(const std::string& dir) {
  for (const char* name : {"trusted.delegate", "user.delegate"}) {
    char value = 0;
    if (::getxattr(dir.c_str(), name, &value, 1) == 1 && value == '1') return true;
  }
  return false;
}

}  // namespace

Result<bool> enter_sub_cgroup_of(const std::string& dir) {
  if (!is_delegated(dir)) return false;
  GANTRY_LET(const std::string members, sys::read_cgroup(dir, "cgroup.procs"));
  if (members != cat(::getpid())) return false;
  const std::string own = cat(dir, "/", std::string_view(kOwnSubCgroup));
  if (::mkdir(own.c_str(), 0755) < 0 && errno != EEXIST) return fail_path(errno, "mkdir", own);
  GANTRY_TRY(sys::write_cgroup(own, "cgroup.procs", "0"));
  return true;
}

Result<> enter_own_sub_cgroup() {
  GANTRY_LET(const CgroupHost host, probe_cgroup_host());
  if (host.mode != CgroupMode::kV2) return {};
  GANTRY_LET(const std::string text, sys::read_file("/proc/self/cgroup", kProcCgroupLimit));
  GANTRY_LET(const auto lines, parse_proc_cgroup(text, host.root));
  const auto own = std::ranges::find_if(lines, [](const CgroupHierarchy& line) { return line.controllers.empty(); });
  if (own == lines.end() || own->own_path == "/") return {};
  if (auto moved = enter_sub_cgroup_of(host.root + own->own_path); !moved) return forward(std::move(moved));
  return {};
}

}  // namespace gantry
