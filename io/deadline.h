// Points in time, and how a wait ended.
#pragma once

#include <time.h>

#include <cerrno>
#include <chrono>
#include <compare>
#include <cstdint>
#include <limits>
#include <string_view>

#include "sys/result.h"
#include "sys/text.h"

namespace gantry::io {

/// A point on CLOCK_MONOTONIC, or never. A plain value: hand one deadline down to all steps of an operation.
class Deadline {
 public:
  static constexpr Deadline never() { return Deadline(kNever); }
  /// `span` from now; a span of zero or less has passed already. Spans of centuries become never().
  static Deadline in(std::chrono::nanoseconds span) {
    const int64_t start = now();
    return span.count() < kNever - start ? Deadline(start + span.count()) : never();
  }
  static Deadline in_ms(int64_t milliseconds) {
    return milliseconds < kNever / 1'000'000 ? in(std::chrono::milliseconds(milliseconds)) : never();
  }

  bool is_never() const { return at_ == kNever; }
  bool expired() const { return at_ != kNever && at_ <= now(); }
  /// The earlier one.
  Deadline or_sooner(Deadline other) const { return at_ < other.at_ ? *this : other; }
  /// Nanoseconds on CLOCK_MONOTONIC; the largest value for never.
  int64_t nanoseconds() const { return at_; }

  auto operator<=>(const Deadline&) const = default;

 private:
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  explicit constexpr Deadline(int64_t at) : at_(at) {}
  static int64_t now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  }
  int64_t at_;
};

/// How a wait ended.
enum class Wake { kReady, kTimeout, kCancelled };

/// The error of an operation whose wait ended so (not kReady): "what: timed out" with ETIMEDOUT, "what: cancelled" with
/// ECANCELED.
inline std::unexpected<Error> fail_wake(Wake wake, std::string_view what) {
  return wake == Wake::kTimeout ? std::unexpected(Error{cat(what, ": timed out"), ETIMEDOUT})
                                : std::unexpected(Error{cat(what, ": cancelled"), ECANCELED});
}
inline bool is_timeout(const Error& error) {
  return error.sys_errno == ETIMEDOUT;
}
inline bool is_cancelled(const Error& error) {
  return error.sys_errno == ECANCELED;
}

}  // namespace gantry::io
