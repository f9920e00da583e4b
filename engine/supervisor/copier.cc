// From the source pipe into the journal; copier_write.cc goes on from there into the log.
#include "engine/supervisor/copier.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "sys/pipe.h"
#include "sys/text.h"

namespace gantry {

namespace {

/// Room for a usual batch with its headers; what is larger goes in several writes.
constexpr size_t kOutSize = size_t{640} << 10U;
static_assert(kOutSize > 2 * kMaxRecord);

/// Below this size of a log, large batches would make its files too different.
constexpr uint64_t kSmallLog = uint64_t{16} * kCopyBatch;

/// Slots of a pipe hold pages that may be nearly empty: more of them than a batch has pages let it go in one piece.
constexpr int kStagingSize = 1 << 20;

}  // namespace

Copier::Copier(CopyMemory memory, sys::Fd read, sys::Fd write, CopyCalls& calls)
    : memory_(std::move(memory)),
      staging_read_(std::move(read)),
      staging_write_(std::move(write)),
      calls_(&calls),
      out_(std::make_unique_for_overwrite<char[]>(kOutSize)) {
  ::tzset();
}

Result<Copier> Copier::make(CopyCalls& calls) {
  GANTRY_LET(CopyMemory memory, CopyMemory::make(calls));
  auto staging = sys::Pipe::open();
  if (!staging) return forward(std::move(staging), "copier");
  // Without it batches are smaller, no more.
  static_cast<void>(::fcntl(staging->write.get(), F_SETPIPE_SZ, kStagingSize));
  return Copier(std::move(memory), std::move(staging->read), std::move(staging->write), calls);
}

Result<Copier> Copier::adopt(sys::Fd journal, sys::Fd staging_read, sys::Fd staging_write, CopyCalls& calls) {
  GANTRY_LET(CopyMemory memory, CopyMemory::adopt(std::move(journal), calls));
  struct stat read{};
  struct stat write{};
  if (::fstat(staging_read.get(), &read) != 0 || ::fstat(staging_write.get(), &write) != 0)
    return fail_errno(errno, "copier: staging pipe: fstat");
  if (!S_ISFIFO(read.st_mode) || !(identity_of(read) == identity_of(write)))
    return fail("copier: staging pipe: not the two ends of a pipe");
  Copier copier(std::move(memory), std::move(staging_read), std::move(staging_write), calls);
  copier.recovered_ = false;
  return copier;
}

std::span<char> Copier::out() const {
  return {out_.get(), kOutSize};
}

/// How much a stream may take at a turn.
size_t Copier::turn(const LogOptions& options) const {
  const bool small = options.max_size != 0 && options.max_size < kSmallLog;
  return small || floods_ > 1 ? kSmallBatch : kCopyBatch;
}

void Copier::set_phase(CopyBatch& batch, CopyPhase phase, StreamId id, unsigned number) {
  batch.word.store(phase == CopyPhase::kIdle ? 0 : CopyBatch::pack(phase, id, number));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  calls_->journaled();
}

Result<> Copier::open_slot(unsigned slot) {
  if (slot >= kCopySlots) return fail(cat("copier: slot ", slot, ": there are ", kCopySlots));
  GANTRY_TRY(memory_.reserve_slot(slot));
  close_slot(slot);
  return {};
}

void Copier::close_slot(unsigned slot) {
  SlotRecord& record = memory_.slot(slot);
  if (record.waiting.exchange(0) != 0) memory_.free_own(slot);
  record.streams = {};
}

StreamProgress Copier::progress(StreamId id) const {
  const StreamRecord& from = record(id);
  return {from.offset, from.lost, from.mid_line != 0};
}

bool Copier::stalled(unsigned slot) const {
  return memory_.slot(slot).waiting.load() != 0;
}

Result<Copier::Moved> Copier::step(StreamId id, int source, LogFile& log) {
  if (!recovered_) return fail("copier: recover() comes before step()");
  GANTRY_LET(const Moved before, retry(id.slot, log));
  if (before == Moved::kStalled) return before;
  GANTRY_LET(const Filled filled, fill(id, source, log.options()));
  switch (filled) {
    case Filled::kBytes:
      return settle(id, log);
    case Filled::kNothing:
      return Moved::kNothing;
    case Filled::kEnd:
      return end_stream(id, log);
    case Filled::kFailed:
      break;
  }
  return Moved::kStalled;
}

Result<Copier::Moved> Copier::finish_stream(StreamId id, LogFile& log) {
  if (!recovered_) return fail("copier: recover() comes before finish_stream()");
  GANTRY_LET(const Moved before, retry(id.slot, log));
  if (before == Moved::kStalled) return before;
  return end_stream(id, log);
}

Copier::Moved Copier::end_stream(StreamId id, LogFile& log) {
  const StreamRecord& now = record(id);
  if (now.mid_line == 0 && now.lost_pending == 0) return Moved::kEnd;
  CopyBatch& batch = memory_.shared();
  compose(id, log.options().driver, 0, true);
  set_phase(batch, CopyPhase::kHeld, id);
  return settle(id, log) == Moved::kStalled ? Moved::kStalled : Moved::kEnd;
}

Result<Copier::Filled> Copier::fill(StreamId id, int source, const LogOptions& options) {
  CopyBatch& batch = memory_.shared();
  set_phase(batch, CopyPhase::kFill, id);
  const size_t most = turn(options);
  ssize_t count = 0;
  do {
    count = calls_->splice(source, staging_write_.get(), most);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    compose(id, options.driver, static_cast<uint64_t>(count), false);
    set_phase(batch, CopyPhase::kRead, id);
    GANTRY_TRY(drain_staging(batch, batch.count));
    set_phase(batch, CopyPhase::kHeld, id);
    return Filled::kBytes;
  }
  const int err = count < 0 ? errno : 0;
  if (err == EINVAL) return fill_directly(id, source, options.driver);
  set_phase(batch, CopyPhase::kIdle, id);
  // EIO: a terminal whose other side is gone (tty_ioctl(4) does not say so, the kernel's n_tty.c does).
  if (err == 0 || err == EIO) return Filled::kEnd;
  if (err == EAGAIN) return Filled::kNothing;
  stall_ = fail_errno(err, "read output: splice").error();
  return Filled::kFailed;
}

/// For terminals of kernels that cannot splice them. The slot is zeroed first, so that who comes after a crash within
/// read(2) sees how much was read. This is the one window of the copier: NUL bytes at the end of such a read are lost
/// with it, and a terminal ignores those.
Copier::Filled Copier::fill_directly(StreamId id, int source, LogDriver driver) {
  CopyBatch& batch = memory_.shared();
  std::memset(batch.data.data(), 0, kDirectBatch);
  set_phase(batch, CopyPhase::kDirect, id);
  ssize_t count = 0;
  do {
    count = calls_->read(source, batch.data.data(), kDirectBatch);
  } while (count < 0 && errno == EINTR);
  if (count > 0) {
    compose(id, driver, static_cast<uint64_t>(count), false);
    set_phase(batch, CopyPhase::kHeld, id);
    return Filled::kBytes;
  }
  const int err = count < 0 ? errno : 0;
  set_phase(batch, CopyPhase::kIdle, id);
  if (err == 0 || err == EIO) return Filled::kEnd;
  if (err == EAGAIN) return Filled::kNothing;
  stall_ = fail_errno(err, "read output").error();
  return Filled::kFailed;
}

void Copier::compose(StreamId id, LogDriver driver, uint64_t count, bool end) {
  CopyBatch& batch = memory_.shared();
  const StreamRecord& now = record(id);
  batch.count = count;
  batch.driver = static_cast<uint8_t>(driver);
  batch.mid_line = now.mid_line != 0 ? 1 : 0;
  batch.end = end ? 1 : 0;
  batch.offset = now.offset;
  batch.lost_pending = now.lost_pending;
  batch.lost = now.lost;
  batch.log_device = batch.log_inode = batch.log_size = 0;
  batch.keep_size = batch.keep_count = 0;
  batch.keep_notice = 0;
  read_clock(batch);
}

void Copier::read_clock(CopyBatch& batch) {
  calls_->now(batch.seconds, batch.nanoseconds);
  const int64_t minute = batch.seconds / 60;
  if (minute != zone_minute_) {
    const auto seconds = static_cast<time_t>(batch.seconds);
    tm local{};
    if (::localtime_r(&seconds, &local) != nullptr) zone_offset_ = static_cast<int32_t>(local.tm_gmtoff);
    zone_minute_ = minute;
  }
  batch.utc_offset = zone_offset_;
}

/// Reads the last `left` bytes of the batch. Several calls if the container made its end a packet pipe (O_DIRECT).
Result<> Copier::drain_staging(CopyBatch& batch, uint64_t left) {
  while (left > 0) {
    const ssize_t count = calls_->read(staging_read_.get(), batch.data.data() + (batch.count - left), left);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "copier: staging pipe");
    if (count == 0) return fail(cat("copier: staging pipe: ends ", left, " bytes before a batch does"));
    left -= static_cast<uint64_t>(count);
  }
  return {};
}

