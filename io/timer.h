// Sleeping, and putting an end to what takes too long.
#pragma once

#include "io/loop.h"

namespace gantry::io {

/// Sleeps: kTimeout at the deadline, kCancelled before. Never kReady.
Task<Wake> sleep_until(Loop& loop, Deadline deadline);
Task<Wake> sleep_for(Loop& loop, std::chrono::nanoseconds span);

/// Cancels a source at a deadline, unless destroyed before.
class CancelTimer {
 public:
  CancelTimer(Loop& loop, CancelSource& source, Deadline deadline);
  CancelTimer(const CancelTimer&) = delete;
  CancelTimer& operator=(const CancelTimer&) = delete;

  /// Whether it was this timer that came.
  bool fired() const { return fired_; }

 private:
  CancelSource& source_;
  bool fired_ = false;
  UvTimer timer_;
};

namespace detail {
template <class T>
struct Flat {
  using Type = Result<T>;
};
template <class T>
struct Flat<Result<T>> {
  using Type = Result<T>;
};
}  // namespace detail

/// Runs `task` until the deadline, then cancels it and waits for it to end (its cleanup must have deadlines of its
/// own). A task that returned an error because of that, or no Result at all, gives ETIMEDOUT; one that succeeded
/// nevertheless, or failed for another reason, gives what it returned. Being cancelled from outside passes through.
template <class T>
Task<typename detail::Flat<T>::Type> with_deadline(Loop& loop, Task<T> task, Deadline deadline) {
  using Out = typename detail::Flat<T>::Type;
  CancelSource* const inherited = co_await inherited_cancel();
  CancelSource source(inherited);
  CancelTimer timer(loop, source, deadline);
  Task<T> limited = with_cancel(std::move(task), source);
  const std::string_view name = limited.handle().promise().name;
  if constexpr (std::is_void_v<T>) {
    co_await std::move(limited);
    if (timer.fired()) co_return fail_wake(Wake::kTimeout, name);
    co_return Out();
  } else if constexpr (std::is_same_v<T, Out>) {
    Out out = co_await std::move(limited);
    if (timer.fired() && !out && is_cancelled(out.error())) co_return fail_wake(Wake::kTimeout, name);
    co_return std::move(out);
  } else {
    T value = co_await std::move(limited);
    if (timer.fired()) co_return fail_wake(Wake::kTimeout, name);
    co_return Out(std::move(value));
  }
}

}  // namespace gantry::io
