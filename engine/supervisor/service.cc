// What clients ask for. A call that has begun to change something goes on when its client hangs up, to its end or that
// of the supervisor.
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>

#include "engine/bundle.h"
#include "engine/clock.h"
#include "engine/load.h"
#include "engine/log.h"
#include "engine/spec_parse.h"
#include "engine/supervisor/parts.h"
#include "engine/supervisor/stop_signal.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr unsigned kDefaultGraceSeconds = 10;
constexpr int64_t kRemoveLogMs = 5'000;

uint32_t random_key() {
  uint32_t key = 0;
  while (key == 0)
    if (::getrandom(&key, sizeof key, 0) != sizeof key) key = static_cast<uint32_t>(monotonic_ns());
  return key;
}

Error unknown_container() {
  return Error{"container does not exist", ENOENT};
}

/// The config as the client read it, judged before anything is made.
Result<std::string> take_config(std::vector<sys::Fd>& fds) {
  if (fds.size() != 1) return fail("up: one descriptor with the bytes of config.json must come with the call");
  const std::string path = cat("/proc/self/fd/", fds.front().get());
  // A memfd or a regular file: read_json_file refuses what could make us wait.
  GANTRY_LET(std::string config, read_json_file(-1, path.c_str(), "config.json"));
  GANTRY_TRY(parse_spec(config));
  return config;
}

Result<> check_paths(const api::Up& call) {
  for (const auto& [name, path] : {std::pair("bundle", &call.bundle), std::pair("rootfs", &call.rootfs)})
    if (!path->starts_with('/')) return fail(cat("up: ", std::string_view(name), " \"", *path, "\" must be absolute"));
  if (!call.netns.empty() && !call.netns.starts_with('/'))
    return fail(cat("up: netns \"", call.netns, "\" must be absolute"));
  return {};
}

}  // namespace

Result<std::shared_ptr<Supervised>> Supervisor::find(const std::string& id) const {
  const auto found = containers_.find(id);
  if (found == containers_.end()) return std::unexpected(unknown_container());
  return found->second;
}

io::Task<Result<api::Reply>> Supervisor::handle(api::Call call, std::vector<sys::Fd> fds, std::vector<sys::Fd>&) {
  if (auto* up_call = std::get_if<api::Up>(&call)) {
    Result<api::Reply> reply = co_await up(std::move(*up_call), std::move(fds));
    co_return reply;
  }
  if (auto* wait_call = std::get_if<api::Wait>(&call)) {
    Result<api::Reply> reply = co_await wait(std::move(*wait_call));
    co_return reply;
  }
  if (std::holds_alternative<api::List>(call)) co_return list();
  if (std::holds_alternative<api::Status>(call)) co_return status();
  io::Task<Result<api::Reply>> change = change_one(std::move(call));
  Result<api::Reply> reply = co_await io::with_cancel(std::move(change), parts_->host.ending);
  co_return reply;
}

io::Task<Result<api::Reply>> Supervisor::change_one(api::Call call) {
  Result<> done;
  if (auto* stop_call = std::get_if<api::Stop>(&call)) {
    done = co_await stop(std::move(*stop_call));
  } else if (auto* remove_call = std::get_if<api::Remove>(&call)) {
    done = co_await remove(std::move(*remove_call));
  } else if (auto* signal_call = std::get_if<api::Signal>(&call)) {
    done = co_await signal(std::move(*signal_call));
  } else if (auto* pause_call = std::get_if<api::Pause>(&call)) {
    GANTRY_CO_TRY(find(pause_call->id));
    done = co_await pause(parts_->env, std::move(pause_call->id));
  } else if (auto* resume_call = std::get_if<api::Resume>(&call)) {
    GANTRY_CO_TRY(find(resume_call->id));
    done = co_await resume(parts_->env, std::move(resume_call->id));
  } else if (auto* reopen_call = std::get_if<api::ReopenLog>(&call)) {
    GANTRY_CO_LET(const std::shared_ptr<Supervised> container, find(reopen_call->id));
    container->reopen_log();
  } else {
    co_return fail("this call is not supported");
  }
  if (!done) co_return forward(std::move(done));
  co_return api::Empty{};
}

