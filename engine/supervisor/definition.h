// What a supervisor must remember of a container: what was asked for, which run is in progress, how the last one ended.
//
// STATE_DIR/ID/ has definition.json (replaced by rename, sealed with length, CRC and boot id), config.json (frozen at
// `up`) and, unless told otherwise, the log. What concerns one boot only (pids, cgroups) is in the state directory
// below the root, as for any container.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/supervisor/api.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

struct Definition {
  std::string id, bundle, rootfs;
  std::string cgroups_path;  ///< instead of the config's; empty = as it says
  std::string netns;         ///< --netns; empty = as the config says
  std::string log;           ///< --log as given
  std::string created;
  api::RestartPolicy restart;
  uint32_t key =
      0;  ///< random, never 0: with `run` it names one run to the keeper, so that no exit is taken for another's
  uint32_t run = 1;       ///< the run that is due or in progress, or the last one when `last_run` is the same
  uint32_t last_run = 0;  ///< the run that `exit` belongs to; 0 = none has ended
  api::Exit exit;
  uint64_t restarts = 0;   ///< by policy, since `up`
  uint32_t failures = 0;   ///< ends in a row that came early, for the back-off
  int64_t started_ns = 0;  ///< CLOCK_MONOTONIC of the last start
  bool stopped_by_user = false;
  bool quarantined = false;  ///< its operations killed the supervisor three times in ten seconds

  /// Whether the policy wants another run after one that ended with `exit`.
  bool restart_due() const;
  /// The run in progress is over. True: another one is due, which is `run` from now on. `begun`: its program ran; what
  /// never came to that is a failure however long it took. `now_ns`: CLOCK_MONOTONIC.
  bool end_run(api::Exit how, bool begun, int64_t now_ns);
  /// How long the run that is due waits, for the failures before it.
  int64_t back_off_ms() const;
  /// Nothing is running and nothing is due.
  bool ended() const { return last_run == run; }
  /// The keeper's word for the run in progress.
  uint64_t owner() const { return (uint64_t{key} << 32) | run; }
  static uint32_t key_of(uint64_t owner) { return static_cast<uint32_t>(owner >> 32); }
};

std::string encode_definition(const Definition& definition, std::string_view boot_id);

struct LoadedDefinition {
  Definition definition;
  bool this_boot = true;  ///< written since the system was started
};

/// Total: hostile bytes are an error that names what is wrong.
Result<LoadedDefinition> decode_definition(std::string_view bytes, std::string_view id, std::string_view boot_id);

/// Whether a file of this name in a definition's directory is left for logs.
bool is_log_name(std::string_view name);

/// The directory of all definitions. Synchronous and bounded: small files on the administrator's own disk; what must be
/// on the platters is flushed by io::flush (flush.h), off the loop.
class DefinitionStore {
 public:
  /// Makes the directory (0700) if it is missing.
  static Result<DefinitionStore> open(std::string state_dir);

  const std::string& path() const { return path_; }
  std::string dir_of(const std::string& id) const { return path_ + "/" + id; }

  /// Takes the right to look after these definitions, as long as this object lives: false when somebody else has it.
  Result<bool> try_lock() const;
  /// For those who act in the place of a supervisor that is not there: keeps supervisors away, but not one another.
  Result<bool> try_lock_shared() const;
  /// What these need for each definition that they change or remove: keeps them away from one another, as long as the
  /// descriptor is open. Empty when somebody else has it; ENOENT when there is no ID/.
  Result<sys::Fd> try_lock_one(const std::string& id) const;

  /// Whether there is a definition.json, of whatever worth.
  bool has(const std::string& id) const;

  /// Makes ID/ with config.json. EEXIST when there is one. A failure leaves nothing.
  Result<> create(const Definition& definition, std::string_view config) const;
  Result<> save(const Definition& definition) const;
  /// The last one that was flushed, when a power cut has damaged what came after it.
  Result<LoadedDefinition> load(const std::string& id) const;
  Result<std::string> load_config(const std::string& id) const;
  /// Removes ID/ and all that is in it, but for the log files when `keep_log`. Missing is fine.
  Result<> remove(const std::string& id, bool keep_log) const;
  /// Sorted. Directories without a definition.json (half-made, or kept logs) are not listed.
  Result<std::vector<std::string>> ids() const;
  /// For flushing: definition.json, config.json and their directories.
  Result<std::vector<sys::Fd>> open_for_flush(const std::string& id) const;
  Result<sys::Fd> open_definition(const std::string& id) const;
  /// Gives the file of open_definition(), which has been flushed since, a second name: load() falls back on it after a
  /// power cut that a later definition.json did not survive. Nothing happens when it is out of date.
  Result<> keep_flushed(const std::string& id, const sys::Fd& definition) const;
  /// All of that at once; waits for the disk.
  Result<> flush(const std::string& id) const;

 private:
  DefinitionStore(std::string path, sys::Fd dir) : path_(std::move(path)), dir_(std::move(dir)) {}
  Result<sys::Fd> open_dir(const std::string& id) const;
  Result<> fill(const Definition& definition, std::string_view config) const;

  std::string path_;
  sys::Fd dir_;
};

/// For whoever acts on a container whose supervisor is dead: no later supervisor starts it again. The caller has the
/// lock of try_lock_one(). A definition that is not there is fine. Waits for the disk if there is a restart policy.
Result<> mark_stopped_by_user(const DefinitionStore& store, const std::string& id);

}  // namespace gantry
