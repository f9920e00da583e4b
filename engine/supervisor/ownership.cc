#include "engine/supervisor/ownership.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "engine/load.h"
#include "engine/supervisor/definition.h"
#include "engine/supervisor/log_file.h"
#include "engine/supervisor/stop_signal.h"
#include "io/timer.h"
#include "io/watch.h"
#include "sys/local_path.h"
#include "sys/proc.h"
#include "sys/text.h"
#include "sys/worker.h"

namespace gantry {
namespace {

constexpr int64_t kAnswerMs = 30'000;  ///< more than any of these verbs takes in a supervisor that works
constexpr int64_t kDeathLimitMs = 10'000;
constexpr int64_t kNextOwnerMs = 5'000;
constexpr int64_t kSlowLogMs = 5'000;
constexpr std::chrono::milliseconds kLookPause(20);

/// The record of a container that a supervisor owns. Whatever else there is, the usual verb says what is wrong with it.
std::optional<ContainerRecord> owned_record(const StateStore& states, const std::string& id) {
  if (!check_id(id).empty()) return std::nullopt;
  const auto dir = states.open(id);
  if (!dir) return std::nullopt;
  auto loaded = dir->load();
  if (!loaded || loaded->record.supervisor_socket.empty()) return std::nullopt;
  return std::move(loaded->record);
}

/// True: the owner has done it. False: it is dead, and so are its successors.
io::Task<Result<bool>> ask_owner(Env& env, SupervisorAddress address, api::Call call) {
  const io::Deadline deadline = io::Deadline::in_ms(kAnswerMs);
  Result<Client> client = co_await Client::connect(env.loop, std::move(address), deadline);
  if (!client && Client::is_absent(client.error())) co_return false;
  if (!client) co_return forward(std::move(client));
  std::vector<int> none;
  const Result<api::Reply> reply = co_await client->call(std::move(call), std::move(none), deadline);
  if (!reply) co_return std::unexpected(reply.error());
  co_return true;
}

/// True: a supervisor has done it, maybe after several attempts. False: there is none.
io::Task<Result<bool>> ask_patiently(Env& env, SupervisorAddress address, api::Call call) {
  const Patience patience{0, Patience().again_ms};
  std::vector<int> none;
  const Result<api::Reply> reply =
      co_await call_patiently(env.loop, std::move(address), std::move(call), std::move(none), patience);
  if (reply) co_return true;
  if (!Client::is_absent(reply.error())) co_return std::unexpected(reply.error());
  co_return false;
}

/// Who does it: a supervisor, or we.
struct Turn {
  bool done = false;
  /// The right to the definitions, which keeps new supervisors from reading them as long as this lives; none where
  /// there are none. No definition is touched without it.
  std::optional<DefinitionStore> definitions;
};

/// Asks the supervisor, or takes its place. One that is about to start has read the definitions, and would write over
/// what we do to them: it is waited for and asked.
io::Task<Result<Turn>> ask_or_take(Env& env, SupervisedPlace place, api::Call call, bool patiently) {
  const io::Deadline limit = io::Deadline::in_ms(kNextOwnerMs);
  for (;;) {
    Turn turn;
    io::Task<Result<bool>> asking =
        patiently ? ask_patiently(env, place.address, call) : ask_owner(env, place.address, call);
    GANTRY_CO_LET(turn.done, co_await std::move(asking));
    if (turn.done || ::access(place.state_dir.c_str(), F_OK) < 0) co_return std::move(turn);
    GANTRY_CO_LET(turn.definitions, DefinitionStore::open(place.state_dir));
    GANTRY_CO_LET(const bool taken, turn.definitions->try_lock_shared());
    if (taken) co_return std::move(turn);
    if (limit.expired())
      co_return fail(cat("state directory ", place.state_dir, " is in use by a supervisor that does not answer at ",
                         place.address.socket, ": if it is at another socket, name that with --socket"));
    const io::Wake wake = co_await io::sleep_for(env.loop, kLookPause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for the supervisor");
  }
}

SupervisedPlace recorded_place(const Env& env, const ContainerRecord& record) {
  return {{record.supervisor_socket, cat(env.program, " supervise")}, record.state_dir};
}

/// What only one command at a time may have of a container: empty when there is no definition of it, nor a log, or all
/// of that has been removed meanwhile.
io::Task<Result<sys::Fd>> lock_definition(Env& env, const DefinitionStore& definitions, std::string id) {
  const io::Deadline limit = io::Deadline::in_ms(kAnswerMs);
  for (;;) {
    auto dir = definitions.try_lock_one(id);
    if (!dir && dir.error().sys_errno == ENOENT) co_return sys::Fd();
    if (!dir) co_return forward(std::move(dir));
    if (*dir) co_return std::move(*dir);
    if (limit.expired())
      co_return fail(cat("container ", id,
                         " is busy: another command that stops or removes it has not finished within ",
                         kAnswerMs / 1000, " s"));
    const io::Wake wake = co_await io::sleep_for(env.loop, kLookPause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for another command");
  }
}

/// Marks the definition, unless somebody who removes it was first. False: there is none.
io::Task<Result<bool>> mark(Env& env, const Turn& turn, std::string id) {
  if (!turn.definitions) co_return false;
  GANTRY_CO_LET(const sys::Fd lock, co_await lock_definition(env, *turn.definitions, id));
  if (!lock || !turn.definitions->has(id)) co_return false;
  GANTRY_CO_TRY(mark_stopped_by_user(*turn.definitions, id));
  co_return true;
}

/// In a child: the exit status is an errno.
int remove_log_files(void* options) {
  // Whoever reads what we print need not wait for this.
  const sys::Fd nowhere(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = STDIN_FILENO; nowhere && fd <= STDERR_FILENO; ++fd) ::dup2(nowhere.get(), fd);
  const Result<> removed = LogFile(*static_cast<const LogOptions*>(options)).remove_all();
  return removed ? 0 : std::clamp(removed.error().sys_errno, 1, 255);
}

/// Removes a log where that may wait for ever, while we keep others from the definition: a child does it, and is given
/// up after a while (ETIMEDOUT).
io::Task<Result<>> remove_slow_log(io::Loop& loop, LogOptions log, sys::SlowPlace slow) {
  GANTRY_CO_LET(const sys::Child child, sys::fork_worker("gantry-rm-log", {}, remove_log_files, &log));
  const io::Deadline limit = io::Deadline::in_ms(kSlowLogMs);
  const io::Wake wake = co_await io::wait_pidfd(loop, child.pidfd.get(), limit);
  siginfo_t info{};
  (void)sys::pidfd_signal(child.pidfd, SIGKILL);
  (void)::waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED | WNOHANG);
  if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, cat("log ", log.path));
  if (wake == io::Wake::kTimeout)
    co_return std::unexpected(Error{cat("log ", log.path, ": ", slow.fs_type, " at ", slow.where,
                                        " has not answered for ", kSlowLogMs / 1000, " s"),
                                    ETIMEDOUT});
  if (info.si_code == CLD_EXITED && info.si_status == 0) co_return Result<>();
  co_return fail_path(info.si_code == CLD_EXITED ? info.si_status : EINTR, "log: unlink", log.path);
}

io::Task<Result<>> remove_log(io::Loop& loop, LogOptions log) {
  GANTRY_CO_LET(std::optional<sys::SlowPlace> slow, sys::find_slow_place(log.path));
  if (!slow) co_return LogFile(std::move(log)).remove_all();
  Result<> removed = co_await remove_slow_log(loop, std::move(log), std::move(*slow));
  co_return removed;
}

/// Removes the definition, and the log wherever it is; with `force` also when that may be and nobody answers there.
io::Task<Result<>> remove_definition(Env& env, const DefinitionStore& definitions, std::string id, bool force,
                                     bool keep_log) {
  const auto loaded = definitions.load(id);
  auto log = parse_log_options(loaded ? loaded->definition.log : "");
  Result<> emptied;
  if (log && !log->path.empty() && !keep_log) emptied = co_await remove_log(env.loop, std::move(*log));
  if (!emptied && !(force && io::is_timeout(emptied.error()))) co_return emptied;
  GANTRY_CO_TRY(definitions.remove(id, keep_log));
  if (!emptied) co_return forward(std::move(emptied), "removed, but its log stays");
  co_return Result<>();
}

/// Whether the container of a defined name is nobody's: made by `create` or `run` when that of the definition was gone,
/// after a reboot for instance. A record that cannot be read is the definition's.
bool is_namesake(const Env& env, const std::string& id) {
  const Result<Loaded> container = load_container(env, id);
  return container && container->health == RecordHealth::kGood && container->record.supervisor_socket.empty();
}

/// What has been loaded may hold the container's lock: it is gone when this returns.
Result<> check_removable(const Env& env, const std::string& id) {
  const Result<Loaded> container = load_container(env, id);
  if (container && !permits(container->status, Verb::kDelete)) return not_permitted(*container, Verb::kDelete);
  return {};
}

/// Of several commands that remove one container the later ones find it gone.
io::Task<Result<>> remove_here(Env& env, const Turn& turn, std::string id, bool force, bool keep_log) {
  sys::Fd lock;
  if (turn.definitions) {
    GANTRY_CO_LET(lock, co_await lock_definition(env, *turn.definitions, id));
  }
  const bool defined = lock && turn.definitions->has(id);
  if (defined && is_namesake(env, id)) {
    Result<> forgotten = co_await remove_definition(env, *turn.definitions, std::move(id), force, keep_log);
    co_return forgotten;
  }
  if (!force) GANTRY_CO_TRY(check_removable(env, id));
  Result<> marked;
  if (defined) marked = mark_stopped_by_user(*turn.definitions, id);
  // A full disk takes no mark, and must not keep anybody from making room.
  if (!marked && !force) co_return marked;
  Result<> removed = co_await remove(env, id, force);
  if (!removed && !(defined && removed.error().sys_errno == ENOENT)) co_return removed;
  Result<> forgotten;
  if (defined) forgotten = co_await remove_definition(env, *turn.definitions, std::move(id), force, keep_log);
  co_return forgotten;
}

/// Asks it to end, waits, and kills it.
io::Task<Result<>> end_container(Env& env, std::string id, unsigned grace_seconds) {
  GANTRY_CO_LET(const Loaded container, load_container(env, id));
  if (!permits(container.status, Verb::kKill) || !container.pidfd) co_return Result<>();
  if (container.status == Status::kPaused) GANTRY_CO_TRY(co_await resume(env, id));
  const int signo = stop_signal(container.record);
  // What has just ended by itself cannot be signalled, and need not be.
  (void)co_await kill(env, id, signo, false);
  const io::Deadline patience = io::Deadline::in_ms(int64_t{grace_seconds} * 1000);
  io::Wake wake = co_await io::wait_pidfd(env.loop, container.pidfd.get(), patience);
  if (wake != io::Wake::kTimeout) co_return Result<>();
  const Result<> killed = co_await kill(env, id, SIGKILL, false);
  const io::Deadline limit = io::Deadline::in_ms(kDeathLimitMs);
  wake = co_await io::wait_pidfd(env.loop, container.pidfd.get(), limit);
  if (wake != io::Wake::kTimeout) co_return Result<>();
  if (!killed) co_return killed;
  co_return fail(cat("container ", id, " does not end: pid ", container.record.pid, " ignores SIGKILL (see /proc/",
                     container.record.pid, "/stack)"));
}

/// `turn` is given up as soon as the definition is marked: who reads it now starts nothing, and may wait for the end.
io::Task<Result<>> stop_here(Env& env, Turn turn, std::string id, unsigned grace_seconds) {
  if (const std::string refusal = check_id(id); !refusal.empty()) co_return fail(refusal);
  GANTRY_CO_LET(const bool marked, co_await mark(env, turn, id));
  turn.definitions.reset();
  if (marked && is_namesake(env, id)) co_return Result<>();
  Result<> ended = co_await end_container(env, id, grace_seconds);
  if (!ended && marked && ended.error().sys_errno == ENOENT) co_return Result<>();
  co_return ended;
}

}  // namespace

io::Task<Result<>> owned_kill(Env& env, std::string id, int signo, bool all) {
  const std::optional<ContainerRecord> record = owned_record(env.store, id);
  if (record) {
    api::Call call = api::Signal{id, signo, all};
    SupervisedPlace place = recorded_place(env, *record);
    GANTRY_CO_LET(const Turn turn, co_await ask_or_take(env, std::move(place), std::move(call), false));
    if (turn.done) co_return Result<>();
    if (means_the_end(signo, *record)) GANTRY_CO_TRY(co_await mark(env, turn, id));
  }
  Result<> killed = co_await kill(env, id, signo, all);
  co_return killed;
}

io::Task<Result<>> owned_pause(Env& env, std::string id) {
  const std::optional<ContainerRecord> record = owned_record(env.store, id);
  if (record) {
    api::Call call = api::Pause{id};
    SupervisedPlace place = recorded_place(env, *record);
    GANTRY_CO_LET(const bool done, co_await ask_owner(env, std::move(place.address), std::move(call)));
    if (done) co_return Result<>();
  }
  Result<> paused = co_await pause(env, id);
  co_return paused;
}

io::Task<Result<>> owned_resume(Env& env, std::string id) {
  const std::optional<ContainerRecord> record = owned_record(env.store, id);
  if (record) {
    api::Call call = api::Resume{id};
    SupervisedPlace place = recorded_place(env, *record);
    GANTRY_CO_LET(const bool done, co_await ask_owner(env, std::move(place.address), std::move(call)));
    if (done) co_return Result<>();
  }
  Result<> resumed = co_await resume(env, id);
  co_return resumed;
}

io::Task<Result<>> owned_remove(Env& env, std::string id, bool force) {
  const std::optional<ContainerRecord> record = owned_record(env.store, id);
  if (!record) {
    Result<> removed = co_await remove(env, id, force);
    co_return removed;
  }
  api::Call call = api::Remove{id, force, false};
  SupervisedPlace place = recorded_place(env, *record);
  // Hooks may take as long as they like, and a removal that was cut short can be asked for again.
  GANTRY_CO_LET(const Turn turn, co_await ask_or_take(env, std::move(place), std::move(call), true));
  if (turn.done) co_return Result<>();
  Result<> removed = co_await remove_here(env, turn, id, force, false);
  co_return removed;
}

SupervisedPlace place_of(const StateStore& states, const std::string& id, SupervisedPlace otherwise) {
  std::optional<ContainerRecord> record = owned_record(states, id);
  if (!record) return otherwise;
  otherwise.address.socket = std::move(record->supervisor_socket);
  if (!record->state_dir.empty()) otherwise.state_dir = std::move(record->state_dir);
  return otherwise;
}

io::Task<Result<>> stop_anyhow(Env& env, SupervisedPlace place, std::string id, unsigned grace_seconds) {
  api::Call call = api::Stop{id, grace_seconds};
  GANTRY_CO_LET(Turn turn, co_await ask_or_take(env, place, std::move(call), true));
  if (turn.done) co_return Result<>();
  Result<> stopped = co_await stop_here(env, std::move(turn), id, grace_seconds);
  co_return stopped;
}

io::Task<Result<>> remove_anyhow(Env& env, SupervisedPlace place, std::string id, bool force, bool keep_log) {
  api::Call call = api::Remove{id, force, keep_log};
  GANTRY_CO_LET(const Turn turn, co_await ask_or_take(env, place, std::move(call), true));
  if (turn.done) co_return Result<>();
  if (const std::string refusal = check_id(id); !refusal.empty()) co_return fail(refusal);
  Result<> removed = co_await remove_here(env, turn, id, force, keep_log);
  co_return removed;
}

}  // namespace gantry
