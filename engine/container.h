// A container as the state directory remembers it, and as the kernel shows it now.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/lifecycle.h"

namespace gantry {

/// How far `create` got; written before each irreversible step so that a successor knows what to undo (design §5).
enum class Phase : uint8_t {
  kIntent,     ///< directory made, nothing else yet or half-way through create
  kCommitted,  ///< init is set up and waits for `start`
};

/// The persistent record (state.json). What the kernel says (pid alive, start time, cgroup) beats it.
struct ContainerRecord {
  std::string id;
  std::string bundle;  ///< absolute
  std::string rootfs;  ///< absolute
  Phase phase = Phase::kIntent;
  pid_t pid = 0;            ///< init on the host; 0 until known
  uint64_t start_time = 0;  ///< field 22 of /proc/PID/stat: with pid the identity (SD-06)
  std::string created;      ///< RFC 3339 with nanoseconds, UTC
  std::map<std::string, std::string> annotations;
  std::string cgroup_mode;                                        ///< "v1", "hybrid" or "v2"
  std::vector<std::pair<std::string, std::string>> cgroup_paths;  ///< hierarchy -> absolute directory (CG-06)
  std::map<std::string, std::string> namespace_paths;             ///< "NEWNET" -> /proc/PID/ns/net (SD-03)
  bool private_pid_ns = true;         ///< false: killing init does not end the others (KD-05)
  bool notify_socket = false;         ///< NOTIFY_SOCKET was set at create: `start` forwards (EN-05)
  bool cgroup_reused = false;         ///< the cgroup2 directory was there before: nothing is cloned into it
  bool create_runtime_begun = false;  ///< hooks ran: poststop must run on delete (HK-12)
  std::string supervisor_socket;      ///< of the supervisor that owns it; empty: nobody does
  std::string state_dir;              ///< where that supervisor keeps its definition
  uint64_t supervised_run = 0;        ///< which run of which definition this is: Definition::owner()
};

/// One cgroup that a creator made or found empty, written down before anything of the container joins it. While a
/// record is an intent or damaged, only what is claimed like this may be emptied by force: its paths are no more than a
/// plan.
struct CgroupClaim {
  std::string path;    ///< absolute, as in cgroup_paths
  uint64_t inode = 0;  ///< of the directory: another one of the same name is not the one claimed

  bool operator==(const CgroupClaim&) const = default;
};

/// What `state` and `list` show.
struct ContainerView {
  ContainerRecord record;
  Status status = Status::kStopped;
  pid_t pid = 0;      ///< 0 when stopped
  std::string owner;  ///< name of the uid owning the state directory, "#UID" without a name; only for list
};

}  // namespace gantry
