#include <csignal>
#include <optional>

#include "engine/creation.h"
#include "engine/foreground.h"
#include "engine/hooks.h"
#include "engine/notify.h"
#include "engine/remove.h"
#include "engine/start.h"
#include "io/scope.h"
#include "sys/proc.h"

namespace gantry {
namespace {

/// Signals before the program is there to get them.
struct Interrupts {
  io::Signals signals;
  int64_t patience_ms;
};

/// A run in progress, from a created container to its removal.
struct Running {
  Env& env;
  Interrupts& interrupts;
  Created created;
  std::optional<ForegroundTerminal> terminal;
  std::optional<NotifyRelay> notify;
};

io::Task<Result<>> start_program(Running& run, bool& program_failed) {
  if (run.created.record.notify_socket) {
    GANTRY_CO_LET(NotifyRelay relay, NotifyRelay::open(run.created.dir.fd()));
    run.notify.emplace(std::move(relay));
  }
  if (run.terminal) GANTRY_CO_TRY(co_await run.terminal->attach(run.env.loop));
  GANTRY_CO_LET(sys::Fd status, release_init(run.created.dir));
  Result<> executed = co_await await_program(run.env.loop, std::move(status));
  program_failed = !executed && !io::is_cancelled(executed.error());
  GANTRY_CO_TRY(std::move(executed));
  Result<> hooked = co_await run_poststart(run.env, run.created.spec.hooks, run.created.record, run.created.init.pidfd);
  co_return hooked;
}

/// Init is gone already.
io::Task<Result<>> clean_up(Running& run) {
  // The lock was free while the container ran: somebody may have deleted it meanwhile.
  Result<Loaded> container = co_await load_locked(run.env, run.created.record.id);
  if (!container && container.error().sys_errno == ENOENT) co_return Result<>();
  if (!container) co_return forward(std::move(container));
  const ContainerRecord& ours = run.created.record;
  // ... and made another one of the same name.
  if (container->record.pid != ours.pid || container->record.start_time != ours.start_time) co_return Result<>();
  Result<> removed = co_await remove_loaded(run.env, *container, &run.created.spec, run.created.record.bundle);
  co_return removed;
}

/// Something failed before the program ran: nothing may stay (LC-04).
io::Task<Result<int>> give_up(Running& run, Error why) {
  (void)sys::pidfd_signal(run.created.init.pidfd, SIGKILL);
  const io::Deadline never = io::Deadline::never();
  (void)co_await run.env.exits.wait(run.created.init.pid, run.created.init.pidfd.get(), never);
  run.created.dir.unlock();
  Result<> cleaned = co_await clean_up(run);
  if (!cleaned) log_warning("unable to destroy container: " + cleaned.error().text);
  co_return std::unexpected(std::move(why));
}

constexpr std::string_view kNotStarted = "unable to start container process";

io::Task<Result<>> start_interruptibly(Running& run, bool& program_failed) {
  io::Task<Result<>> starting = start_program(run, program_failed);
  Interrupts& interrupts = run.interrupts;
  Result<> started =
      co_await unless_interrupted(run.env.loop, interrupts.signals, interrupts.patience_ms, std::move(starting));
  if (!started && started.error().sys_errno == EINTR) co_return forward(std::move(started), kNotStarted);
  co_return started;
}

io::Task<Result<int>> run_foreground(Running& run, bool keep) {
  bool program_failed = false;
  Result<> started = co_await start_interruptibly(run, program_failed);
  if (!started && !program_failed) {
    Result<int> failed = co_await give_up(run, std::move(started).error());
    co_return failed;
  }
  // A failed program has said why on its stderr and ends with 255 (EX-27): its status is ours, like any other's.
  run.created.dir.unlock();
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope side(run.env.loop, inherited);
  if (run.notify && !program_failed)
    side.spawn(run.notify->forward_ready(run.env.loop, run.created.init.pid, run.created.init.pidfd.get()));
  Result<int> status = co_await attend(run.env, run.created.init, run.terminal, run.interrupts.signals);
  (void)co_await side.cancel_and_join();
  if (keep) co_return status;
  Result<> cleaned = co_await clean_up(run);
  if (!cleaned) log_warning("unable to destroy container: " + cleaned.error().text);
  co_return status;
}

io::Task<Result<int>> run_detached(Running& run) {
  bool program_failed = false;
  Result<> started = co_await start_interruptibly(run, program_failed);
  if (!started) {
    Result<int> failed = co_await give_up(run, std::move(started).error());
    co_return failed;
  }
  if (run.notify) {
    Result<> told =
        co_await run.notify->forward_ready(run.env.loop, run.created.init.pid, run.created.init.pidfd.get());
    if (!told) co_return forward(std::move(told));
  }
  co_return 0;
}

}  // namespace

io::Task<Result<int>> run(Env& env, RunOptions options) {
  CreateRequest request;
  request.options = std::move(options.create);
  std::optional<ForegroundTerminal> terminal;
  if (!options.detach) {
    request.terminal = &terminal;
    // Orphans of the container's processes come to us and not to a caller who does not expect them (RN-03).
    if (!options.no_subreaper) GANTRY_CO_TRY(sys::become_subreaper());
  }
  Interrupts interrupts = options.detach ? Interrupts{catch_end_signals(env.loop), kHeedAtOnce}
                                         : Interrupts{catch_forwarded_signals(env.loop), kUsualLaunchMs};
  io::Task<Result<Created>> creating = create_container(env, std::move(request));
  Result<Created> created =
      co_await unless_interrupted(env.loop, interrupts.signals, interrupts.patience_ms, std::move(creating));
  if (!created && created.error().sys_errno == EINTR) co_return forward(std::move(created), kNotStarted);
  if (!created) co_return forward(std::move(created));
  Running run{env, interrupts, std::move(*created), std::move(terminal), std::nullopt};
  if (options.detach) {
    Result<int> status = co_await run_detached(run);
    co_return status;
  }
  Result<int> status = co_await run_foreground(run, options.keep);
  co_return status;
}

}  // namespace gantry
