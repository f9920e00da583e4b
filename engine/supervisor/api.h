// What a supervisor and its clients say to each other: one struct per method, and its JSON.
//
// The shape is Varlink's: {"method": "gantry.supervisor.Up", "parameters": {...}} with a NUL behind it; the answer is
// {"parameters": {...}} or {"error": "gantry.supervisor.Failed", "parameters": {"message": ..., "errno": ...}}.
// Messages have at most kMaxMessage bytes; descriptors belong to the message whose first byte carried them. Pure: bytes
// in, structs or one error out, total on hostile input. Unknown members are ignored (a newer client), wrong types
// refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sys/result.h"

namespace gantry::api {

inline constexpr std::string_view kInterface = "gantry.supervisor";
inline constexpr size_t kMaxMessage = size_t{1} << 20;

/// When an ended container is started again.
enum class Restart : uint8_t { kNo, kOnFailure, kAlways };

struct RestartPolicy {
  Restart when = Restart::kNo;
  unsigned max_retries = 0;  ///< on-failure:N; 0 = without a limit
};

/// "no", "always", "on-failure" or "on-failure:N"; the error names the value.
Result<RestartPolicy> parse_restart_policy(std::string_view text);
std::string restart_policy_text(const RestartPolicy& policy);

/// How a run ended. `known` false: nobody could find out, and nothing is invented.
struct Exit {
  bool known = false;
  int code = 0;    ///< when `signal` is 0
  int signal = 0;  ///< that killed it
  std::string at;  ///< RFC 3339, UTC; empty when unknown
  /// As a shell reports it; 255 when it is not known.
  int shell() const { return !known ? 255 : signal != 0 ? 128 + signal : code; }
};

/// Makes, starts and supervises a container. One descriptor: a file with the bytes of config.json, read by the client,
/// so that a bundle on a hung file system hangs nobody else.
struct Up {
  std::string id;
  std::string bundle;  ///< absolute, without symlinks
  std::string rootfs;  ///< root.path resolved by the client: absolute, without symlinks
  RestartPolicy restart;
  std::string log;    ///< --log as given, see log_options.h; empty = the default
  std::string netns;  ///< path of a network namespace to join instead of the config's; empty = as the config says
  std::string cgroups_path{};  ///< instead of linux.cgroupsPath (copies of one bundle); empty = as the config says
};
struct UpReply {
  std::string id;
  int32_t pid = 0;
};

/// Answered when the container has ended for good (no restart is due), at once if it has already.
struct Wait {
  std::string id;
};
struct WaitReply {
  std::string id;
  Exit exit;
};

/// Stop signal, after `timeout_seconds` SIGKILL; the restart policy does not undo it.
struct Stop {
  std::string id;
  std::optional<unsigned> timeout_seconds;  ///< absent: 10
};
/// Removes the container, its definition and its log.
struct Remove {
  std::string id;
  bool force = false;  ///< also when it runs: kill first; an unknown id is fine
  bool keep_log = false;
};
struct Signal {
  std::string id;
  int signo = 0;
  bool all = false;
};
struct Pause {
  std::string id;
};
struct Resume {
  std::string id;
};
/// Opens the log file anew, after somebody else has rotated it.
struct ReopenLog {
  std::string id;
};
struct Empty {};

/// One supervised container, for listings.
struct Entry {
  std::string id, bundle, status, restart, log_path, created;
  int32_t pid = 0;
  uint64_t restarts = 0;
  bool quarantined = false;
  std::optional<Exit> exit;  ///< of the last run that ended
};
/// All containers, sorted by id, as many as one message takes.
struct List {
  std::string after;  ///< begin behind this id; empty = at the first
};
struct ListReply {
  std::vector<Entry> containers;
  bool more = false;  ///< ask again, after the last id
};

/// Who is there.
struct Status {};
struct StatusReply {
  std::string version, root, state_dir;
  int32_t supervisor_pid = 0, keeper_pid = 0;  ///< keeper_pid 0: it is gone, nothing new can be started
  uint64_t containers = 0, running = 0;
  uint64_t starts = 0;  ///< how often the keeper started a supervisor
};

using Call = std::variant<Up, Wait, Stop, Remove, Signal, Pause, Resume, ReopenLog, List, Status>;
using Reply = std::variant<Empty, UpReply, WaitReply, ListReply, StatusReply>;

/// The alternative of Reply that answers `call`.
size_t reply_index(const Call& call);
/// "Up", "Wait", ...
std::string_view method_name(const Call& call);

/// Without the NUL.
std::string encode_call(const Call& call);
Result<Call> decode_call(std::string_view message);

/// Never longer than kMaxMessage - 1: what does not fit of a ListReply is left out and announced with `more`.
std::string encode_reply(const Reply& reply);
std::string encode_error(const Error& error);
/// An error answer becomes an Error with the same text and errno.
Result<Reply> decode_reply(std::string_view message, size_t reply_index);

}  // namespace gantry::api
