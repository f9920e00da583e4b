#include "engine/cgroup_setup.h"

#include <algorithm>
#include <string_view>

#include "sys/cgroup_fs.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr const char* kCpusetFiles[] = {"cpuset.cpus", "cpuset.mems"};

Result<> copy_if_empty(const std::string& parent, const std::string& child, const char* file) {
  GANTRY_LET(const std::string own, sys::read_cgroup_value(child, file));
  if (!own.empty()) return {};
  GANTRY_LET(const std::string value, sys::read_cgroup_value(parent, file));
  return sys::write_cgroup(child, file, value);
}

/// Copies both values to an empty child; false when the parent has none either.
Result<bool> copy_all(const std::string& parent, const std::string& child) {
  GANTRY_LET(const std::string cpus, sys::read_cgroup_value(parent, kCpusetFiles[0]));
  GANTRY_LET(const std::string mems, sys::read_cgroup_value(parent, kCpusetFiles[1]));
  if (cpus.empty() || mems.empty()) return false;
  GANTRY_TRY(sys::write_cgroup(child, kCpusetFiles[0], cpus));
  GANTRY_TRY(sys::write_cgroup(child, kCpusetFiles[1], mems));
  return true;
}

std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> found;
  for (const std::string_view word : split(text, ' ')) {
    if (!word.empty()) found.emplace_back(word);
  }
  return found;
}

/// Adds the controllers one by one to what `dir` gives its children. Refusals are left to whoever needs the controller.
void enable_each(const std::string& dir, const std::vector<std::string>& controllers) {
  for (const std::string& controller : controllers)
    (void)sys::write_cgroup(dir, "cgroup.subtree_control", "+" + controller);
}

/// All at once, or each for itself when the kernel refuses one.
void enable_in(const std::string& dir, const std::vector<std::string>& controllers) {
  std::string all;
  for (const std::string& controller : controllers) all.append(all.empty() ? "+" : " +").append(controller);
  if (!sys::write_cgroup(dir, "cgroup.subtree_control", all)) enable_each(dir, controllers);
}

/// Below a threaded cgroup a new one is "domain invalid": it takes no process until it is threaded too.
Result<> settle_type(const std::string& leaf, const std::vector<std::string>& controllers) {
  const auto type = sys::read_cgroup_value(leaf, "cgroup.type");
  if (!type || *type != "domain invalid") return {};
  for (const std::string_view domain : {"memory", "io", "hugetlb", "rdma"}) {
    if (std::ranges::find(controllers, domain) != controllers.end()) {
      return fail(cat("cannot enter cgroup \"", leaf, "\" with domain controllers: it is in an invalid state"));
    }
  }
  return sys::write_cgroup(leaf, "cgroup.type", "threaded");
}

}  // namespace

Result<> fill_cpuset(const std::string& mountpoint, const std::string& leaf, bool fresh) {
  if (fresh) {
    GANTRY_LET(const std::string own, sys::read_cgroup_value(leaf, kCpusetFiles[0]));
    if (!own.empty()) return {};
    GANTRY_LET(const bool copied, copy_all(leaf.substr(0, leaf.rfind('/')), leaf));
    if (copied) return {};
  }
  std::string parent = mountpoint;
  for (size_t at = mountpoint.size() + 1;;) {
    const size_t end = leaf.find('/', at);
    const std::string child = leaf.substr(0, end);
    for (const char* const file : kCpusetFiles) GANTRY_TRY(copy_if_empty(parent, child, file));
    parent = child;
    if (end == std::string::npos) break;
    at = end + 1;
  }
  return {};
}

Result<> prepare_cpuset_parent(const std::string& mountpoint, const std::string& parent) {
  GANTRY_TRY(fill_cpuset(mountpoint, parent, true));
  return sys::write_cgroup(parent, "cgroup.clone_children", "1");
}

Result<std::vector<std::string>> enable_controllers(const std::string& mountpoint, const std::string& leaf) {
  GANTRY_LET(const std::string wanted, sys::read_cgroup_value(mountpoint, "cgroup.controllers"));
  GANTRY_LET(std::string got, sys::read_cgroup_value(leaf, "cgroup.controllers"));
  if (got == wanted) return words(got);
  const auto controllers = words(wanted);
  for (size_t at = mountpoint.size(); at != std::string::npos; at = leaf.find('/', at + 1)) {
    enable_in(leaf.substr(0, at), controllers);
  }
  GANTRY_LET(got, sys::read_cgroup_value(leaf, "cgroup.controllers"));
  if (got != wanted) GANTRY_TRY(settle_type(leaf, words(got)));
  return words(got);
}

}  // namespace gantry
