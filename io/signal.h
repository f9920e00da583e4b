// Signals as values.
#pragma once

#include <memory>
#include <span>

#include "io/loop.h"

namespace gantry::io {

/// Catches signals while it lives and hands them out in the order of their first arrival, each number at most once
/// until it is taken, as the kernel does with pending signals. Afterwards they have their default action again. Signals
/// that a parent had ignored (SIG_IGN) are caught too.
class Signals {
 public:
  /// A signal that cannot be caught makes next() fail.
  Signals(Loop& loop, std::span<const int> signos);
  ~Signals();
  Signals(Signals&&) noexcept;
  Signals& operator=(Signals&&) = delete;

  /// The next one: for one task at a time; this object must outlive it. ETIMEDOUT, ECANCELED.
  Task<Result<int>> next(Deadline deadline);

 private:
  struct State;
  static Task<Result<int>> next_of(State& state, Deadline deadline);
  std::unique_ptr<State> state_;
};

}  // namespace gantry::io
