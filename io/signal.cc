#include "io/signal.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <vector>

#include "io/event.h"
#include "io/uv_handle.h"

namespace gantry::io {

struct Signals::State {
  explicit State(Loop& on) : loop(on), arrived(on) {}
  Loop& loop;
  Event arrived;
  std::deque<int> pending;
  std::optional<Error> failure;
  std::vector<UvHandle<uv_signal_t>> handles;
};

Signals::Signals(Loop& loop, std::span<const int> signos) : state_(std::make_unique<State>(loop)) {
  const auto on_signal = [](uv_signal_t* handle, int signo) {
    auto* const state = static_cast<State*>(handle->data);
    if (std::find(state->pending.begin(), state->pending.end(), signo) == state->pending.end()) {
      state->pending.push_back(signo);
    }
    state->arrived.set();
  };
  for (const int signo : signos) {
    UvHandle<uv_signal_t> handle(new uv_signal_t);
    uv_must(uv_signal_init(loop.uv(), handle.get()), "uv_signal_init");
    handle->data = state_.get();
    const int status = uv_signal_start(handle.get(), on_signal, signo);
    if (status < 0) state_->failure = fail_errno(-status, cat("catching signal ", signo)).error();
    state_->handles.push_back(std::move(handle));
  }
}

Signals::~Signals() = default;
Signals::Signals(Signals&&) noexcept = default;

Task<Result<int>> Signals::next(Deadline deadline) {
  return next_of(*state_, deadline);
}

Task<Result<int>> Signals::next_of(State& state, Deadline deadline) {
  if (state.failure) co_return std::unexpected(*state.failure);
  Wake wake = co_await checkpoint(state.loop);
  while (wake == Wake::kReady) {
    if (!state.pending.empty()) {
      const int signo = state.pending.front();
      state.pending.pop_front();
      co_return signo;
    }
    state.arrived.reset();
    wake = co_await state.arrived.wait(deadline);
  }
  co_return fail_wake(wake, "waiting for a signal");
}

}  // namespace gantry::io
