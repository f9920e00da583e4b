// What a supervisor finds when it starts: the keeper's table, the definitions, and what the containers' own records
// say.
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "engine/clock.h"
#include "engine/load.h"
#include "engine/log.h"
#include "engine/supervisor/parts.h"
#include "engine/supervisor/paths.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kOwnLimitMs = 5'000;
constexpr int64_t kShortageMs = 2'000;
constexpr std::chrono::milliseconds kShortagePause(20);

sys::Fd held_fd(const init::KeeperSlot& slot, size_t position) {
  return sys::Fd(slot.fds[position]);
}

/// A container's slot as a value that owns this process' copies of the descriptors.
HeldRun held_run(uint32_t number, const init::KeeperSlot& slot) {
  HeldRun run;
  run.slot = number;
  run.run = static_cast<uint32_t>(slot.owner);
  run.pid = slot.pid;
  run.device_slot = device_slot_of(slot.kind);
  run.foreign = (slot.flags & init::kSlotForeign) != 0;
  run.out = held_fd(slot, kHeldOut);
  run.err = held_fd(slot, kHeldErr);
  run.pidfd = held_fd(slot, init::kHeldPidfd);
  if (slot.state == init::SlotState::kExited) {
    HeldExit& exit = run.exit.emplace();
    exit.time_ns = slot.time;
    if ((slot.flags & init::kSlotExitUnknown) == 0) exit.status = ExitStatus{slot.code, slot.signal};
  }
  return run;
}

/// A log copier's.
struct HeldDevice {
  uint32_t slot = 0;
  uint64_t key = 0;
  CopyHands hands;
};

/// Everything that the keeper's table names, sorted.
struct Found {
  sys::Fd journal, staging_read, staging_write, suspects, clients, handover;
  std::map<uint32_t, HeldRun> runs;
  std::vector<HeldDevice> devices;
  std::vector<uint32_t> slots;
};

Found look_through(const KeeperView& table) {
  Found found;
  for (uint32_t number = 0; number < table.head().used && number < table.head().slot_count; ++number) {
    const init::KeeperSlot& slot = table.slot(number);
    if (slot.state == init::SlotState::kFree) continue;
    found.slots.push_back(number);
    switch (held_kind(slot.kind)) {
      case HeldKind::kSelf:
        found.journal = held_fd(slot, 0);
        found.staging_read = held_fd(slot, 1);
        found.staging_write = held_fd(slot, 2);
        found.suspects = held_fd(slot, 3);
        break;
      case HeldKind::kListener:
        found.clients = held_fd(slot, init::kClientsSocket);
        found.handover = held_fd(slot, init::kHandoverSocket);
        break;
      case HeldKind::kContainer:
        found.runs.insert_or_assign(Definition::key_of(slot.owner), held_run(number, slot));
        break;
      case HeldKind::kLogDevice:
        found.devices.push_back({number, slot.owner, {held_fd(slot, 0), held_fd(slot, 1), held_fd(slot, 2)}});
        break;
    }
  }
  return found;
}

Result<Copier> take_over_copier(Found& found, bool& fresh) {
  fresh = true;
  if (!found.journal) return Copier::make();
  auto adopted = Copier::adopt(std::move(found.journal), std::move(found.staging_read), std::move(found.staging_write));
  fresh = !adopted;
  if (adopted) return adopted;
  log_error(cat("what was on its way into logs is lost: ", adopted.error().text));
  return Copier::make();
}

Result<Suspects> take_over_suspects(Found& found) {
  if (!found.suspects) return Suspects::make();
  auto adopted = Suspects::adopt(std::move(found.suspects));
  if (adopted) return adopted;
  log_warning(adopted.error().text);
  return Suspects::make();
}

/// A run of an earlier boot has ended with it, nobody knows how.
void end_with_boot(Definition& definition) {
  if (definition.ended()) return;
  definition.last_run = definition.run;
  definition.exit = api::Exit();
  definition.failures = 0;
  // A boot is no failure of the container and uses up none of its retries.
  if (definition.restart_due()) ++definition.run;
}

