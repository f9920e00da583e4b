// What this program calls itself.
#pragma once

#include <string>
#include <string_view>

namespace gantry::cli {

/// The version of runc whose command line and texts a link named `runc` promises.
inline constexpr std::string_view kRuncVersion = "1.5.1";

/// "1.5.1" for a program called runc, else gantry's own version.
std::string_view version_of(std::string_view program);

/// The commit this was built from; empty when built outside of a repository.
std::string_view build_commit();

/// The lines of --version (CL-06).
std::string version_text(std::string_view program);

}  // namespace gantry::cli
