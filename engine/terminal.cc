#include "engine/terminal.h"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <span>
#include <vector>

#include "io/endpoint.h"
#include "io/scope.h"
#include "io/stream.h"

namespace gantry {
namespace {

constexpr int64_t kMasterMs = 10'000;

/// stdin to the pty, until stdin ends or the scope is cancelled. A caller's stdin that ends does not end the session.
io::Task<> pump_input(io::Loop& loop, int stdin_fd, sys::Fd master) {
  io::Endpoint source = io::Endpoint::borrow(stdin_fd, io::Endpoint::Direction::kRead);
  io::Endpoint sink = io::Endpoint::own(std::move(master), io::Endpoint::Direction::kWrite);
  io::Relay relay(loop, std::move(source), std::move(sink));
  const io::Deadline never = io::Deadline::never();
  (void)co_await relay.run(never);
}

}  // namespace

Result<> check_terminal_rule(bool terminal, bool console_socket, bool foreground) {
  if (terminal && !console_socket && !foreground)
    return fail("cannot allocate tty if runc will detach without setting console socket");
  if (console_socket && (!terminal || foreground))
    return fail("cannot use console socket if runc will not detach or allocate tty");
  return {};
}

Result<ForegroundTerminal> ForegroundTerminal::open() {
  GANTRY_LET(sys::Fd terminal, sys::find_terminal());
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return fail_errno(errno, "socketpair");
  return ForegroundTerminal(std::move(terminal), sys::Fd(pair[0]), sys::Fd(pair[1]));
}

io::Task<Result<>> ForegroundTerminal::attach(io::Loop& loop) {
  child_.reset();
  std::array<std::byte, 4096> name;
  std::vector<sys::Fd> fds;
  const std::span<std::byte> into(name);
  const io::Deadline deadline = io::Deadline::in_ms(kMasterMs);
  GANTRY_CO_LET(const size_t got, co_await io::recv_msg(loop, ours_.get(), into, fds, deadline));
  if (got == 0 || fds.size() != 1) co_return fail("console: init sent no pty");
  master_ = std::move(fds.front());
  ours_.reset();
  GANTRY_CO_TRY(sys::clear_onlcr(master_));
  resize();
  GANTRY_CO_LET(sys::RawMode raw, sys::RawMode::enter(terminal_));
  raw_.emplace(std::move(raw));
  co_return Result<>();
}

io::Task<Result<>> ForegroundTerminal::relay(io::Loop& loop) {
  sys::Fd for_input = master_.duplicate();
  sys::Fd for_output = master_.duplicate();
  if (!for_input || !for_output) co_return fail_errno(errno, "dup");
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope input(loop, inherited);
  input.spawn(pump_input(loop, STDIN_FILENO, std::move(for_input)));
  io::Endpoint source = io::Endpoint::own(std::move(for_output), io::Endpoint::Direction::kRead);
  io::Endpoint sink = io::Endpoint::borrow(STDOUT_FILENO, io::Endpoint::Direction::kWrite);
  io::Relay output(loop, std::move(source), std::move(sink));
  const io::Deadline never = io::Deadline::never();
  io::RelayReport report = co_await output.run(never);
  (void)co_await input.cancel_and_join();
  if (report.error) co_return std::unexpected(std::move(*report.error));
  co_return Result<>();
}

void ForegroundTerminal::resize() {
  // A terminal without a size (a pipe on the other side of a serial line) is no reason to fail.
  if (master_) (void)sys::copy_window_size(terminal_, master_);
}

}  // namespace gantry