/// The one that the keeper has, or a new one.
io::Task<Result<io::Listener>> listener_of(io::Loop& loop, sys::Fd held, std::string path, int type) {
  if (held) co_return adopt_listener(loop, std::move(held), type);
  Result<io::Listener> made = co_await listen_at(loop, std::move(path), type);
  co_return made;
}

}  // namespace

io::Task<Result<>> own_definitions(io::Loop& loop, const DefinitionStore& definitions) {
  const io::Deadline limit = io::Deadline::in_ms(kOwnLimitMs);
  for (;;) {
    GANTRY_CO_LET(const bool mine, definitions.try_lock());
    if (mine) co_return Result<>();
    if (limit.expired()) {
      GANTRY_CO_LET(const bool commands, definitions.try_lock_shared());
      co_return fail(cat("state directory ", definitions.path(),
                         commands ? " is in use by a command (rm, stop or kill) that found no supervisor: try again"
                                  : " is in use by another supervisor: use --state-dir"));
    }
    (void)co_await io::sleep_for(loop, std::chrono::milliseconds(5));
  }
}

io::Task<Result<std::unique_ptr<Supervisor>>> Supervisor::open(io::Loop& loop, SupervisorOptions options) {
  (void)::fcntl(init::kSupervisorSocketFd, F_SETFD, FD_CLOEXEC);
  (void)::fcntl(init::kSupervisorTableFd, F_SETFD, FD_CLOEXEC);
  if (::close_range(init::kFirstHeld, ~0u, CLOSE_RANGE_CLOEXEC) < 0) co_return fail_errno(errno, "close_range");
  GANTRY_CO_LET(KeeperView table, KeeperView::map(sys::Fd(init::kSupervisorTableFd)));
  Found found = look_through(table);
  bool fresh_copier = true;
  GANTRY_CO_LET(Copier copier, take_over_copier(found, fresh_copier));
  GANTRY_CO_LET(Suspects suspects, take_over_suspects(found));
  GANTRY_CO_LET(DefinitionStore definitions, DefinitionStore::open(options.state_dir));
  GANTRY_CO_TRY(co_await own_definitions(loop, definitions));
  // Whoever sends SIGKILL is outside of all containers, and whoever ends for a successor has not crashed.
  std::vector<uint32_t> guilty;
  const init::KeeperTable& head = table.head();
  if (head.crashes != 0 && head.hung == head.crashes)
    log_error("the supervisor before this one did not answer for too long (WATCHDOG_USEC), and the keeper killed it");
  const bool orderly = head.last_signal == 0 && head.last_code == kExitForSuccessor;
  if (head.crashes != 0 && head.last_signal != SIGKILL && !orderly) {
    guilty = suspects.after_crash(monotonic_ns());
  } else {
    suspects.after_kill();
  }
  auto parts = std::make_unique<Parts>(loop, options, std::move(table), std::move(definitions), std::move(suspects),
                                       std::move(copier));
  parts->fresh_copier = fresh_copier;
  parts->guilty = std::move(guilty);
  parts->held = std::move(found.runs);
  parts->slots.mark(kSelfSlot);
  parts->slots.mark(kListenerSlot);
  for (const uint32_t slot : found.slots) parts->slots.mark(slot);
  for (HeldDevice& device : found.devices) parts->devices.adopt(device.slot, device.key, std::move(device.hands));
  parts->fresh_listeners = !found.clients || !found.handover;
  GANTRY_CO_LET(io::Listener clients,
                co_await listener_of(loop, std::move(found.clients), options.socket, SOCK_STREAM));
  const std::string next_to_it = handover_socket(options.socket);
  GANTRY_CO_LET(io::Listener next, co_await listener_of(loop, std::move(found.handover), next_to_it, SOCK_SEQPACKET));
  parts->desk.emplace(loop, parts->keeper, std::move(next));
  std::unique_ptr<Supervisor> made(new Supervisor(loop, std::move(options), std::move(parts)));
  made->parts_->server.emplace(loop, *made, std::move(clients));
  co_return made;
}

