#include "io/flush.h"

#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "io/readable.h"

namespace gantry::io {
namespace {

constexpr unsigned kAtOnce = 64;

Result<> flush_now(const std::vector<sys::Fd>& fds) {
  for (const sys::Fd& fd : fds)
    if (::fsync(fd.get()) < 0) return fail_errno(errno, "fsync");
  return {};
}

}  // namespace

/// One call of flush(): lives in its frame until the kernel has answered for all of it.
struct Flusher::Batch : Link {
  Batch(Loop& loop, std::vector<sys::Fd> files, int answers)
      : fds(std::move(files)), blocks(fds.size()), pointers(fds.size()), news(loop) {
    for (size_t i = 0; i < fds.size(); ++i) {
      iocb& block = blocks[i];
      block.aio_data = reinterpret_cast<uint64_t>(this);
      block.aio_lio_opcode = IOCB_CMD_FSYNC;
      block.aio_fildes = static_cast<uint32_t>(fds[i].get());
      block.aio_flags = IOCB_FLAG_RESFD;
      block.aio_resfd = static_cast<uint32_t>(answers);
      pointers[i] = &block;
    }
  }
  std::vector<sys::Fd> fds;
  std::vector<iocb> blocks;
  std::vector<iocb*> pointers;
  size_t taken = 0;    ///< of the files: handed over, or flushed the plain way
  size_t pending = 0;  ///< of those: not answered for
  int err = 0;
  Event news;  ///< somebody has collected answers
};

Flusher::Flusher(Loop& loop) : loop_(loop), done_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), context_(0) {
  aio_context_t context = 0;
  if (done_ && ::syscall(SYS_io_setup, kAtOnce, &context) == 0) context_ = context;
}

Flusher::~Flusher() {
  if (context_ != 0) ::syscall(SYS_io_destroy, static_cast<aio_context_t>(context_));
}

/// Hands over as much as the kernel takes. What a full queue refuses is tried again when answers have come.
void Flusher::submit(Batch& batch) {
  while (batch.taken < batch.fds.size()) {
    const size_t left = batch.fds.size() - batch.taken;
    const long count = ::syscall(SYS_io_submit, static_cast<aio_context_t>(context_), static_cast<long>(left),
                                 batch.pointers.data() + batch.taken);
    if (count > 0) {
      batch.taken += static_cast<size_t>(count);
      batch.pending += static_cast<size_t>(count);
      in_flight_ += static_cast<size_t>(count);
      continue;
    }
    const int err = count < 0 ? errno : EAGAIN;
    if (err == EAGAIN && in_flight_ > 0) return;
    const int fd = batch.fds[batch.taken++].get();
    // A file system or a kernel without it, or no memory, for which no answer of ours would make room.
    const bool plainly = err == EINVAL || err == ENOSYS || err == EAGAIN;
    const int failed = !plainly ? err : ::fsync(fd) < 0 ? errno : 0;
    if (batch.err == 0) batch.err = failed;
  }
}

/// Takes all answers that there are.
void Flusher::collect() {
  uint64_t ignored = 0;
  (void)::read(done_.get(), &ignored, sizeof ignored);
  std::array<io_event, 16> events;
  timespec now{};
  for (;;) {
    const long count = ::syscall(SYS_io_getevents, static_cast<aio_context_t>(context_), 0L,
                                 static_cast<long>(events.size()), events.data(), &now);
    if (count <= 0) return;
    for (long i = 0; i < count; ++i) {
      const io_event& event = events[static_cast<size_t>(i)];
      auto* const batch = reinterpret_cast<Batch*>(event.data);
      --batch->pending;
      --in_flight_;
      if (event.res < 0 && batch->err == 0) batch->err = static_cast<int>(-event.res);
    }
  }
}

Task<Result<>> Flusher::flush(std::vector<sys::Fd> fds) {
  if (context_ == 0) co_return flush_now(fds);
  Batch batch(loop_, std::move(fds), done_.get());
  submit(batch);
  Task<> waiting = finish(batch);
  co_await shield(std::move(waiting));
  if (batch.err != 0) co_return fail_errno(batch.err, "fsync");
  co_return Result<>();
}

/// One of those who wait reads the eventfd, for all of them, and then lets another one.
Task<> Flusher::finish(Batch& batch) {
  const Deadline never = Deadline::never();
  waiting_.push_back(batch);
  for (;; submit(batch)) {
    if (batch.pending == 0 && batch.taken == batch.fds.size()) co_return;
    batch.news.reset();
    if (reading_) {
      (void)co_await batch.news.wait(never);
      continue;
    }
    reading_ = true;
    (void)co_await wait_fd(loop_, done_.get(), POLLIN, never);
    collect();
    reading_ = false;
    for (Link* other = waiting_.first(); other != &waiting_; other = other->next())
      static_cast<Batch*>(other)->news.set();
  }
}

}  // namespace gantry::io
