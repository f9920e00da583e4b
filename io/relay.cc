#include "io/relay.h"

namespace gantry::io {

Relay::Step Relay::fill(RelayReport& report) {
  if (!buffer_) buffer_ = std::make_unique_for_overwrite<std::byte[]>(kBuffer);
  const Endpoint::Moved got = source_.try_read(std::span(buffer_.get(), kBuffer));
  begin_ = 0;
  end_ = got.count;
  if (got.count > 0) return Step::kGoOn;
  buffer_.reset();
  if (got.err == EAGAIN) return Step::kWaitSource;
  report.end = got.err == 0 ? RelayEnd::kEof : RelayEnd::kReadError;
  if (got.err != 0) report.error = fail_errno(got.err, "read").error();
  return Step::kEnd;
}

Relay::Step Relay::drain(RelayReport& report) {
  const Endpoint::Moved put = sink_.try_write(std::span(buffer_.get() + begin_, held()));
  if (put.err == EAGAIN) return Step::kWaitSink;
  if (put.err != 0) {
    report.end = RelayEnd::kWriteError;
    report.error = fail_errno(put.err, "write").error();
    return Step::kEnd;
  }
  begin_ += put.count;
  written_ += put.count;
  return Step::kGoOn;
}

Relay::Step Relay::step(RelayReport& report) {
  return held() == 0 ? fill(report) : drain(report);
}

Task<RelayReport> Relay::run(Deadline deadline) {
  RelayReport report{0, RelayEnd::kEof, std::nullopt};
  Wake wake = co_await checkpoint(loop_);
  Step next = Step::kGoOn;
  while (wake == Wake::kReady) {
    next = step(report);
    if (next == Step::kEnd) break;
    if (next == Step::kWaitSource) {
      wake = co_await source_.ready(loop_, deadline);
    } else if (next == Step::kWaitSink) {
      wake = co_await sink_.ready(loop_, deadline);
    } else {
      wake = co_await checkpoint(loop_);
    }
  }
  if (wake != Wake::kReady) report.end = wake == Wake::kTimeout ? RelayEnd::kTimeout : RelayEnd::kCancelled;
  report.bytes = written_;
  co_return report;
}

}  // namespace gantry::io