/// Without a keeper, which may end at any moment, this process holds what it has: the next keeper asks it.
io::Task<Result<>> Supervisor::hold_if_kept(KeeperHold request) {
  Result<> held = co_await parts_->keeper.hold(request);
  if (held) co_return held;
  const int err = held.error().sys_errno;
  if (orphaned() || err == EPIPE || err == ECONNRESET) co_return Result<>();
  co_return held;
}

io::Task<Result<>> Supervisor::hold_self() {
  Parts& parts = *parts_;
  KeeperHold own;
  own.slot = kSelfSlot;
  own.kind = static_cast<uint32_t>(HeldKind::kSelf);
  const Copier::Descriptors copying = parts.copier.descriptors();
  own.fds = {copying.journal, copying.staging_read, copying.staging_write, parts.suspects.memfd().get()};
  Result<> held = co_await hold_if_kept(own);
  co_return held;
}

/// What was on its way is lost, but the containers go on: every successor would fail in the same way.
io::Task<Result<>> Supervisor::replace_copier(Error why) {
  log_error(cat("what was on its way into logs is lost: ", why.text));
  GANTRY_CO_LET(parts_->copier, Copier::make());
  parts_->fresh_copier = true;
  Result<> held = co_await hold_self();
  co_return held;
}

/// The keeper gets what the next supervisor will need, before anything depends on it.
io::Task<Result<>> Supervisor::hold_own() {
  Parts& parts = *parts_;
  if (parts.fresh_copier) GANTRY_CO_TRY(co_await hold_self());
  KeeperHold listeners;
  listeners.slot = kListenerSlot;
  listeners.kind = static_cast<uint32_t>(HeldKind::kListener);
  listeners.fds[init::kClientsSocket] = parts.server->listening_socket().get();
  listeners.fds[init::kHandoverSocket] = parts.desk->listening_socket().get();
  if (parts.fresh_listeners) GANTRY_CO_TRY(co_await hold_if_kept(listeners));
  co_return Result<>();
}

io::Task<Result<>> Supervisor::recover() {
  Parts& parts = *parts_;
  GANTRY_CO_TRY(co_await hold_own());
  GANTRY_CO_LET(const std::vector<std::string> ids, parts.definitions.ids());
  std::vector<std::pair<std::shared_ptr<Supervised>, std::optional<HeldRun>>> found;
  std::map<unsigned, LogFile*> by_slot;
  for (const std::string& id : ids) {
    std::optional<HeldRun> kept;
    Result<std::shared_ptr<Supervised>> container = co_await recover_one(id, kept);
    if (!container) {
      parts.all_known = false;
      log_error(cat("container ", id, " cannot be taken over: ", container.error().text));
      continue;
    }
    LogFile* const log = kept ? (*container)->resume_output(*kept) : nullptr;
    if (log != nullptr) by_slot[kept->slot] = log;
    found.emplace_back(std::move(*container), std::move(kept));
  }
  if (!parts.fresh_copier) {
    const Result<> recovered = parts.copier.recover([&by_slot](unsigned slot) {
      const auto known = by_slot.find(slot);
      return known == by_slot.end() ? nullptr : known->second;
    });
    if (!recovered) GANTRY_CO_TRY(co_await replace_copier(recovered.error()));
  }
  if (parts.fresh_copier)
    for (const auto& [slot, log] : by_slot) GANTRY_CO_TRY(parts.copier.open_slot(slot));
  co_await drop_strangers();
  // A run that nobody knows now, because its definition cannot be read, needs its device all the same.
  for (const auto& [key, run] : parts.held)
    if (run.device_slot != 0) parts.devices.adopted(run.device_slot)->pin();
  parts.devices.begin();
  for (auto& [container, kept] : found) adopt(std::move(container), std::move(kept), false);
  co_return Result<>();
}

/// A container that is not taken over would wait for ever when its pipe is full: worth some patience.
io::Task<Result<LoadedDefinition>> Supervisor::load_patiently(std::string id) {
  const io::Deadline limit = io::Deadline::in_ms(kShortageMs);
  for (;;) {
    Result<LoadedDefinition> loaded = parts_->definitions.load(id);
    if (loaded || !is_shortage(loaded.error()) || limit.expired()) co_return std::move(loaded);
    const io::Wake wake = co_await io::sleep_for(loop_, kShortagePause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "recovery");
  }
}

