// Task<T>: a lazy coroutine that one other coroutine (or the loop, or a Scope) runs and owns.
//
// House rule, because g++ 12 miscompiles other forms: the operand of co_await is a plain call whose arguments are
// names, moves or scalars; no capturing lambda coroutines; parameters by value unless the caller awaits at once.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "io/cancel.h"

namespace gantry::io {

/// Learns that a task without an awaiting coroutine is done. Must not destroy the task in the call.
class TaskObserver {
 public:
  virtual void task_done() = 0;

 protected:
  ~TaskObserver() = default;
};

/// What the promises of all tasks share.
struct TaskPromise {
  std::coroutine_handle<> continuation;  ///< who awaits the task
  TaskObserver* observer = nullptr;      ///< who is told when nobody awaits it
  CancelSource* cancel = nullptr;        ///< inherited at co_await unless set before; nullptr: never cancelled
  std::string_view name = "task";        ///< for messages; static storage

  struct Final {
    bool await_ready() const noexcept { return false; }
    template <class P>
    void await_suspend(std::coroutine_handle<P> self) const noexcept {
      // The frame may be gone when either call returns.
      if (self.promise().continuation) {
        self.promise().continuation.resume();
      } else if (self.promise().observer != nullptr) {
        self.promise().observer->task_done();
      }
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  Final final_suspend() const noexcept { return {}; }
  /// Exceptions are bugs: libstdc++ names this one before it aborts.
  void unhandled_exception() const noexcept { std::terminate(); }
};

/// Where a task keeps what it returns.
template <class T>
struct TaskResult {
  std::optional<T> value;
  template <class U = T>
  void return_value(U&& from) {
    value.emplace(std::forward<U>(from));
  }
  T take() { return *std::move(value); }
};
template <>
struct TaskResult<void> {
  void return_void() const noexcept {}
  void take() const noexcept {}
};

/// A coroutine that starts when awaited. Destroying a suspended one is safe: its waits leave the loop, its locals die.
template <class T = void>
class [[nodiscard]] Task {
 public:
  struct promise_type : TaskPromise, TaskResult<T> {
    Task get_return_object() { return Task(Handle::from_promise(*this)); }
  };
  using Handle = std::coroutine_handle<promise_type>;
  using Value = T;

  struct Awaiter {
    Handle task;
    bool await_ready() const noexcept { return false; }
    /// Runs the task at once and suspends only if it did not finish. (Symmetric transfer would overflow the stack in
    /// unoptimised and sanitized builds.)
    template <class P>
    bool await_suspend(std::coroutine_handle<P> parent) const noexcept {
      TaskPromise& promise = task.promise();
      if (promise.cancel == nullptr) promise.cancel = parent.promise().cancel;
      task.resume();
      if (task.done()) return false;
      promise.continuation = parent;
      return true;
    }
    T await_resume() const { return task.promise().take(); }
  };

  Task() = default;
  Task(Task&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      reset();
      task_ = std::exchange(other.task_, nullptr);
    }
    return *this;
  }
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  ~Task() { reset(); }

  /// Awaiting consumes the task: co_await f(x), or co_await std::move(task).
  Awaiter operator co_await() && noexcept { return Awaiter{task_}; }

  /// Gives the task a name for messages; the text must live as long as the program.
  Task named(std::string_view name) && {
    task_.promise().name = name;
    return std::move(*this);
  }

  /// For whoever runs tasks without awaiting them (Loop, Scope).
  Handle handle() const { return task_; }
  explicit operator bool() const { return task_ != nullptr; }

  /// Destroys the frame, suspended wherever it is.
  void reset() {
    if (task_) std::exchange(task_, nullptr).destroy();
  }

 private:
  explicit Task(Handle task) : task_(task) {}
  Handle task_;
};

/// Lets `task` run whatever happens to its surroundings: it has a source of its own that nobody cancels. For undoing
/// and reaping after a cancellation. Its waits should have deadlines.
template <class T>
Task<T> shield(Task<T> task) {
  static CancelSource nobody;
  task.handle().promise().cancel = &nobody;
  return task;
}

/// Lets `task` be cancelled by `source` instead of what it would inherit.
template <class T>
Task<T> with_cancel(Task<T> task, CancelSource& source) {
  task.handle().promise().cancel = &source;
  return task;
}

/// See inherited_cancel().
class InheritedCancel {
 public:
  bool await_ready() const noexcept { return false; }
  template <class P>
  bool await_suspend(std::coroutine_handle<P> self) noexcept {
    cancel_ = self.promise().cancel;
    return false;
  }
  CancelSource* await_resume() const noexcept { return cancel_; }

 private:
  CancelSource* cancel_ = nullptr;
};

/// `CancelSource* cancel = co_await inherited_cancel();` is the source of the running task, nullptr if it has none.
inline InheritedCancel inherited_cancel() {
  return {};
}

}  // namespace gantry::io
