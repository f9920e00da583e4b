// Where a supervisor's things lie.
#pragma once

#include <string>

namespace gantry {

/// Names that a container's id cannot have ('@' is not legal in one), so that they can live beside the containers.
inline constexpr const char* kSupervisorDirName = "@supervisor";
inline constexpr const char* kDefaultStateDir = "/var/lib/gantry";

/// The default socket: ROOT/@supervisor/socket (mode 0600, its directory 0700).
inline std::string default_socket(const std::string& root) {
  return root + "/" + kSupervisorDirName + "/socket";
}

/// Where the next keeper asks for what is held (mode 0600), beside the clients' socket.
inline std::string handover_socket(const std::string& socket) {
  return socket + ".handover";
}

}  // namespace gantry
