// Output into a log on a file system that may not answer: a log copier writes it.
#pragma once

#include <memory>
#include <optional>

#include "engine/supervisor/output_device.h"

namespace gantry {

class RemoteOutput final : public Output {
 public:
  RemoteOutput(std::shared_ptr<OutputDevice> device, LogOptions log);
  ~RemoteOutput() override;

  /// Instead of prepare(), for a run that a former supervisor began: copy() comes later and finds that done. Before the
  /// device's work begins. Descriptors as for copy().
  void resume(uint32_t slot, const sys::Fd& out, const sys::Fd& err);

  io::Task<Result<FoundLogPlace>> find_place() override;
  io::Task<Result<>> remove_log(io::Deadline deadline) override;
  io::Task<Result<>> prepare(uint32_t slot, bool& found) override;
  void copy(uint32_t slot, const sys::Fd& out, const sys::Fd& err) override;
  io::Task<bool> drain() override;
  io::Task<> stop() override;
  io::Task<bool> finish_lines() override;
  void close() override;
  void reopen() override;
  uint32_t held_kind() const override;

 private:
  CopyFrame frame_of(CopyTag tag) const;
  Error named(Error why) const;
  io::Task<bool> ask_for(CopyTag tag, std::shared_ptr<CopyQuestion>& question);

  std::shared_ptr<OutputDevice> device_;
  LogOptions log_;
  std::optional<uint16_t> slot_;
  /// Asked and not answered yet: the next one who wants to know waits for the same answer.
  std::shared_ptr<CopyQuestion> draining_, finishing_;
};

}  // namespace gantry
