// The journal of the copier: what lies where in its memfd.
//
//   page 0            CopyHeader
//   then              the shared CopyBatch: what is in flight, for all streams, because a batch runs to its end
//   then              kCopySlots times SlotRecord: what must survive of each container
//   then              kCopySlots times CopyBatch: where a batch waits when its container's log takes no bytes
//
// The file is sparse (4.1 GiB long, some pages in use) and sealed against a change of its size. Only CopyBatch::word
// and SlotRecord::waiting decide anything, each one aligned atomic store; everything else is written before the store
// that makes it count, and as absolute values, so that doing it again changes nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "engine/supervisor/copy_calls.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

inline constexpr unsigned kCopySlots = 16384;
/// Most that is taken at a turn. To wake up a writer that waits for room costs as much as to copy 20 KiB; this is once
/// for all of it.
inline constexpr size_t kCopyBatch = size_t{256} << 10U;
/// Most at a turn where several streams are that busy, or where a log is small.
inline constexpr size_t kSmallBatch = size_t{64} << 10U;
/// Most that is read at once from a terminal that cannot be spliced.
inline constexpr size_t kDirectBatch = 4096;

/// A stream of a container.
struct StreamId {
  uint16_t slot = 0;
  uint8_t stream = 0;  ///< 0 standard output (or the terminal), 1 standard error
  bool operator==(const StreamId&) const = default;
};

/// Where a batch is. What a successor does in each phase stands beside it.
enum class CopyPhase : uint8_t {
  kIdle = 0,    ///< nothing in flight
  kFill = 1,    ///< the stream's bytes are going into the staging pipe: what is there, is its
  kRead = 2,    ///< `count` bytes are going from the staging pipe into the slot: what the pipe still has, is missing
  kDirect = 3,  ///< a terminal is being read into the slot, zeroed before: up to its last byte that is not zero
  kHeld = 4,    ///< all in the slot, nothing in the log
  kShift = 5,   ///< held, and the log is being rotated: file number - 1 becomes `number`
  kCreate = 6,  ///< held, rotated, and the new log file is being made
  kWrite = 7,   ///< being appended to the log, which had `log_size` bytes before
  kCut = 8,     ///< the log takes no more: cut it to `keep_size`, count the rest as lost
};

struct CopyBatch {
  std::atomic<uint64_t> word;  ///< phase, number, slot and stream: see pack()
  uint64_t count;              ///< bytes in `data`
  int64_t seconds;             ///< time of all records of the batch
  int32_t nanoseconds;
  int32_t utc_offset;  ///< seconds east of Greenwich
  uint8_t driver;      ///< LogDriver
  uint8_t mid_line;    ///< of the stream, before the batch
  uint8_t end;         ///< the stream ends behind the batch
  uint8_t reserved[5];
  uint64_t offset;        ///< of the stream, before the batch
  uint64_t lost_pending;  ///< lost before the batch and not yet recorded in the log
  uint64_t lost;          ///< lost before the batch, in all
  uint64_t log_device;    ///< kWrite, kCut
  uint64_t log_inode;
  uint64_t log_size;
  uint64_t keep_size;   ///< kCut
  uint64_t keep_count;  ///< kCut: bytes of `data` that are in the log; the rest is lost
  uint8_t keep_notice;  ///< kCut: the record about lost_pending is in the log
  alignas(4096) std::array<char, kCopyBatch> data;

  static uint64_t pack(CopyPhase phase, StreamId id, unsigned number) {
    return uint64_t{static_cast<uint8_t>(phase)} | (uint64_t{id.stream} << 8U) | (uint64_t{id.slot} << 16U) |
           (uint64_t{number} << 32U);
  }
  CopyPhase phase() const { return static_cast<CopyPhase>(word.load(std::memory_order_acquire) & 0xffU); }
  StreamId id() const {
    const uint64_t now = word.load(std::memory_order_acquire);
    return {static_cast<uint16_t>(now >> 16U), static_cast<uint8_t>(now >> 8U)};
  }
  unsigned number() const { return static_cast<unsigned>(word.load(std::memory_order_acquire) >> 32U); }
};
static_assert(sizeof(CopyBatch) == 4096 + kCopyBatch && std::atomic<uint64_t>::is_always_lock_free);

struct StreamRecord {
  uint64_t offset;
  uint64_t lost_pending;
  uint64_t lost;
  uint32_t mid_line;
  uint32_t reserved;
};

struct alignas(128) SlotRecord {
  std::atomic<uint32_t> waiting;  ///< 1: the slot's own CopyBatch holds a batch
  uint32_t reserved;
  std::array<StreamRecord, 2> streams;
};
static_assert(sizeof(SlotRecord) == 128);

struct CopyHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t slots;
};

/// Owns the memfd and its mapping. The batches of the slots are mapped only while one is in use.
class CopyMemory {
 public:
  static Result<CopyMemory> make(CopyCalls& calls);
  /// Checks size, seals, header and the shared batch.
  static Result<CopyMemory> adopt(sys::Fd memory, CopyCalls& calls);
  CopyMemory(CopyMemory&& other) noexcept;
  CopyMemory& operator=(CopyMemory&& other) noexcept;
  ~CopyMemory();

  int descriptor() const { return fd_.get(); }
  CopyBatch& shared() const;
  SlotRecord& slot(unsigned slot) const;

  /// Maps a slot's own batch. Call drop_own() when done.
  Result<CopyBatch*> map_own(unsigned slot) const;
  /// Makes sure that there is memory for it, with `count` bytes of data.
  Result<> reserve_own(unsigned slot, uint64_t count) const;
  void unmap_own(CopyBatch* batch) const;
  /// Gives its memory back.
  void free_own(unsigned slot) const;
  Result<> reserve_slot(unsigned slot) const;

 private:
  CopyMemory(sys::Fd fd, char* base, CopyCalls& calls) : fd_(std::move(fd)), base_(base), calls_(&calls) {}
  static Result<CopyMemory> map(sys::Fd fd, CopyCalls& calls);

  sys::Fd fd_;
  char* base_ = nullptr;
  CopyCalls* calls_;
};

/// What is wrong with a batch found in a journal, or nothing. Total on hostile bytes.
Result<> check_batch(const CopyBatch& batch);

}  // namespace gantry
