// Copies containers' output into their logs so that a kill -9 at any instant loses nothing and doubles nothing.
//
// Each byte is at each instant in the source pipe, the staging pipe, a slot of the journal or the log file, and who
// comes next can tell which. docs/logs.md describes it; copy_journal.h has the layout and the phases.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "engine/supervisor/copy_calls.h"
#include "engine/supervisor/copy_journal.h"
#include "engine/supervisor/log_file.h"
#include "engine/supervisor/log_record.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

/// How far a stream has come.
struct StreamProgress {
  uint64_t offset = 0;    ///< bytes taken from the stream since open_slot(), lost ones included
  uint64_t lost = 0;      ///< of these dropped because the log took none (OnFull::kDrop), or unreadable
  bool mid_line = false;  ///< the last byte was no newline
};

/// One copier for all streams of a supervisor; one thread; SIGXFSZ must be ignored, or a limit on the size of files
/// ends the process instead of the write. Its three descriptors go to the keeper, which holds them for the supervisor
/// that comes after a crash.
///
///   Copier::make(), or Copier::adopt() and then recover()
///   for each container: open_slot(), then step() for each of its streams whenever there is something to read
class Copier {
 public:
  /// A new journal and staging pipe.
  static Result<Copier> make(CopyCalls& calls = CopyCalls::real());

  /// Takes over from a copier that died. Believes nothing it reads: an error names what is wrong with the journal, and
  /// then a new copier must be made. recover() must follow.
  static Result<Copier> adopt(sys::Fd journal, sys::Fd staging_read, sys::Fd staging_write,
                              CopyCalls& calls = CopyCalls::real());

  struct Descriptors {
    int journal;
    int staging_read;
    int staging_write;
  };
  /// Borrowed.
  Descriptors descriptors() const { return {memory_.descriptor(), staging_read_.get(), staging_write_.get()}; }

  /// Completes what was in flight when the last copier died. `find` gives the log of a container slot; nullptr: nobody
  /// knows it any more, what was in flight for it is forgotten. A log that takes no bytes is left for later steps.
  /// Batches that waited for their log to work again need no call: the next step() of their slot sees them.
  Result<> recover(const std::function<LogFile*(unsigned slot)>& find);

  /// Begins a new container in `slot` (0 to kCopySlots - 1, chosen by the caller): all its counters are zero. Fails
  /// with ENOMEM rather than later.
  Result<> open_slot(unsigned slot);
  /// Forgets the container of `slot`, with what still waits for its log.
  void close_slot(unsigned slot);

  enum class Moved : uint8_t {
    kBytes,    ///< a batch; there may be more
    kNothing,  ///< there is nothing to read now
    kEnd,      ///< end of the stream: no writer is left, and the log says so if a line was unfinished
    kStalled,  ///< the log takes no bytes; the batch is safe, try again later. See stall().
  };

  /// Takes one batch (at most kCopyBatch bytes) from `source` into `log` without ever waiting. `source` is the read end
  /// of a pipe, which nobody else reads, or a pty master with O_NONBLOCK set. First finishes what waits for this log.
  /// An error is the end of this copier: the journal or the staging pipe are broken.
  Result<Moved> step(StreamId id, int source, LogFile& log);

  /// Ends the stream although writers are left (or nobody knows): an unfinished line is marked as at the real end.
  Result<Moved> finish_stream(StreamId id, LogFile& log);

  /// Retries what waits for this log without reading more; kNothing: nothing waits.
  Result<Moved> retry(unsigned slot, LogFile& log);

  /// Streams that write as fast as they are read: while there are several, each gets less at a turn. Who runs step()
  /// for a stream counts it.
  unsigned& floods() { return floods_; }

  StreamProgress progress(StreamId id) const;
  /// A batch of this container waits for its log.
  bool stalled(unsigned slot) const;
  /// Why the last step() said kStalled.
  const Error& stall() const { return stall_; }

 private:
  Copier(CopyMemory memory, sys::Fd read, sys::Fd write, CopyCalls& calls);
  enum class Filled : uint8_t { kBytes, kNothing, kEnd, kFailed };
  Result<Filled> fill(StreamId id, int source, const LogOptions& options);
  Filled fill_directly(StreamId id, int source, LogDriver driver);
  void compose(StreamId id, LogDriver driver, uint64_t count, bool end);
  Result<> drain_staging(CopyBatch& batch, uint64_t left);
  Moved settle(StreamId id, LogFile& log);
  Moved end_stream(StreamId id, LogFile& log);
  Result<> write_out(CopyBatch& batch, LogFile& log);
  Result<> begin_write(CopyBatch& batch, LogFile& log);
  Result<> rotate(CopyBatch& batch, LogFile& log);
  Result<> resume_write(CopyBatch& batch, LogFile& log);
  Result<> append(BatchFormatter& formatter, size_t ready, uint64_t already, int fd, const std::string& path);
  Result<> cut(CopyBatch& batch, LogFile& log);
  void give_up(CopyBatch& batch, LogFile& log);
  void set_aside(StreamId id);
  void apply(const CopyBatch& batch, bool all_written);
  void finish_batch(CopyBatch& batch, bool all_written);
  Result<> recover_shared(CopyBatch& batch, LogFile* log);
  Result<> forget_staging();
  StreamRecord& record(StreamId id) const { return memory_.slot(id.slot).streams[id.stream & 1U]; }
  void set_phase(CopyBatch& batch, CopyPhase phase, StreamId id, unsigned number = 0);
  void read_clock(CopyBatch& batch);
  std::span<char> out() const;
  size_t turn(const LogOptions& options) const;

  CopyMemory memory_;
  sys::Fd staging_read_;
  sys::Fd staging_write_;
  CopyCalls* calls_;
  std::unique_ptr<char[]> out_;  ///< kOutSize bytes, which cost nothing until they are used
  Error stall_;
  unsigned floods_ = 0;
  int64_t zone_minute_ = -1;
  int32_t zone_offset_ = 0;
  bool recovered_ = true;
};

}  // namespace gantry
