#include "engine/supervisor/output_local.h"

#include <unistd.h>

#include <utility>

#include "engine/log.h"
#include "engine/supervisor/host.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kDrainMs = 500;

/// The one copier of all local logs cannot go on. Nothing is lost by that: what is on its way into logs is in the
/// journal, and everything else is on record.
[[noreturn]] void end_for_successor(const Error& why) {
  log_error(cat("the copier of output cannot go on, another supervisor will: ", why.text));
  ::_exit(kExitForSuccessor);
}

}  // namespace

LocalOutput::LocalOutput(io::Loop& loop, Copier& copier, LogOptions log)
    : loop_(loop), copier_(copier), log_(std::move(log)), scope_(loop) {}

io::Task<Result<FoundLogPlace>> LocalOutput::find_place() {
  co_return find_log_place(log_.options());
}

io::Task<Result<>> LocalOutput::remove_log(io::Deadline) {
  co_return log_.remove_all();
}

Result<> LocalOutput::open_log(bool& found) {
  found = log_.has_files();
  if (log_.options().driver == LogDriver::kNone) return {};
  GANTRY_TRY(log_.prepare());
  return log_.check_local();
}

io::Task<Result<>> LocalOutput::prepare(uint32_t slot, bool& found) {
  GANTRY_CO_TRY(open_log(found));
  GANTRY_CO_TRY(copier_.open_slot(slot));
  slot_ = slot;
  co_return Result<>();
}

void LocalOutput::copy(uint32_t slot, const sys::Fd& out, const sys::Fd& err) {
  slot_ = slot;
  sources_[0] = out.get();
  sources_[1] = err.get();
  for (uint8_t stream = 0; stream < 2; ++stream) {
    if (sources_[stream] < 0) continue;
    copies_[stream].emplace(scope_, copier_, stream_id(stream), sources_[stream], log_, end_for_successor);
    // What a former supervisor could not write waits for nothing but another try.
    if (copier_.stalled(slot)) {
      copies_[stream]->copy_now();
    } else {
      copies_[stream]->start();
    }
  }
  // Whoever never writes needs no open log.
  log_.release();
}

io::Task<bool> LocalOutput::drain() {
  bool all = true;
  for (uint8_t stream = 0; stream < 2; ++stream) {
    const int source = sources_[stream];
    if (source < 0) continue;
    const StreamId id = stream_id(stream);
    const io::Deadline deadline = io::Deadline::in_ms(kDrainMs);
    const Result<bool> done = co_await drain_stream(loop_, copier_, id, source, log_, deadline);
    if (!done && !io::is_cancelled(done.error())) end_for_successor(done.error());
    all = all && done && *done;
  }
  co_return all;
}

io::Task<> LocalOutput::stop() {
  for (std::optional<StreamCopy>& copy : copies_)
    if (copy) copy->stop();
  (void)co_await scope_.cancel_and_join();
}

io::Task<bool> LocalOutput::finish_lines() {
  if (!slot_) co_return true;
  for (uint8_t stream = 0; stream < 2; ++stream) {
    const Result<Copier::Moved> moved = copier_.finish_stream(stream_id(stream), log_);
    if (!moved) end_for_successor(moved.error());
    if (*moved == Copier::Moved::kStalled) co_return false;
  }
  co_return true;
}

void LocalOutput::close() {
  log_.release();
  if (slot_) copier_.close_slot(*std::exchange(slot_, std::nullopt));
}

uint32_t LocalOutput::held_kind() const {
  return static_cast<uint32_t>(HeldKind::kContainer);
}

}  // namespace gantry
