#include "engine/agent.h"

#include <array>
#include <span>

#include "engine/creation.h"
#include "engine/json_write.h"
#include "engine/spec_template.h"
#include "io/stream.h"
#include "io/timer.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kLoadMs = 10'000;

/// Init cannot tell us that the filter is loaded: the profile may notify the very call it would use. So the number that
/// it freed before is tried until something is there, or init is gone.
io::Task<Result<sys::Fd>> fetch(io::Loop& loop, const sys::Child& process, int number) {
  const io::Deadline deadline = io::Deadline::in_ms(kLoadMs);
  std::chrono::microseconds pause(50);
  for (;;) {
    Result<sys::Fd> fd = sys::pidfd_getfd(process.pidfd, number);
    if (fd || fd.error().sys_errno != EBADF || deadline.expired()) co_return fd;
    const io::Wake wake = co_await io::sleep_for(loop, pause);
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, "waiting for the seccomp listener");
    if (pause < std::chrono::milliseconds(10)) pause *= 2;
  }
}

/// The ContainerProcessState of the runtime-spec; `state` is JSON already and goes in as it is.
std::string message(const Seccomp& profile, const sys::Child& process, const std::string& state) {
  json::Writer out;
  out.begin_object();
  out.member("ociVersion", kSpecVersion);
  out.key("fds").begin_array().value("seccompFd").end_array();
  out.member("pid", static_cast<int64_t>(process.pid));
  if (!profile.listener_metadata.empty()) out.member("metadata", profile.listener_metadata);
  out.end_object();
  std::string text = out.take();
  text.pop_back();
  return text.append(",\"state\":").append(state).append("}");
}

}  // namespace

io::Task<Result<>> hand_over_listener(io::Loop& loop, const Seccomp& profile, const sys::Child& process, int number,
                                      std::string state) {
  Result<sys::Fd> listener = co_await fetch(loop, process, number);
  if (!listener) co_return forward(std::move(listener), "fetching the seccomp listener");
  Result<sys::Fd> agent = co_await dial(loop, profile.listener_path);
  if (!agent)
    co_return forward(std::move(agent), "failed to connect with seccomp agent specified in the seccomp profile");
  const std::string text = message(profile, process, state);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  const std::array<int, 1> passed{listener->get()};
  const std::span<const int> fds(passed);
  const io::Deadline deadline = io::Deadline::in_ms(kLoadMs);
  Result<> sent = co_await io::send_msg(loop, agent->get(), bytes, fds, deadline);
  if (!sent) co_return forward(std::move(sent), cat("seccomp agent ", profile.listener_path));
  co_return sent;
}

}  // namespace gantry