io::Task<Result<api::Reply>> Supervisor::up(api::Up call, std::vector<sys::Fd> fds) {
  if (const std::string refusal = check_id(call.id); !refusal.empty()) co_return fail(refusal);
  GANTRY_CO_TRY(check_paths(call));
  if (parts_->host.closing) co_return fail("the supervisor is about to end");
  if (parts_->keeper.gone().is_set()) co_return fail(kNoKeeper);
  if (containers_.contains(call.id)) co_return std::unexpected(Error{"container with given ID already exists", EEXIST});
  GANTRY_CO_LET(const std::string config, take_config(fds));
  fds.clear();
  Definition definition;
  definition.id = call.id;
  definition.bundle = std::move(call.bundle);
  definition.rootfs = std::move(call.rootfs);
  definition.netns = std::move(call.netns);
  definition.cgroups_path = std::move(call.cgroups_path);
  definition.log = std::move(call.log);
  definition.restart = call.restart;
  definition.created = utc_text(realtime_ns());
  definition.key = unused_key();
  GANTRY_CO_LET(std::unique_ptr<Supervised> made, Supervised::make(parts_->host, definition));
  const std::shared_ptr<Supervised> container(std::move(made));
  GANTRY_CO_TRY(co_await check_log_is_free(container));
  GANTRY_CO_TRY(parts_->definitions.create(definition, config));
  Result<> durable = co_await container->make_durable();
  if (durable) durable = co_await check_log_is_free(container);  // others may have come meanwhile
  if (!durable) {
    (void)parts_->definitions.remove(call.id, true);
    co_return forward(std::move(durable), cat("up ", call.id));
  }
  adopt(container, std::nullopt, true);
  Result<pid_t> pid = co_await container->first_start();
  if (pid) co_return api::UpReply{call.id, *pid};
  if (io::is_cancelled(pid.error())) co_return forward(std::move(pid));
  co_await give_up(container);
  co_return forward(std::move(pid));
}

/// A container's key names its runs to the keeper.
uint32_t Supervisor::unused_key() const {
  const auto is_used = [this](uint32_t key) {
    return parts_->held.contains(key) ||
           std::ranges::any_of(containers_, [key](const auto& entry) { return entry.second->definition().key == key; });
  };
  uint32_t key = random_key();
  while (is_used(key)) key = random_key();
  return key;
}

/// What could not be started at all leaves nothing; a log that was there before it stays.
io::Task<> Supervisor::give_up(std::shared_ptr<Supervised> container) {
  const bool keep_log = container->found_log();
  const Result<> forgotten = co_await forget(container, keep_log, true);
  if (!forgotten) log_warning(cat("container ", container->definition().id, ": ", forgotten.error().text));
}

/// Nothing is left of a container but, when asked, its log. Where that is nobody may answer: ETIMEDOUT, and all is as
/// it was; with `anyhow` only the log stays.
io::Task<Result<>> Supervisor::forget(std::shared_ptr<Supervised> container, bool keep_log, bool anyhow) {
  const std::string& id = container->definition().id;
  Result<> emptied;
  if (!keep_log && is_known(container)) {
    const io::Deadline limit = io::Deadline::in_ms(kRemoveLogMs);
    emptied = co_await container->remove_log(limit);
    if (!emptied && !io::is_timeout(emptied.error())) {
      log_warning(cat("container ", id, ": ", emptied.error().text));
      emptied = Result<>();
    }
  }
  if (!is_known(container) || (!emptied && !anyhow)) co_return emptied;
  const Result<> removed = parts_->definitions.remove(id, keep_log);
  if (!removed) log_warning(cat("container ", id, ": ", removed.error().text));
  containers_.erase(id);
  changed_.set();
  if (!emptied) co_return forward(std::move(emptied), "removed, but its log stays");
  co_return Result<>();
}

bool Supervisor::is_known(const std::shared_ptr<Supervised>& container) const {
  const auto found = containers_.find(container->definition().id);
  return found != containers_.end() && found->second == container;
}

io::Task<Result<api::Reply>> Supervisor::wait(api::Wait call) {
  GANTRY_CO_LET(const std::shared_ptr<Supervised> container, find(call.id));
  GANTRY_CO_TRY(co_await container->wait_ended());
  co_return api::WaitReply{std::move(call.id), container->definition().exit};
}

io::Task<Result<>> Supervisor::stop(api::Stop call) {
  GANTRY_CO_LET(const std::shared_ptr<Supervised> container, find(call.id));
  Result<> stopped = co_await container->stop(call.timeout_seconds.value_or(kDefaultGraceSeconds));
  co_return stopped;
}

io::Task<Result<>> Supervisor::remove(api::Remove call) {
  Result<std::shared_ptr<Supervised>> found = find(call.id);
  if (!found && call.force) {
    Result<> swept = co_await remove_unreadable(std::move(call));
    co_return swept;
  }
  if (!found) co_return forward(std::move(found));
  const std::shared_ptr<Supervised> container = std::move(*found);
  GANTRY_CO_LET(const bool mine, co_await container->claim_removal());
  if (!mine && !call.force) co_return std::unexpected(unknown_container());
  if (!mine) co_return Result<>();
  Result<> removed = co_await remove_claimed(container, call);
  container->end_removal(removed || !is_known(container));
  co_return removed;
}

