// The loop: one per process and thread, the only place where gantry waits.
#pragma once

#include <coroutine>
#include <memory>
#include <string_view>

#include "io/cancel.h"
#include "io/deadline.h"
#include "io/link.h"
#include "io/task.h"

struct uv_loop_s;
struct uv_timer_s;

namespace gantry::io {

class FdTable;

/// Something the loop does on its next turn. Destroying it takes it back.
class ReadyItem : public Link {
 public:
  /// Called from Loop::run alone, on a clean stack. May destroy the item.
  virtual void run() = 0;

 protected:
  ReadyItem() = default;
  virtual ~ReadyItem() = default;
};

/// Closes the handle now and frees it in its close callback (a later turn of the loop).
struct UvTimerCloser {
  void operator()(uv_timer_s* timer) const;
};
using UvTimer = std::unique_ptr<uv_timer_s, UvTimerCloser>;

/// Owns the uv loop. Callbacks of uv only take notes; coroutines are resumed between the turns, so whatever a coroutine
/// destroys, no callback is on the stack. No thread pool is ever started (threads break setns and fork).
///
/// While a Loop exists SIGPIPE has an empty handler if it had its default action: a handler, unlike SIG_IGN, is not
/// inherited by what is executed.
class Loop {
 public:
  /// Aborts when the kernel has no descriptors or memory left: nothing could be done without a loop.
  Loop();
  /// Lets closed handles go and aborts, naming them, if any is still open: that is a leak.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs `task` to its end and gives its value. Not to be called inside a task. Aborts, naming the task, when it waits
  /// for something that cannot happen any more.
  template <class T>
  T run(Task<T> task) {
    drive(task.handle(), task.handle().promise().name);
    return task.handle().promise().take();
  }

  /// Runs `item` on the next turn, after what is posted already; posting twice is posting once.
  void post(ReadyItem& item) { ready_.push_back(item); }

  /// Counts one operation that did not have to wait. True when the running coroutine has done many without letting
  /// others have the loop; see checkpoint().
  bool spend() { return ++spent_ >= kTurnBudget; }

  uv_loop_s* uv() { return uv_.get(); }
  FdTable& fds() { return *fds_; }

  /// Calls `on_expiry(argument)` from a uv callback at the deadline (not never()), once, unless the timer dies first.
  /// `on_expiry` must only take notes.
  UvTimer start_timer(Deadline deadline, void (*on_expiry)(void*), void* argument);

 private:
  static constexpr int kTurnBudget = 16;
  void drive(std::coroutine_handle<> task, std::string_view name);
  void run_ready();

  std::unique_ptr<uv_loop_s> uv_;
  std::unique_ptr<FdTable> fds_;
  Link ready_;
  int spent_ = 0;
  bool running_ = false;
  bool took_sigpipe_ = false;
};

/// Whether a wait ends when its task is cancelled.
enum class Heed { kCancel, kNothing };

/// One wait of one coroutine: an awaitable that ends with the first of ready, timeout and cancelled. Lives in the frame
/// of the coroutine; if the frame dies first, nothing remains of it. Derived classes say what is waited for.
class Waiter : public ReadyItem, public CancelWatcher {
 public:
  Waiter(Loop& loop, Deadline deadline, Heed heed = Heed::kCancel) : loop_(loop), deadline_(deadline), heed_(heed) {}

  bool await_ready() const noexcept { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> self) {
    coroutine_ = self;
    return suspend(self.promise().cancel);
  }
  Wake await_resume() const noexcept { return outcome_; }

  /// Ends the wait: the coroutine goes on with `why` on the next turn. Later calls change nothing.
  void wake(Wake why);

 protected:
  /// Starts to wait; false: no need to, it is ready. Must not call wake().
  virtual bool arm() = 0;
  /// Undoes arm(). Also called when arm() has undone itself; the destructor of a derived class calls it too.
  virtual void disarm() {}

  Loop& loop() { return loop_; }
  Deadline deadline() const { return deadline_; }

 private:
  bool suspend(CancelSource* cancel);
  void run() final { coroutine_.resume(); }
  void on_cancel() final { wake(Wake::kCancelled); }

  Loop& loop_;
  Deadline deadline_;
  Heed heed_;
  bool done_ = false;
  Wake outcome_ = Wake::kReady;
  std::coroutine_handle<> coroutine_;
  UvTimer timer_;
};

/// See checkpoint().
class Checkpoint final : public Waiter {
 public:
  explicit Checkpoint(Loop& loop, bool always) : Waiter(loop, Deadline::never()), always_(always) {}

 private:
  bool arm() override;
  bool always_;
};

/// Before an operation that will often not have to wait: kCancelled if the task is cancelled; otherwise kReady, after
/// letting others run when this coroutine has had the loop for many operations.
inline Checkpoint checkpoint(Loop& loop) {
  return Checkpoint(loop, false);
}

/// Lets everybody else have a turn.
inline Checkpoint yield_now(Loop& loop) {
  return Checkpoint(loop, true);
}

}  // namespace gantry::io
