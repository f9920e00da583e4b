// Which hierarchy a limit belongs to.
#include "engine/cgroup_apply.h"

#include "engine/cgroup.h"
#include "engine/cgroup_setup.h"
#include "sys/cgroup_fs.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr CgroupPart kOrder[] = {CgroupPart::kPids,    CgroupPart::kMemory, CgroupPart::kIo,      CgroupPart::kCpu,
                                 CgroupPart::kDevices, CgroupPart::kCpuset, CgroupPart::kHugetlb, CgroupPart::kRdma,
                                 CgroupPart::kNetCls,  CgroupPart::kNetPrio};

std::vector<std::string> below(const std::vector<std::string>& parents, const std::string& leaf) {
  std::vector<std::string> found;
  for (const std::string& parent : parents) {
    if (leaf.starts_with(parent + "/")) found.push_back(parent);
  }
  return found;
}

std::unexpected<Error> no_cgroup(std::string_view what) {
  return fail(cat("cannot set ", what, " limit: container could not join or create cgroup"));
}

}  // namespace

Result<> CgroupFiles::write(std::string_view file, std::string_view value) const {
  return sys::write_cgroup(dir_, file, value);
}

Result<> CgroupFiles::cpuset() const {
  const CpuResources& c = change_.resources.cpu;
  if (c.cpus && !c.cpus->empty()) GANTRY_TRY(write("cpuset.cpus", *c.cpus));
  if (c.mems && !c.mems->empty()) GANTRY_TRY(write("cpuset.mems", *c.mems));
  return {};
}

Result<> CgroupFiles::rdma() const {
  for (const auto& [device, limit] : change_.resources.rdma) {
    GANTRY_LET(const std::string line, rdma_line(device, limit));
    GANTRY_TRY(write("rdma.max", line));
  }
  return {};
}

Result<> CgroupFiles::hugetlb(std::string_view limit) const {
  for (const HugepageLimit& page : change_.resources.hugepages) {
    GANTRY_TRY(check_page_size(page.page_size));
    GANTRY_TRY(write(cat("hugetlb.", page.page_size, ".", limit), cat(page.limit)));
    const auto reserved = write(cat("hugetlb.", page.page_size, ".rsvd.", limit), cat(page.limit));
    if (!reserved && !missing(reserved)) return reserved;
  }
  return {};
}

Result<> Cgroup::apply(const Resources& resources, std::vector<std::string>& warnings) {
  return change({resources, warnings, false});
}

Result<> Cgroup::update(const Resources& resources, std::vector<std::string>& warnings) {
  return change({resources, warnings, true});
}

Result<> Cgroup::change(const CgroupChange& change) {
  for (const CgroupPart part : kOrder) {
    if (!wants(change.resources, part) || (change.update && part == CgroupPart::kDevices)) continue;
    const Dir* const dir = mode() == CgroupMode::kV2 ? nullptr : find(controller_v1(part));
    if (dir != nullptr) {
      GANTRY_TRY(CgroupV1(dir->path, change).set(part, below(made_parents_, dir->path)));
      continue;
    }
    // cgroup2 does without it by design; here it is a hierarchy that nobody has mounted.
    if (mode() != CgroupMode::kV2 && controller_v2(part) == nullptr) return no_cgroup(controller_v1(part));
    GANTRY_LET(CgroupV2 tree, unified_tree(change, controller_v1(part)));
    GANTRY_TRY(tree.set(part));
  }
  if (change.resources.unified.empty()) return {};
  if (mode() == CgroupMode::kV1) return fail("invalid configuration: cannot use unified on cgroup v1");
  GANTRY_LET(CgroupV2 tree, unified_tree(change, "unified"));
  auto done = tree.unified();
  if (!done && mode() == CgroupMode::kHybrid) {
    return forward(std::move(done), "invalid configuration: cannot use unified on cgroup v1");
  }
  return done;
}

Result<CgroupV2> Cgroup::unified_tree(const CgroupChange& change, const char* what) {
  const Dir* const dir = unified();
  if (dir == nullptr) return no_cgroup(what);
  if (available_.empty()) {
    // On a hybrid host most containers need nothing of cgroup2, so its controllers are enabled when first wanted.
    GANTRY_LET(available_, enable_controllers(unified_mount_.empty() ? dir->path : unified_mount_, dir->path));
  }
  return CgroupV2(dir->path, available_, dir->fresh, change);
}

}  // namespace gantry
