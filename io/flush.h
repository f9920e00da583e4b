// Making files durable without waiting for the disk on the loop.
#pragma once

#include <cstdint>
#include <vector>

#include "io/event.h"
#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io {

/// fsync(2) by the kernel's own asynchronous I/O (IOCB_CMD_FSYNC, Linux 4.18): no thread of ours is needed. Where that
/// is refused (an outer filter, fs.aio-max-nr) it falls back to waiting; a queue that is full is waited for on the
/// loop. One for a loop; must outlive its tasks.
class Flusher {
 public:
  explicit Flusher(Loop& loop);
  ~Flusher();
  Flusher(const Flusher&) = delete;
  Flusher& operator=(const Flusher&) = delete;

  /// Returns when all of `fds` (files or directories) are on the disk; the first error otherwise. Not cancelled in the
  /// middle: the kernel writes to memory of ours.
  Task<Result<>> flush(std::vector<sys::Fd> fds);

 private:
  struct Batch;
  void submit(Batch& batch);
  Task<> finish(Batch& batch);
  void collect();

  Loop& loop_;
  sys::Fd done_;          ///< eventfd that counts completions
  uint64_t context_;      ///< aio_context_t; 0: there is none
  size_t in_flight_ = 0;  ///< files whose answers have not come
  Link waiting_;
  bool reading_ = false;  ///< somebody waits for the eventfd
};

}  // namespace gantry::io
