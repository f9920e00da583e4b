// What `features` prints: the runtime-spec's features structure.
#pragma once

#include <string>
#include <string_view>

namespace gantry {

struct FeaturesOptions {
  std::string_view runc_version;  ///< for the annotation org.opencontainers.runc.version; empty = none
  std::string_view commit;        ///< for org.opencontainers.runc.commit; empty = none
};

/// The structure as JSON, indented by four spaces, no newline at its end. It tells what this build can do and never
/// looks at the host (FE-14), so that a caller may keep the answer.
std::string features_json(const FeaturesOptions& options);

}  // namespace gantry
