// Output into a log on a local disk: this process writes it itself.
#pragma once

#include <optional>

#include "engine/supervisor/copy_stream.h"
#include "engine/supervisor/output.h"
#include "io/scope.h"

namespace gantry {

class LocalOutput final : public Output {
 public:
  /// `copier` must outlive it.
  LocalOutput(io::Loop& loop, Copier& copier, LogOptions log);

  io::Task<Result<FoundLogPlace>> find_place() override;
  io::Task<Result<>> remove_log(io::Deadline deadline) override;
  io::Task<Result<>> prepare(uint32_t slot, bool& found) override;
  void copy(uint32_t slot, const sys::Fd& out, const sys::Fd& err) override;
  io::Task<bool> drain() override;
  io::Task<> stop() override;
  io::Task<bool> finish_lines() override;
  void close() override;
  void reopen() override { log_.release(); }
  uint32_t held_kind() const override;

  /// For Copier::recover().
  LogFile& log() { return log_; }

 private:
  Result<> open_log(bool& found);
  StreamId stream_id(uint8_t stream) const { return {static_cast<uint16_t>(*slot_), stream}; }

  io::Loop& loop_;
  Copier& copier_;
  LogFile log_;
  std::optional<uint32_t> slot_;
  int sources_[2] = {-1, -1};
  io::Scope scope_;
  std::optional<StreamCopy> copies_[2];
};

}  // namespace gantry
