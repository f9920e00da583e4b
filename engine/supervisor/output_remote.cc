#include "engine/supervisor/output_remote.h"

#include <utility>

#include "engine/supervisor/host.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kAnswerMs = 5'000;
/// A copier tries for half a second.
constexpr int64_t kDrainMs = 600;

}  // namespace

RemoteOutput::RemoteOutput(std::shared_ptr<OutputDevice> device, LogOptions log)
    : device_(std::move(device)), log_(std::move(log)) {
  device_->enter();
}

RemoteOutput::~RemoteOutput() {
  if (draining_) device_->forget(draining_);
  if (finishing_) device_->forget(finishing_);
  if (slot_) device_->runs().erase(*slot_);
  device_->leave();
}

CopyFrame RemoteOutput::frame_of(CopyTag tag) const {
  CopyFrame frame;
  frame.tag = tag;
  frame.slot = slot_.value_or(0);
  return frame;
}

/// Errors of the copier name the log already.
Error RemoteOutput::named(Error why) const {
  if (!io::is_timeout(why)) return why;
  return std::move(why).within(cat("log ", log_.path));
}

io::Task<Result<FoundLogPlace>> RemoteOutput::find_place() {
  CopyFrame frame = frame_of(CopyTag::kPlace);
  frame.text = log_options_text(log_);
  const io::Deadline limit = io::Deadline::in_ms(kAnswerMs);
  const Result<CopyFrame> answer = co_await device_->ask(std::move(frame), limit);
  if (!answer) co_return std::unexpected(named(answer.error()));
  co_return decode_place(answer->text);
}

io::Task<Result<>> RemoteOutput::remove_log(io::Deadline deadline) {
  CopyFrame frame = frame_of(CopyTag::kRemove);
  frame.text = log_options_text(log_);
  const Result<CopyFrame> answer = co_await device_->ask(std::move(frame), deadline);
  if (!answer) co_return std::unexpected(named(answer.error()));
  co_return Result<>();
}

io::Task<Result<>> RemoteOutput::prepare(uint32_t slot, bool& found) {
  found = true;
  CopyFrame frame = frame_of(CopyTag::kPrepare);
  frame.slot = static_cast<uint16_t>(slot);
  frame.text = log_options_text(log_);
  CopyFrame undo = frame_of(CopyTag::kUndo);
  undo.slot = frame.slot;
  const io::Deadline limit = io::Deadline::in_ms(kAnswerMs);
  const Result<CopyFrame> answer = co_await device_->ask(std::move(frame), limit);
  if (!answer) {
    // It may still come to it, and then takes back what it has made.
    device_->tell(std::move(undo));
    co_return std::unexpected(named(answer.error()));
  }
  found = answer->flag;
  slot_ = undo.slot;
  device_->runs()[*slot_].log = log_options_text(log_);
  co_return Result<>();
}

void RemoteOutput::resume(uint32_t slot, const sys::Fd& out, const sys::Fd& err) {
  slot_ = static_cast<uint16_t>(slot);
  device_->runs()[*slot_] = {log_options_text(log_), out.get(), err.get()};
}

void RemoteOutput::copy(uint32_t slot, const sys::Fd& out, const sys::Fd& err) {
  OutputDevice::Run& run = device_->runs()[static_cast<uint16_t>(slot)];
  const bool resumed = run.out >= 0 || run.err >= 0;
  run.out = out.get();
  run.err = err.get();
  if (!resumed) device_->tell(frame_of(CopyTag::kStart));
}

/// False when there is no answer soon, or that is no.
io::Task<bool> RemoteOutput::ask_for(CopyTag tag, std::shared_ptr<CopyQuestion>& question) {
  if (!slot_) co_return true;
  if (!question) question = device_->put(frame_of(tag));
  const io::Deadline limit = io::Deadline::in_ms(kDrainMs);
  const io::Wake wake = co_await question->answered.wait(limit);
  if (wake != io::Wake::kReady) co_return false;
  const bool done = question->answer.flag;
  question.reset();
  co_return done;
}

io::Task<bool> RemoteOutput::drain() {
  const bool all = co_await ask_for(CopyTag::kDrain, draining_);
  co_return all;
}

/// A frame does it: kFinish or kClose.
io::Task<> RemoteOutput::stop() {
  co_return;
}

io::Task<bool> RemoteOutput::finish_lines() {
  const bool finished = co_await ask_for(CopyTag::kFinish, finishing_);
  co_return finished;
}

void RemoteOutput::close() {
  if (!slot_) return;
  device_->tell(frame_of(CopyTag::kClose));
  device_->runs().erase(*std::exchange(slot_, std::nullopt));
}

void RemoteOutput::reopen() {
  if (slot_) device_->tell(frame_of(CopyTag::kReopen));
}

uint32_t RemoteOutput::held_kind() const {
  return container_kind(device_->name().slot);
}

}  // namespace gantry
