// Heartbeats: of containers, read from FIFOs, and of the loop itself. What counts is the longest silence.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/json_write.h"
#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::seam {

/// Nanoseconds on CLOCK_MONOTONIC: what beat.c stamps its lines with.
int64_t monotonic_now();

/// The longest time between two points in a row.
class Silence {
 public:
  void note(int64_t at);
  int64_t longest() const { return longest_; }
  /// When the longest one began; 0 before the second point.
  int64_t since() const { return since_; }
  uint64_t count() const { return count_; }

 private:
  int64_t last_ = 0, longest_ = 0, since_ = 0;
  uint64_t count_ = 0;
};

/// One source of numbered, stamped lines.
class BeatReader {
 public:
  /// Opens the FIFO so that a writer's open does not block and the reader never sees an end of file.
  static Result<BeatReader> open(std::string name, const std::string& path);

  /// Reads until cancelled.
  io::Task<Result<>> read(io::Loop& loop);
  /// The source is about to be ended by us: silence up to now counts, what comes later does not.
  void close(int64_t now);

  const std::string& name() const { return name_; }
  uint64_t count() const { return stamped_.count(); }
  /// {"name", "count", "lost", "stamp_gap_us", "arrival_gap_us", "arrival_gap_at_us" after `epoch`}
  void describe(json::Writer& out, int64_t epoch) const;

 private:
  BeatReader(std::string name, sys::Fd fifo) : name_(std::move(name)), fifo_(std::move(fifo)) {}
  Result<> take_line(std::string_view line);

  std::string name_;
  sys::Fd fifo_;
  std::string partial_;
  uint64_t next_ = 0, lost_ = 0;
  bool closed_ = false;
  Silence stamped_;  ///< as the container's clock tells
  Silence arrived_;  ///< as the driver saw them
};

/// Wakes every few milliseconds until cancelled.
io::Task<> beat_loop(io::Loop& loop, Silence& silence);

}  // namespace gantry::seam
