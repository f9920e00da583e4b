// Finding a container again: its record, and what the kernel says about it now.
#pragma once

#include <string>

#include "engine/cgroup.h"
#include "engine/container.h"
#include "engine/state_store.h"
#include "engine/verbs.h"

namespace gantry {

struct Loaded {
  StateDir dir;
  ContainerRecord record;
  RecordHealth health = RecordHealth::kGood;
  Status status = Status::kStopped;
  sys::Fd pidfd;  ///< of init, checked against its start time; invalid when it is gone

  pid_t live_pid() const { return pidfd ? record.pid : 0; }
};

/// Reads record and status without the lock (SL-03). "container does not exist" for an unknown id or a directory
/// without state.json.
Result<Loaded> load_container(const Env& env, const std::string& id);

/// Status of what is already open; fills pidfd. An error: there are no descriptors left to look with.
Result<> refresh_status(Loaded& container);

/// load_container, holding the container's lock until the result dies. Waits for another gantry to finish with it, a
/// few seconds at most: "container ID is busy".
io::Task<Result<Loaded>> load_locked(Env& env, std::string id);

/// The container's cgroups as recorded; of a half-made or damaged one only those that its creator had claimed (the
/// others are left to Cgroup::remove). Touches nothing.
Result<Cgroup> recorded_cgroup(const Loaded& container);

/// For a record that is lost: names the cgroups again from the frozen config, so that what runs in them can be found.
/// Without a config either, nothing is known and the record stays as it is.
void recall_cgroups(const StateDir& dir, ContainerRecord& record);

/// The config frozen at create.
Result<Spec> recorded_spec(const Loaded& container);

/// The error of a verb that the status forbids, in runc's words.
std::unexpected<Error> not_permitted(const Loaded& container, Verb verb);

}  // namespace gantry
