#include "io/loop.h"

#include <signal.h>

#include "io/fd_table.h"
#include "io/uv_handle.h"

namespace gantry::io {

namespace {

void print_handle(uv_handle_t* handle, void*) {
  std::fprintf(stderr, "gantry: leaked %s handle%s\n", uv_handle_type_name(handle->type),
               uv_is_active(handle) ? ", active" : "");
}

void ignore_signal(int) {}

/// One timer: uv's handle, and whom to tell.
struct Timer : uv_timer_t {
  void (*on_expiry)(void*);
  void* argument;
};

}  // namespace

Loop::Loop() : uv_(std::make_unique<uv_loop_t>()) {
  uv_must(uv_loop_init(uv_.get()), "uv_loop_init");
  fds_ = std::make_unique<FdTable>(*uv_);
  struct sigaction action{};
  if (::sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
    action.sa_handler = ignore_signal;
    action.sa_flags = SA_RESTART;
    took_sigpipe_ = ::sigaction(SIGPIPE, &action, nullptr) == 0;
  }
}

Loop::~Loop() {
  fds_.reset();
  // A closing signal handle may need more than one turn.
  for (int turn = 0; turn < 8 && uv_loop_alive(uv_.get()); ++turn) uv_run(uv_.get(), UV_RUN_NOWAIT);
  if (uv_loop_close(uv_.get()) != 0) {
    uv_walk(uv_.get(), print_handle, nullptr);
    std::abort();
  }
  if (took_sigpipe_) ::signal(SIGPIPE, SIG_DFL);
}

void Loop::run_ready() {
  // Only what is posted by now: what this posts in turn must not keep the kernel's events waiting.
  Link batch;
  while (ready_.linked()) batch.push_back(*ready_.first());
  while (batch.linked()) {
    auto* const item = static_cast<ReadyItem*>(batch.first());
    item->Link::unlink();
    spent_ = 0;
    item->run();
  }
}

void Loop::drive(std::coroutine_handle<> task, std::string_view name) {
  if (running_) uv_must(UV_EBUSY, "Loop::run inside a task");
  running_ = true;
  spent_ = 0;
  task.resume();
  while (!task.done()) {
    if (!ready_.linked() && !uv_loop_alive(uv_.get())) {
      std::fprintf(stderr, "gantry: %.*s waits for something that cannot happen\n", static_cast<int>(name.size()),
                   name.data());
      std::abort();
    }
    uv_run(uv_.get(), ready_.linked() ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    run_ready();
  }
  running_ = false;
}

void UvTimerCloser::operator()(uv_timer_s* timer) const {
  uv_close(reinterpret_cast<uv_handle_t*>(timer),
           [](uv_handle_t* closed) { delete static_cast<Timer*>(reinterpret_cast<uv_timer_t*>(closed)); });
}

UvTimer Loop::start_timer(Deadline deadline, void (*on_expiry)(void*), void* argument) {
  auto* const timer = new Timer;
  uv_must(uv_timer_init(uv_.get(), timer), "uv_timer_init");
  timer->on_expiry = on_expiry;
  timer->argument = argument;
  // uv counts from its cached clock, which is old after long synchronous work: the deadline would come early.
  uv_update_time(uv_.get());
  const auto now_ms = static_cast<int64_t>(uv_now(uv_.get()));
  const int64_t at_ms = (deadline.nanoseconds() - 1) / 1'000'000 + 1;
  const auto fire = [](uv_timer_t* fired) {
    auto* const self = static_cast<Timer*>(fired);
    self->on_expiry(self->argument);
  };
  uv_must(uv_timer_start(timer, fire, static_cast<uint64_t>(at_ms > now_ms ? at_ms - now_ms : 0), 0), "uv_timer_start");
  return UvTimer(timer);
}

void Waiter::wake(Wake why) {
  if (done_) return;
  done_ = true;
  outcome_ = why;
  disarm();
  timer_.reset();
  CancelWatcher::unlink();
  loop_.post(*this);
}

bool Waiter::suspend(CancelSource* cancel) {
  if (heed_ == Heed::kNothing) cancel = nullptr;
  if (cancel != nullptr && cancel->cancelled()) {
    outcome_ = Wake::kCancelled;
    return false;
  }
  if (!arm()) return false;
  if (deadline_.expired()) {
    disarm();
    outcome_ = Wake::kTimeout;
    return false;
  }
  if (!deadline_.is_never()) {
    timer_ = loop_.start_timer(deadline_, [](void* self) { static_cast<Waiter*>(self)->wake(Wake::kTimeout); }, this);
  }
  if (cancel != nullptr) cancel->add(*this);
  return true;
}

bool Checkpoint::arm() {
  if (!always_ && !loop().spend()) return false;
  loop().post(*this);
  return true;
}

}  // namespace gantry::io