io::Task<Result<std::shared_ptr<Supervised>>> Supervisor::recover_one(std::string id, std::optional<HeldRun>& kept) {
  Parts& parts = *parts_;
  GANTRY_CO_LET(LoadedDefinition loaded, co_await load_patiently(id));
  Definition& definition = loaded.definition;
  if (const auto held = parts.held.find(definition.key); held != parts.held.end()) {
    kept = std::move(held->second);
    parts.held.erase(held);
  }
  bool changed = false;
  if (!loaded.this_boot) {
    end_with_boot(definition);
    changed = true;
  }
  if (std::find(parts.guilty.begin(), parts.guilty.end(), definition.key) != parts.guilty.end()) {
    definition.quarantined = true;
    changed = true;
    log_error(cat("container ", id, " is in quarantine: three supervisors in a row did not survive working on it"));
  }
  // What cannot go on record now is found out again, or with the next crashes.
  const Result<> saved = changed ? parts.definitions.save(definition) : Result<>();
  if (!saved) log_warning(cat("container ", id, ": its definition cannot be saved: ", saved.error().text));
  if (!kept && !definition.ended()) GANTRY_CO_TRY(co_await find_unheld(definition, kept));
  GANTRY_CO_LET(std::unique_ptr<Supervised> container, Supervised::make(parts.host, std::move(definition)));
  co_return std::shared_ptr<Supervised>(std::move(container));
}

/// A run that no keeper knows: keeper and supervisor were killed together. What still lives is taken over without its
/// output, whose pipes are gone; what has ended has done so unseen.
io::Task<Result<>> Supervisor::find_unheld(const Definition& definition, std::optional<HeldRun>& kept) {
  Parts& parts = *parts_;
  Result<Loaded> container = load_container(parts.env, definition.id);
  // Begun anew it would end what may well run.
  if (!container && is_shortage(container.error())) co_return forward(std::move(container));
  if (!container || container->health != RecordHealth::kGood) co_return Result<>();
  const ContainerRecord& record = container->record;
  const bool ours = record.supervisor_socket == options_.socket && record.supervised_run == definition.owner();
  if (!ours || record.phase != Phase::kCommitted || container->dir.has_start_fifo()) co_return Result<>();
  HeldRun run;
  run.run = definition.run;
  run.pid = record.pid;
  run.foreign = true;
  run.pidfd = std::move(container->pidfd);
  if (!run.pidfd) run.exit.emplace();
  GANTRY_CO_LET(run.slot, parts.slots.take());
  GANTRY_CO_TRY(parts.copier.open_slot(run.slot));
  KeeperHold hold;
  hold.slot = run.slot;
  hold.kind = static_cast<uint32_t>(HeldKind::kContainer);
  hold.owner = definition.owner();
  hold.pid = run.pid;  // no child of the keeper, which says so in the slot
  hold.fds[init::kHeldPidfd] = run.pidfd.get();
  if (run.pidfd) GANTRY_CO_TRY(co_await hold_if_kept(hold));
  kept = std::move(run);
  co_return Result<>();
}

/// Slots of runs without a definition, which somebody has removed behind our back. What has ended can be let go; what
/// lives is nobody's to kill, and stays held.
io::Task<> Supervisor::drop_strangers() {
  Parts& parts = *parts_;
  if (!parts.all_known) co_return;  // it may be that of a definition which could not be read
  for (auto held = parts.held.begin(); held != parts.held.end();) {
    const HeldRun& run = held->second;
    if (!run.exit && !sys::pidfd_ended(run.pidfd.get())) {
      log_error(cat("pid ", run.pid, " is a container without a definition in ", parts.definitions.path(),
                    ": it goes on, and nobody supervises it"));
      ++held;
      continue;
    }
    const Result<> released = co_await parts.keeper.release(run.slot);
    if (!released) log_warning(released.error().text);
    parts.slots.give_back(run.slot);
    held = parts.held.erase(held);
  }
}

}  // namespace gantry