/// A definition that could not be read when this supervisor started. Its run is among those that nobody has claimed; if
/// it lives, the container's own record tells which it is.
io::Task<Result<>> Supervisor::remove_unreadable(api::Remove call) {
  if (const std::string refusal = check_id(call.id); !refusal.empty()) co_return fail(refusal);
  const Result<LoadedDefinition> loaded = parts_->definitions.load(call.id);
  if (!loaded && loaded.error().sys_errno == ENOENT) co_return Result<>();
  pid_t pid = 0;
  {  // what is loaded may hold the container's lock
    const Result<Loaded> container = load_container(parts_->env, call.id);
    if (container && container->record.supervisor_socket == options_.socket) pid = container->record.pid;
  }
  if (pid != 0) GANTRY_CO_TRY(co_await gantry::remove(parts_->env, call.id, true));
  for (auto held = parts_->held.begin(); held != parts_->held.end(); ++held) {
    if (held->second.pid != pid) continue;
    const uint32_t slot = held->second.slot;
    parts_->held.erase(held);
    GANTRY_CO_TRY(co_await parts_->keeper.release(slot));
    parts_->slots.give_back(slot);
    break;
  }
  co_return parts_->definitions.remove(call.id, call.keep_log);
}

/// Only a keeper starts hooks; without one they would be lost, as the container is.
Result<> Supervisor::check_hooks_can_run(const std::string& id) const {
  if (!orphaned()) return {};
  const Result<Loaded> found = load_container(parts_->env, id);
  const Result<Spec> spec = found ? recorded_spec(*found) : fail("");
  if (!spec || spec->hooks.poststop.empty()) return {};
  return fail(cat("its poststop hooks cannot be run (--force removes it without): ", std::string_view(kNoKeeper)));
}

io::Task<Result<>> Supervisor::remove_claimed(std::shared_ptr<Supervised> container, api::Remove call) {
  if (!container->has_ended() && !call.force) co_return fail("container is not stopped: stop it first, or use --force");
  if (!call.force) GANTRY_CO_TRY(check_hooks_can_run(call.id));
  if (!container->has_ended()) GANTRY_CO_TRY(co_await container->kill_now());
  // Whose log cannot go now stays as it is.
  if (!call.keep_log && !call.force) GANTRY_CO_TRY(co_await container->check_log_answers());
  if (!call.keep_log) container->drop_output();
  const Result<> settled = co_await container->wait_settled();
  if (!settled) co_return settled;
  GANTRY_CO_LET(const bool anothers, container->is_anothers());
  if (!anothers) GANTRY_CO_TRY(co_await gantry::remove(parts_->env, call.id, true));
  Result<> removed = co_await forget(container, call.keep_log, call.force);
  co_return removed;
}

io::Task<Result<>> Supervisor::signal(api::Signal call) {
  GANTRY_CO_LET(const std::shared_ptr<Supervised> container, find(call.id));
  bool for_good = false;
  {  // what is loaded may hold the container's lock
    const Result<Loaded> loaded = load_container(parts_->env, call.id);
    for_good = loaded && means_the_end(call.signo, loaded->record);
  }
  if (for_good) container->mark_stopped();
  Result<> sent = co_await kill(parts_->env, std::move(call.id), call.signo, call.all);
  if (for_good) co_await container->flush_record();
  co_return sent;
}

api::ListReply Supervisor::list() const {
  api::ListReply reply;
  for (const auto& [id, container] : containers_) {
    const Definition& definition = container->definition();
    api::Entry& entry = reply.containers.emplace_back();
    entry.id = id;
    entry.bundle = definition.bundle;
    entry.restart = api::restart_policy_text(definition.restart);
    entry.log_path = container->log().path;
    entry.created = definition.created;
    entry.pid = container->pid();
    entry.status = container->has_ended() ? "stopped" : entry.pid != 0 ? "running" : "waiting";
    entry.restarts = definition.restarts;
    entry.quarantined = definition.quarantined;
    if (definition.last_run != 0) entry.exit = definition.exit;
  }
  return reply;
}

api::StatusReply Supervisor::status() const {
  const init::KeeperTable& keeper = parts_->table.head();
  api::StatusReply reply;
  reply.version = options_.version;
  reply.root = options_.root;
  reply.state_dir = options_.state_dir;
  reply.supervisor_pid = ::getpid();
  reply.keeper_pid = parts_->keeper.gone().is_set() ? 0 : keeper.keeper_pid;
  reply.containers = containers_.size();
  for (const auto& [id, container] : containers_) reply.running += container->pid() != 0 ? 1 : 0;
  reply.starts = keeper.starts;
  return reply;
}

}  // namespace gantry
