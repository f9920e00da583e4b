// From the journal into the log, and what happens when the log takes no bytes.
#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "engine/supervisor/copier.h"
#include "sys/text.h"

namespace gantry {

namespace {

BatchInput input_of(const CopyBatch& batch) {
  BatchInput input;
  input.driver = static_cast<LogDriver>(batch.driver);
  input.stream = batch.id().stream;
  input.time = {batch.seconds, batch.nanoseconds, batch.utc_offset};
  input.mid_line = batch.mid_line != 0;
  input.end = batch.end != 0;
  input.lost = batch.lost_pending;
  input.data = std::string_view(batch.data.data(), batch.count);
  return input;
}

/// The log file that a batch was begun in: the open one, or a descriptor of its own when the name is another file's
/// now.
struct BatchLog {
  int fd = -1;
  sys::Fd own;
};

Result<BatchLog> find_log(const CopyBatch& batch, LogFile& log, CopyCalls& calls) {
  const FileIdentity wanted{batch.log_device, batch.log_inode};
  GANTRY_LET(const int current, log.descriptor());
  struct stat file{};
  if (calls.fstat(current, file) != 0) return fail_path(errno, "log: fstat", log.path());
  if (identity_of(file) == wanted) return BatchLog{current, sys::Fd()};
  GANTRY_LET(sys::Fd own, log.find(wanted));
  const int number = own.get();
  return BatchLog{number, std::move(own)};
}

/// Whether a batch that waits can be one of this slot.
Result<> check_own(const CopyBatch& batch, unsigned slot) {
  GANTRY_TRY(check_batch(batch));
  if (batch.phase() == CopyPhase::kIdle || batch.id().slot == slot) return {};
  return fail(cat("journal of the copier: slot ", slot, " has another's batch"));
}

}  // namespace

Result<Copier::Moved> Copier::retry(unsigned slot, LogFile& log) {
  SlotRecord& record = memory_.slot(slot);
  if (record.waiting.load() == 0) return Moved::kNothing;
  Result<CopyBatch*> mapped = memory_.map_own(slot);
  if (!mapped) {
    stall_ = std::move(mapped).error();
    return Moved::kStalled;
  }
  CopyBatch* const batch = *mapped;
  if (Result<> sound = check_own(*batch, slot); !sound) {
    memory_.unmap_own(batch);
    // Our successor would find it in the same way, and so for ever.
    record.waiting.store(0);
    memory_.free_own(slot);
    return forward(std::move(sound), cat("what waited for log ", log.path(), " is lost"));
  }
  Result<> written = write_out(*batch, log);
  memory_.unmap_own(batch);
  if (!written) {
    stall_ = std::move(written).error();
    return Moved::kStalled;
  }
  record.waiting.store(0);
  calls_->journaled();
  memory_.free_own(slot);
  return Moved::kBytes;
}

Copier::Moved Copier::settle(StreamId id, LogFile& log) {
  CopyBatch& batch = memory_.shared();
  Result<> written = write_out(batch, log);
  if (written) return Moved::kBytes;
  stall_ = std::move(written).error();
  if (log.options().on_full == OnFull::kDrop && batch.phase() != CopyPhase::kCut) {
    give_up(batch, log);
    if (write_out(batch, log)) return Moved::kBytes;
  }
  set_aside(id);
  return Moved::kStalled;
}

/// Each round brings the batch into another phase, until it is done or the log refuses.
Result<> Copier::write_out(CopyBatch& batch, LogFile& log) {
  for (;;) {
    switch (batch.phase()) {
      case CopyPhase::kHeld:
        GANTRY_TRY(begin_write(batch, log));
        break;
      case CopyPhase::kShift:
      case CopyPhase::kCreate:
        GANTRY_TRY(rotate(batch, log));
        break;
      case CopyPhase::kWrite:
        GANTRY_TRY(resume_write(batch, log));
        break;
      case CopyPhase::kCut:
        GANTRY_TRY(cut(batch, log));
        break;
      default:
        return {};
    }
  }
}

Result<> Copier::begin_write(CopyBatch& batch, LogFile& log) {
  BatchFormatter formatter(input_of(batch));
  const size_t ready = formatter.fill(out());
  if (ready == 0) {
    finish_batch(batch, true);
    return {};
  }
  GANTRY_LET(const int fd, log.descriptor());
  struct stat file{};
  if (calls_->fstat(fd, file) != 0) return fail_path(errno, "log: fstat", log.path());
  const auto size = static_cast<uint64_t>(file.st_size);
  const LogOptions& options = log.options();
  batch.log_device = identity_of(file).device;
  batch.log_inode = identity_of(file).inode;
  batch.log_size = size;
  if (options.max_size != 0 && size != 0 && size + ready > options.max_size) {
    if (options.max_files == 1) {
      set_phase(batch, CopyPhase::kCreate, batch.id());
      return {};
    }
    GANTRY_LET(const unsigned number, log.first_shift());
    set_phase(batch, CopyPhase::kShift, batch.id(), number);
    return {};
  }
  set_phase(batch, CopyPhase::kWrite, batch.id());
  GANTRY_TRY(append(formatter, ready, 0, fd, log.path()));
  finish_batch(batch, true);
  return {};
}

Result<> Copier::rotate(CopyBatch& batch, LogFile& log) {
  const StreamId id = batch.id();
  if (batch.phase() == CopyPhase::kShift) {
    for (unsigned number = batch.number(); number > 0; --number) {
      set_phase(batch, CopyPhase::kShift, id, number);
      GANTRY_TRY(log.shift(number, {batch.log_device, batch.log_inode}));
    }
    set_phase(batch, CopyPhase::kCreate, id);
  }
  GANTRY_TRY(log.start_new());
  set_phase(batch, CopyPhase::kHeld, id);
  return {};
}

Result<> Copier::resume_write(CopyBatch& batch, LogFile& log) {
  GANTRY_LET(const BatchLog found, find_log(batch, log, *calls_));
  if (found.fd < 0) {
    // Rotated out of existence: whatever was written is gone with it, so the whole batch goes into the new file.
    set_phase(batch, CopyPhase::kHeld, batch.id());
    return {};
  }
  struct stat file{};
  if (calls_->fstat(found.fd, file) != 0) return fail_path(errno, "log: fstat", log.path());
  const auto size = static_cast<uint64_t>(file.st_size);
  const uint64_t already = size > batch.log_size ? size - batch.log_size : 0;
  BatchFormatter formatter(input_of(batch));
  const size_t ready = formatter.fill(out());
  GANTRY_TRY(append(formatter, ready, already, found.fd, log.path()));
  finish_batch(batch, true);
  return {};
}

/// Appends what the formatter makes but for its first `already` bytes; out_ has the first `ready` of all.
Result<> Copier::append(BatchFormatter& formatter, size_t ready, uint64_t already, int fd, const std::string& path) {
  for (; ready > 0; ready = formatter.fill(out())) {
    size_t done = static_cast<size_t>(std::min(already, uint64_t{ready}));
    already -= done;
    while (done < ready) {
      const ssize_t count = calls_->write(fd, out_.get() + done, ready - done);
      if (count > 0) {
        done += static_cast<size_t>(count);
      } else if (count == 0 || errno != EINTR) {
        return fail_path(count == 0 ? ENOSPC : errno, "log: write", path);
      }
    }
  }
  return {};
}

/// Decides what of a batch stays: the whole records that are in the log.
void Copier::give_up(CopyBatch& batch, LogFile& log) {
  uint64_t already = 0;
  batch.keep_size = batch.log_size;
  if (batch.phase() == CopyPhase::kWrite) {
    Result<BatchLog> found = find_log(batch, log, *calls_);
    struct stat file{};
    if (found && found->fd >= 0 && calls_->fstat(found->fd, file) == 0) {
      const auto size = static_cast<uint64_t>(file.st_size);
      already = size > batch.log_size ? size - batch.log_size : 0;
    }
  }
  BatchFormatter formatter(input_of(batch));
  uint64_t position = 0;
  while (const size_t size = formatter.fill(out(), 1)) {
    position += size;
    if (position > already) break;
    batch.keep_size = batch.log_size + position;
    batch.keep_count = formatter.consumed();
    batch.keep_notice = formatter.notice_made() ? 1 : 0;
  }
  set_phase(batch, CopyPhase::kCut, batch.id());
}

Result<> Copier::cut(CopyBatch& batch, LogFile& log) {
  if (batch.log_inode != 0) {
    GANTRY_LET(const BatchLog found, find_log(batch, log, *calls_));
    struct stat file{};
    if (found.fd >= 0 && calls_->fstat(found.fd, file) != 0) return fail_path(errno, "log: fstat", log.path());
    if (found.fd >= 0 && static_cast<uint64_t>(file.st_size) > batch.keep_size &&
        calls_->ftruncate(found.fd, static_cast<off_t>(batch.keep_size)) != 0) {
      return fail_path(errno, "log: ftruncate", log.path());
    }
  }
  finish_batch(batch, false);
  return {};
}

/// Moves the shared batch to where it can wait without being in anybody's way.
void Copier::set_aside(StreamId id) {
  CopyBatch& batch = memory_.shared();
  const Result<> reserved = memory_.reserve_own(id.slot, batch.count);
  const Result<CopyBatch*> own = reserved ? memory_.map_own(id.slot) : forward(Result<>(reserved));
  if (!own) {
    // No memory to wait in. The others must go on, so the bytes are counted as lost.
    batch.keep_count = 0;
    batch.keep_notice = 0;
    finish_batch(batch, false);
    return;
  }
  std::memcpy(static_cast<void*>(*own), static_cast<const void*>(&batch), offsetof(CopyBatch, data) + batch.count);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  memory_.unmap_own(*own);
  memory_.slot(id.slot).waiting.store(1);
  calls_->journaled();
  set_phase(batch, CopyPhase::kIdle, id);
}

void Copier::finish_batch(CopyBatch& batch, bool all_written) {
  apply(batch, all_written);
  set_phase(batch, CopyPhase::kIdle, batch.id());
}

/// Absolute values all: may be done again.
void Copier::apply(const CopyBatch& batch, bool all_written) {
  StreamRecord& now = record(batch.id());
  now.offset = batch.offset + batch.count;
  if (!all_written) {
    const uint64_t lost = batch.count - batch.keep_count;
    now.lost_pending = (batch.keep_notice != 0 ? 0 : batch.lost_pending) + lost;
    now.lost = batch.lost + lost;
    now.mid_line = 0;
    return;
  }
  now.lost_pending = 0;
  now.lost = batch.lost;
  if (batch.end != 0) {
    now.mid_line = 0;
  } else if (batch.count != 0) {
    now.mid_line = batch.data[batch.count - 1] != '\n' ? 1 : 0;
  }
}

}  // namespace gantry