Result<> Copier::forget_staging() {
  CopyBatch& batch = memory_.shared();
  int left = 0;
  if (calls_->bytes_in_pipe(staging_read_.get(), left) != 0) return fail_errno(errno, "copier: staging pipe");
  while (left > 0) {
    batch.count = std::min(static_cast<uint64_t>(left), uint64_t{kCopyBatch});
    GANTRY_TRY(drain_staging(batch, batch.count));
    left -= static_cast<int>(batch.count);
  }
  return {};
}

Result<> Copier::recover(const std::function<LogFile*(unsigned slot)>& find) {
  CopyBatch& batch = memory_.shared();
  int staged = 0;
  if (calls_->bytes_in_pipe(staging_read_.get(), staged) != 0) return fail_errno(errno, "copier: staging pipe");
  const CopyPhase phase = batch.phase();
  if (staged != 0 && phase != CopyPhase::kFill && phase != CopyPhase::kRead)
    return fail(cat("copier: staging pipe: has ", staged, " bytes that are nobody's"));
  if (phase != CopyPhase::kIdle) GANTRY_TRY(recover_shared(batch, find(batch.id().slot)));
  recovered_ = true;
  return {};
}

Result<> Copier::recover_shared(CopyBatch& batch, LogFile* log) {
  const StreamId id = batch.id();
  // Whoever set the batch aside died before he cleared it here.
  if (log == nullptr || stalled(id.slot)) {
    GANTRY_TRY(forget_staging());
    set_phase(batch, CopyPhase::kIdle, id);
    return {};
  }
  int staged = 0;
  if (calls_->bytes_in_pipe(staging_read_.get(), staged) != 0) return fail_errno(errno, "copier: staging pipe");
  const auto left = static_cast<uint64_t>(staged);
  const LogDriver driver = log->options().driver;
  if (batch.phase() == CopyPhase::kFill && left > 0) {
    if (left > kCopyBatch) return fail(cat("copier: staging pipe: has ", staged, " bytes"));
    compose(id, driver, left, false);
    set_phase(batch, CopyPhase::kRead, id);
  }
  if (batch.phase() == CopyPhase::kRead) {
    if (left > batch.count)
      return fail(cat("copier: staging pipe: has ", staged, " bytes of a batch of ", batch.count));
    GANTRY_TRY(drain_staging(batch, left));
    set_phase(batch, CopyPhase::kHeld, id);
  }
  if (batch.phase() == CopyPhase::kDirect) {
    uint64_t count = kDirectBatch;
    while (count > 0 && batch.data[count - 1] == '\0') --count;
    if (count > 0) {
      compose(id, driver, count, false);
      set_phase(batch, CopyPhase::kHeld, id);
    }
  }
  if (batch.phase() == CopyPhase::kFill || batch.phase() == CopyPhase::kDirect) {
    set_phase(batch, CopyPhase::kIdle, id);
    return {};
  }
  static_cast<void>(settle(id, *log));
  return {};
}

}  // namespace gantry
