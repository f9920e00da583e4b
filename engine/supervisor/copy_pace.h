// When to let a container's output come together before it is copied. Pure: who calls tells the time.
#pragma once

#include <cstdint>
#include <utility>

namespace gantry {

/// A container that writes line by line makes a batch of each line, and wakes us up for it, which costs both of us more
/// than the copy. So a stream that is busy gets pauses of a millisecond or two, while its pipe cannot become full
/// meanwhile. Busy is a stream that had more within a millisecond: one line now and then is copied at once, and costs
/// no further wake-up.
///
/// Times are nanoseconds of CLOCK_MONOTONIC, offsets StreamProgress::offset. One for each stream that is being copied.
class CopyPace {
 public:
  explicit CopyPace(uint64_t offset) : offset_(offset) {}

  /// A wait for something to read has ended.
  void woken(int64_t now, uint64_t offset) {
    busy_ = now - since_ < kBusyNs;
    second_ = false;
    since_ = now;
    offset_ = offset;
  }

  /// A step has taken little or nothing: whether the stream is busy.
  bool busy(int64_t now, uint64_t offset) {
    passed_ = now - std::exchange(since_, now);
    bytes_ = offset - std::exchange(offset_, offset);
    const bool flows = std::exchange(second_, true) && passed_ < kBusyNs;
    busy_ = (busy_ || flows) && bytes_ > 0;
    return busy_;
  }

  /// Whether to pause now, after busy(): the stream is busy, and so slow that its pipe of `room` bytes has room for
  /// what comes in two milliseconds.
  bool pause(uint64_t room) {
    const uint64_t most_per_ms = room * 3 / 8;
    busy_ = busy_ && bytes_ < most_per_ms * static_cast<uint64_t>(passed_) / 1'000'000 + most_per_ms / 2;
    return busy_;
  }

 private:
  static constexpr int64_t kBusyNs = 1'000'000;

  int64_t since_ = -kBusyNs;
  int64_t passed_ = 0;
  uint64_t offset_;
  uint64_t bytes_ = 0;
  bool second_ = false;  ///< there was a step since we woke up
  bool busy_ = false;
};

}  // namespace gantry
