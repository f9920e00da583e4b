#include "engine/start.h"

#include <poll.h>
#include <unistd.h>

#include <array>

#include "engine/hooks.h"
#include "engine/load.h"
#include "engine/notify.h"
#include "io/stream.h"
#include "sys/init/wire.h"
#include "sys/text.h"

namespace gantry {

Result<sys::Fd> release_init(const StateDir& dir) {
  // Opened first: what init says before it executes the program must have a reader.
  GANTRY_LET(sys::Fd status, dir.open_status_fifo());
  auto fifo = dir.open_start_fifo();
  if (!fifo && fifo.error().sys_errno == ENXIO) return fail("container process is already dead");
  if (!fifo && fifo.error().sys_errno == ENOENT) return fail("cannot start an already running container");
  if (!fifo) return forward(std::move(fifo));
  // Unlinked before it is written: while the name is there, the program has certainly not run. A supervisor that was
  // killed here can then tell an init that never started from a program that has ended.
  dir.remove_start_fifo();
  if (::write(fifo->get(), "0", 1) != 1) return fail_errno(errno, "write exec.fifo");
  return status;
}

io::Task<Result<>> await_program(io::Loop& loop, sys::Fd status) {
  std::string text;
  std::array<std::byte, 1024> chunk;
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    const std::span<std::byte> into(chunk);
    GANTRY_CO_LET(const size_t got, co_await io::read_some(loop, status.get(), into, never));
    if (got == 0) break;
    if (text.size() < init::kStatusMax) text.append(reinterpret_cast<const char*>(chunk.data()), got);
  }
  if (text.empty()) co_return Result<>();
  co_return fail(std::string(trim(text)));
}

io::Task<Result<>> start(Env& env, std::string id) {
  GANTRY_CO_LET(Loaded container, co_await load_locked(env, std::move(id)));
  if (!permits(container.status, Verb::kStart)) co_return not_permitted(container, Verb::kStart);
  GANTRY_CO_LET(Spec spec, recorded_spec(container));
  if (!spec.process) co_return fail("process property must not be empty");
  std::optional<NotifyRelay> notify;
  if (container.record.notify_socket) {
    Result<NotifyRelay> relay = NotifyRelay::open(container.dir.fd());
    if (!relay) co_return forward(std::move(relay));
    notify.emplace(std::move(*relay));
  }
  GANTRY_CO_LET(sys::Fd status, release_init(container.dir));
  GANTRY_CO_TRY(co_await await_program(env.loop, std::move(status)));
  Result<> hooked = co_await run_poststart(env, spec.hooks, container.record, container.pidfd);
  if (!hooked) co_return hooked;
  if (notify) {
    Result<> relayed = co_await notify->forward_ready(env.loop, container.record.pid, container.pidfd.get());
    co_return relayed;
  }
  co_return Result<>();
}

}  // namespace gantry
