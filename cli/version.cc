#include "cli/version.h"

#include "engine/spec_template.h"
#include "sys/text.h"

namespace gantry::cli {

std::string_view version_of(std::string_view program) {
  return program == "runc" ? kRuncVersion : GANTRY_VERSION;
}

std::string_view build_commit() {
  return GANTRY_COMMIT;
}

std::string version_text(std::string_view program) {
  std::string text = cat(program, " version ", version_of(program), "\n");
  if (!build_commit().empty()) text += cat("commit: ", build_commit(), "\n");
  return text + cat("spec: ", std::string_view(kSpecVersion),
                    "\nlibseccomp: ", std::string_view(GANTRY_SECCOMP_VERSION), "\n");
}

}  // namespace gantry::cli
