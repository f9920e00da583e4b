// Copying from one end to another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "io/endpoint.h"
#include "io/loop.h"

namespace gantry::io {

/// Why a relay ended.
enum class RelayEnd { kEof, kCancelled, kTimeout, kReadError, kWriteError };

struct RelayReport {
  uint64_t bytes;  ///< written so far, by all runs together
  RelayEnd end;
  std::optional<Error> error;  ///< for the two errors
};

/// Copies until the source ends. Reads only after everything read before is written, so a slow reader stops the writer
/// and nobody else; holds at most kBuffer bytes, and no buffer at all while it waits for the source.
class Relay {
 public:
  static constexpr size_t kBuffer = 64 * 1024;

  Relay(Loop& loop, Endpoint source, Endpoint sink) : loop_(loop), source_(std::move(source)), sink_(std::move(sink)) {}

  /// After kCancelled or kTimeout another run goes on where this one stopped: nothing is lost. Does not end the sink's
  /// output, see Endpoint::end_output(). The relay must outlive the task.
  Task<RelayReport> run(Deadline deadline);

  Endpoint& source() { return source_; }
  Endpoint& sink() { return sink_; }
  uint64_t bytes() const { return written_; }
  /// Read but not yet written.
  size_t held() const { return end_ - begin_; }

 private:
  enum class Step { kGoOn, kWaitSource, kWaitSink, kEnd };
  Step step(RelayReport& report);
  Step fill(RelayReport& report);
  Step drain(RelayReport& report);

  Loop& loop_;
  Endpoint source_;
  Endpoint sink_;
  std::unique_ptr<std::byte[]> buffer_;  ///< [begin_, end_): read, not yet written
  size_t begin_ = 0;
  size_t end_ = 0;
  uint64_t written_ = 0;
};

}  // namespace gantry::io
