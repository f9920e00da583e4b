// Waiting for other coroutines: an event, and a semaphore for admission.
#pragma once

#include <utility>

#include "io/loop.h"

namespace gantry::io {

/// A flag that coroutines can wait for. set() wakes all that wait; it stays set until reset(). Must outlive the waits.
class Event {
 public:
  explicit Event(Loop& loop) : loop_(loop) {}

  bool is_set() const { return set_; }
  void reset() { set_ = false; }
  void set() {
    set_ = true;
    while (waits_.linked()) static_cast<Wait::Hook*>(waits_.first())->owner.wake(Wake::kReady);
  }

  class Wait final : public Waiter {
   public:
    struct Hook : Link {
      explicit Hook(Wait& wait) : owner(wait) {}
      Wait& owner;
    };
    Wait(Event& event, Deadline deadline, Heed heed)
        : Waiter(event.loop_, deadline, heed), event_(event), hook_(*this) {}

   private:
    bool arm() override {
      if (event_.set_) return false;
      event_.waits_.push_back(hook_);
      return true;
    }
    void disarm() override { hook_.unlink(); }

    Event& event_;
    Hook hook_;
  };

  /// `Wake wake = co_await event.wait(deadline);`
  Wait wait(Deadline deadline, Heed heed = Heed::kCancel) { return Wait(*this, deadline, heed); }

 private:
  Loop& loop_;
  Link waits_;
  bool set_ = false;
};

/// Admits a bounded number of holders, first come first served. Must outlive its permits and waits.
class Semaphore {
 public:
  Semaphore(Loop& loop, int permits) : loop_(loop), free_(permits) {}

  /// The right to be one of the holders; given back when destroyed.
  class [[nodiscard]] Permit {
   public:
    Permit() = default;
    explicit Permit(Semaphore& from) : from_(&from) {}
    Permit(Permit&& other) noexcept : from_(std::exchange(other.from_, nullptr)) {}
    Permit& operator=(Permit&& other) noexcept {
      if (this != &other) {
        release();
        from_ = std::exchange(other.from_, nullptr);
      }
      return *this;
    }
    ~Permit() { release(); }
    void release() {
      if (from_ != nullptr) std::exchange(from_, nullptr)->give_back();
    }

   private:
    Semaphore* from_ = nullptr;
  };

  /// ETIMEDOUT at the deadline, ECANCELED when the task is cancelled.
  Task<Result<Permit>> acquire(Deadline deadline) {
    Wait wait(*this, deadline);
    const Wake wake = co_await wait;
    if (wake != Wake::kReady) co_return fail_wake(wake, "waiting to be admitted");
    co_return wait.collect();
  }

  int free() const { return free_; }

 private:
  class Wait final : public Waiter {
   public:
    struct Hook : Link {
      explicit Hook(Wait& wait) : owner(wait) {}
      Wait& owner;
    };
    Wait(Semaphore& from, Deadline deadline) : Waiter(from.loop_, deadline), from_(from), hook_(*this) {}

    void grant() {
      permit_ = Permit(from_);
      wake(Wake::kReady);
    }
    Permit collect() { return std::move(permit_); }

   private:
    bool arm() override {
      if (from_.free_ > 0) {
        --from_.free_;
        permit_ = Permit(from_);
        return false;
      }
      from_.waits_.push_back(hook_);
      return true;
    }
    void disarm() override { hook_.unlink(); }

    Semaphore& from_;
    Permit permit_;  // until collected: who is destroyed in between gives it back
    Hook hook_;
  };

  void give_back() {
    if (waits_.linked()) {
      static_cast<Wait::Hook*>(waits_.first())->owner.grant();
    } else {
      ++free_;
    }
  }

  Loop& loop_;
  Link waits_;
  int free_;
};

}  // namespace gantry::io
