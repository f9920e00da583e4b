// Cancellation. It is inherited through the structure of the program: an awaited task has the source of the task that
// awaits it, the children of a Scope have the Scope's, whose parent is that of the task that opened the Scope.
#pragma once

#include "io/link.h"

namespace gantry::io {

/// Whatever wants to know that a source was cancelled.
class CancelWatcher : public Link {
 protected:
  CancelWatcher() = default;
  virtual ~CancelWatcher() = default;

 private:
  friend class CancelSource;
  /// Must only take notes (schedule, pass on): no coroutine runs in here, so that cancel() is safe anywhere.
  virtual void on_cancel() = 0;
};

/// Can be cancelled once and stays so. Every wait below it ends with Wake::kCancelled on the next turn of the loop, and
/// every new one does so at once; work that must be done nevertheless goes through shield() (task.h). Must outlive the
/// tasks that inherit it. Not thread-safe.
class CancelSource final : private CancelWatcher {
 public:
  CancelSource() = default;
  explicit CancelSource(CancelSource* parent) { attach(parent); }

  /// Makes this a child of `parent` (and of nobody else); nullptr: of nobody.
  void attach(CancelSource* parent) {
    unlink();
    if (parent != nullptr) parent->add(*this);
  }

  void cancel() {
    if (cancelled_) return;
    cancelled_ = true;
    while (watchers_.linked()) {
      auto* const watcher = static_cast<CancelWatcher*>(watchers_.first());
      watcher->unlink();
      watcher->on_cancel();
    }
  }

  bool cancelled() const { return cancelled_; }

  /// Tells `watcher` once, now if it has already happened. The watcher may die first.
  void add(CancelWatcher& watcher) {
    if (cancelled_) {
      watcher.on_cancel();
    } else {
      watchers_.push_back(watcher);
    }
  }

 private:
  void on_cancel() override { cancel(); }

  Link watchers_;
  bool cancelled_ = false;
};

}  // namespace gantry::io
