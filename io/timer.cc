#include "io/timer.h"

namespace gantry::io {

namespace {

class Sleeper final : public Waiter {
 public:
  Sleeper(Loop& loop, Deadline deadline) : Waiter(loop, deadline) {}

 private:
  bool arm() override { return true; }
};

Sleeper sleeper(Loop& loop, Deadline deadline) {
  return Sleeper(loop, deadline);
}

}  // namespace

Task<Wake> sleep_until(Loop& loop, Deadline deadline) {
  const Wake wake = co_await sleeper(loop, deadline);
  co_return wake;
}

Task<Wake> sleep_for(Loop& loop, std::chrono::nanoseconds span) {
  return sleep_until(loop, Deadline::in(span));
}

CancelTimer::CancelTimer(Loop& loop, CancelSource& source, Deadline deadline) : source_(source) {
  if (deadline.is_never()) return;
  const auto fire = [](void* argument) {
    auto* const self = static_cast<CancelTimer*>(argument);
    self->fired_ = true;
    self->source_.cancel();
  };
  timer_ = loop.start_timer(deadline, fire, this);
}

}  // namespace gantry::io
