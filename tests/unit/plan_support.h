// Configurations and helpers shared by the plan tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/plan_build.h"
#include "engine/spec.h"

namespace plan_test {

/// What `spec` writes: all default mounts, masked and read-only paths, pid, network, ipc, uts and mount namespaces.
gantry::Spec default_spec();

/// The same in the way podman asks for it: more mounts, limits, a filter, cgroup namespace, no terminal.
gantry::Spec podman_spec();

/// A context on a hybrid host with the usual slots.
gantry::PlanContext context();

/// Makes the spec ask for a new user namespace of 65536 ids.
void add_user_namespace(gantry::Spec& spec);

gantry::Mount mount_of(std::string type, std::string source, std::string destination, std::vector<std::string> options);

/// Three instructions that stand for a compiled filter.
std::string_view some_filter();

/// An opened Plan, which keeps its bytes.
class Opened {
 public:
  explicit Opened(gantry::Result<std::string> plan);

  std::vector<std::string> ops() const;
  /// The first step of this operation; the test fails without one.
  const gantry::init::Step& find(gantry::init::Op op, size_t nth = 0) const;
  size_t count(gantry::init::Op op) const;
  /// The kMount step with this destination.
  gantry::init::MountArgs mount(std::string_view destination) const;
  bool has_mount(std::string_view destination) const;
  std::string text(gantry::init::Ref ref) const;
  std::string label(const gantry::init::Step& step) const;
  const gantry::init::PlanView& view() const { return view_; }
  template <class T>
  T blob(gantry::init::Ref ref) const {
    T value;
    __builtin_memcpy(&value, view_.arena + ref.offset, sizeof value);
    return value;
  }

 private:
  const gantry::init::Step* find_mount(std::string_view destination) const;

  std::string bytes_;
  gantry::init::PlanView view_ = {};
};

/// Compares the Plan's text with golden/NAME.txt byte by byte; writes the file instead when GANTRY_UPDATE_GOLDEN is
/// set.
void check_golden(std::string_view name, const gantry::Result<std::string>& plan);

}  // namespace plan_test
