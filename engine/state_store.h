// The state directory: <root>/<id>/ with state.json, cgroups (what is claimed), config.json (frozen at create), the
// fifos and the lock.
//
// state.json is replaced atomically and carries its own length, CRC and boot id: a torn file, or one of an earlier
// boot, reads as "crashed", never as "absent" (design §5). Layout and lock are private to this file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/container.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

/// What a state file is worth.
enum class RecordHealth : uint8_t {
  kGood,
  kCrashed,  ///< torn, unreadable or of another boot: nothing it names may be signalled, but all of it can be removed
};

struct LoadedRecord {
  ContainerRecord record;  ///< with kCrashed: the id, and whatever else could be read
  RecordHealth health = RecordHealth::kGood;
};

/// The bytes of a state file for `record`.
std::string encode_record(const ContainerRecord& record, std::string_view boot_id);

/// The reverse, total: hostile bytes give kCrashed with the given id. `boot_id` empty = not compared.
LoadedRecord decode_record(std::string_view bytes, std::string_view id, std::string_view boot_id);

/// The lines for `claims`, each whole in itself: another boot's, or one that is torn, claims nothing.
std::string encode_claims(const std::vector<CgroupClaim>& claims, std::string_view boot_id);

/// The reverse, total.
std::vector<CgroupClaim> decode_claims(std::string_view bytes, std::string_view boot_id);

/// A container's directory, held open. Moves; closing it gives up the lock.
class StateDir {
 public:
  StateDir(std::string id, sys::Fd dir) : id_(std::move(id)), dir_(std::move(dir)) {}

  const std::string& id() const { return id_; }
  const sys::Fd& fd() const { return dir_; }

  /// Takes the container's lock (flock on the directory) without waiting: false when somebody else holds it.
  Result<bool> try_lock();
  /// Gives the lock back before the directory is closed.
  void unlock();

  Result<> save(const ContainerRecord& record) const;
  /// ENOENT in the error when there is no state.json (a half-made directory, KD-09).
  Result<LoadedRecord> load() const;

  /// Adds to the claims; beside state.json, so that they survive its damage.
  Result<> add_claims(const std::vector<CgroupClaim>& claims) const;
  /// Those of this boot; none when they cannot be read.
  std::vector<CgroupClaim> claims() const;

  Result<> save_config(std::string_view config) const;
  Result<std::string> load_config() const;

  /// A cgroup path that was asked for instead of the config's; empty when there is none.
  Result<> save_cgroups_path(std::string_view path) const;
  std::string load_cgroups_path() const;

  /// Makes exec.fifo (0622) and status.fifo and opens both O_RDWR: init's ends.
  struct Fifos {
    sys::Fd start, status;
  };
  Result<Fifos> make_fifos() const;
  bool has_start_fifo() const;
  /// O_WRONLY|O_NONBLOCK: ENXIO when init is dead.
  Result<sys::Fd> open_start_fifo() const;
  Result<sys::Fd> open_status_fifo() const;
  void remove_start_fifo() const;

 private:
  std::string id_;
  sys::Fd dir_;
};

/// The root of all state directories. No global state: several roots can be in use.
class StateStore {
 public:
  /// `explicit_root`: the caller named it (a missing one is then an error for list, SL-07).
  StateStore(std::string root, bool explicit_root) : root_(std::move(root)), explicit_root_(explicit_root) {}

  const std::string& root() const { return root_; }
  std::string path_of(const std::string& id) const { return root_ + "/" + id; }

  /// Makes the root if needed (0700) and the container's directory (0711), exclusively: the directory is the claim to
  /// the id (SD-05). "container with given ID already exists".
  Result<StateDir> create(const std::string& id);
  /// "container does not exist".
  Result<StateDir> open(const std::string& id) const;
  /// Removes the directory and everything in it; a namesake that has taken its place stays. The caller has its lock.
  Result<> remove(const StateDir& dir) const;
  /// Ids of all directories, sorted. A missing root is empty, or an error when it was named explicitly.
  Result<std::vector<std::string>> ids() const;
  /// uid owning the directory (SL-05).
  Result<uid_t> owner(const std::string& id) const;

 private:
  std::string root_;
  bool explicit_root_;
};

}  // namespace gantry
