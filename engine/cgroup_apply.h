// How limits get into the files of v1 and v2. Private to engine/cgroup*.cc.
#pragma once

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "engine/cgroup_values.h"
#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// What is to be set, and how.
struct CgroupChange {
  const Resources& resources;
  std::vector<std::string>& warnings;
  bool update = false;  ///< the cgroup is in use: keep partners, mind directions
};

/// What both versions write alike into one leaf.
class CgroupFiles {
 protected:
  CgroupFiles(const std::string& dir, const CgroupChange& change) : dir_(dir), change_(change) {}
  Result<> write(std::string_view file, std::string_view value) const;
  static bool missing(const Result<>& result) { return !result && result.error().sys_errno == ENOENT; }
  static bool refused(const Result<>& result) { return !result && result.error().sys_errno == EINVAL; }
  Result<> cpuset() const;
  Result<> rdma() const;
  /// `limit`: how the files end, "max" or "limit_in_bytes".
  Result<> hugetlb(std::string_view limit) const;

  const std::string& dir_;
  const CgroupChange& change_;
};

/// One v1 controller's files in one leaf.
class CgroupV1 : CgroupFiles {
 public:
  CgroupV1(const std::string& dir, const CgroupChange& change) : CgroupFiles(dir, change) {}
  /// `made_parents`: those in the same hierarchy, for values that children cannot exceed.
  Result<> set(CgroupPart part, const std::vector<std::string>& made_parents);

 private:
  Result<> memory();
  Result<> memory_limits(int64_t limit, int64_t swap);
  Result<> memory_limit(int64_t limit);
  Result<> memory_swap(int64_t swap);
  Result<> cpu(const std::vector<std::string>& made_parents);
  Result<> cpu_shares(uint64_t shares);
  Result<> cpu_bandwidth();
  Result<> realtime(const std::string& dir) const;
  Result<> blkio();
  Result<> blkio_weights();
  Result<> devices();
};

/// The files of a cgroup2 leaf.
class CgroupV2 : CgroupFiles {
 public:
  /// `controllers`: those of the leaf. `fresh`: just made, so that nothing is attached to it.
  CgroupV2(const std::string& dir, std::vector<std::string> controllers, bool fresh, const CgroupChange& change)
      : CgroupFiles(dir, change), controllers_(std::move(controllers)), fresh_(fresh) {}
  bool has(std::string_view controller) const;
  Result<> set(CgroupPart part);
  /// RS-24, after everything else.
  Result<> unified();

 private:
  Result<> memory();
  Result<> memory_check(int64_t limit, int64_t swap) const;
  Result<> cpu();
  Result<> cpu_max();
  Result<> io();
  Result<> io_weights();
  Result<> devices();

  std::vector<std::string> controllers_;
  bool fresh_;
};

/// The name of a part's controller: "blkio" and "io" differ.
const char* controller_v1(CgroupPart part);
/// Null for what v2 does not have.
const char* controller_v2(CgroupPart part);

}  // namespace gantry
