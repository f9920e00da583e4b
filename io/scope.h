// Scope: tasks that run at the same time and end together.
#pragma once

#include <list>
#include <optional>
#include <utility>

#include "io/event.h"
#include "io/loop.h"

namespace gantry::io {

/// Owns child tasks. They start on the next turn of the loop and inherit the scope's cancellation.
///
///   CancelSource* cancel = co_await inherited_cancel();
///   Scope scope(loop, cancel);
///   scope.spawn(one());
///   GANTRY_CO_TRY(co_await scope.join());
///
/// Children that have something to undo want `co_await scope.cancel_and_join()`: the destructor cannot wait; it cancels
/// and destroys the frames of what still runs, last spawned first, wherever they are suspended.
class Scope {
 public:
  explicit Scope(Loop& loop, CancelSource* parent = nullptr) : loop_(loop), cancel_(parent), idle_(loop) {}
  ~Scope() {
    cancel();
    while (!children_.empty()) children_.pop_back();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  /// A child that cannot fail, or keeps its failure to itself.
  void spawn(Task<> task) {
    Child& child = children_.emplace_back(*this, std::move(task));
    child.self = std::prev(children_.end());
    loop_.post(child);
  }

  /// A child whose failure cancels the others and is what join() returns, if it is the first.
  void spawn(Task<Result<>> task) { spawn(report(std::move(task))); }

  /// Waits until no child is left, whether or not it is cancelled meanwhile (then the children are too). The first
  /// failure, if any.
  Task<Result<>> join() {
    CancelSource* const inherited = co_await inherited_cancel();
    if (inherited != nullptr && inherited != &cancel_) cancel_.attach(inherited);
    const Deadline never = Deadline::never();
    while (!children_.empty()) {
      idle_.reset();
      co_await idle_.wait(never, Heed::kNothing);
    }
    if (failure_) co_return std::unexpected(*std::exchange(failure_, std::nullopt));
    co_return Result<>();
  }

  void cancel() { cancel_.cancel(); }

  Task<Result<>> cancel_and_join() {
    cancel();
    return join();
  }

  size_t active() const { return children_.size(); }
  bool cancelled() const { return cancel_.cancelled(); }
  Loop& loop() { return loop_; }

 private:
  struct Child final : ReadyItem, TaskObserver {
    Child(Scope& owner, Task<> work) : scope(owner), task(std::move(work)) {
      TaskPromise& promise = task.handle().promise();
      promise.observer = this;
      if (promise.cancel == nullptr) promise.cancel = &scope.cancel_;
    }
    void run() override {
      if (task.handle().done()) {
        scope.remove(self);
      } else {
        task.handle().resume();
      }
    }
    void task_done() override { scope.loop_.post(*this); }

    Scope& scope;
    Task<> task;
    std::list<Child>::iterator self;
  };

  Task<> report(Task<Result<>> task) {
    Result<> result = co_await std::move(task);
    if (!result) {
      if (!failure_) failure_ = std::move(result).error();
      cancel();
    }
  }

  void remove(std::list<Child>::iterator child) {
    children_.erase(child);
    if (children_.empty()) idle_.set();
  }

  Loop& loop_;
  CancelSource cancel_;
  Event idle_;
  std::optional<Error> failure_;
  std::list<Child> children_;
};

/// How a race ended: both ran to their end, the loser after being cancelled, so a result that came at the same time is
/// not lost.
template <class A, class B>
struct Raced {
  bool a_first;
  A a;
  B b;
};

namespace detail {
template <class T>
Task<> race_leg(Scope& scope, Task<T> task, std::optional<T>& value, std::optional<bool>& a_first, bool is_a) {
  value = co_await std::move(task);
  if (!a_first) a_first = is_a;
  scope.cancel();
}
}  // namespace detail

/// Runs both; the first to end cancels the other. `a` starts first.
template <class A, class B>
Task<Raced<A, B>> race(Loop& loop, Task<A> a, Task<B> b) {
  CancelSource* const inherited = co_await inherited_cancel();
  std::optional<A> value_a;
  std::optional<B> value_b;
  std::optional<bool> a_first;
  Scope scope(loop, inherited);
  scope.spawn(detail::race_leg<A>(scope, std::move(a), value_a, a_first, true));
  scope.spawn(detail::race_leg<B>(scope, std::move(b), value_b, a_first, false));
  const Result<> ended = co_await scope.join();
  static_cast<void>(ended);
  co_return Raced<A, B>{*a_first, *std::move(value_a), *std::move(value_b)};
}

}  // namespace gantry::io
