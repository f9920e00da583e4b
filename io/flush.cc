#include "io/flush.h"

#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

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
  Batch(Loop& loop, std::vector<sys::Fd> files) : fds(std::move(files)), blocks(fds.size()), news(loop) {}
  std::vector<sys::Fd> fds;
  std::vector<iocb> blocks;
  size_t pending = 0;
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

Result<> Flusher::submit(Batch& batch) {
  std::vector<iocb*> pointers;
  for (size_t i = 0; i < batch.fds.size(); ++i) {
    iocb& block = batch.blocks[i];
    block = {};
    block.aio_data = reinterpret_cast<uint64_t>(&batch);
    block.aio_lio_opcode = IOCB_CMD_FSYNC;
    block.aio_fildes = static_cast<uint32_t>(batch.fds[i].get());
    block.aio_flags = IOCB_FLAG_RESFD;
    block.aio_resfd = static_cast<uint32_t>(done_.get());
    pointers.push_back(&block);
  }
  const long taken = ::syscall(SYS_io_submit, static_cast<aio_context_t>(context_), static_cast<long>(pointers.size()),
                               pointers.data());
  batch.pending = taken > 0 ? static_cast<size_t>(taken) : 0;
  if (batch.pending == batch.fds.size()) return {};
  // A full queue, or a file system without it: the rest is flushed the plain way.
  for (size_t i = batch.pending; i < batch.fds.size(); ++i)
    if (::fsync(batch.fds[i].get()) < 0) return fail_errno(errno, "fsync");
  return {};
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
      if (event.res < 0 && batch->err == 0) batch->err = static_cast<int>(-event.res);
    }
  }
}

Task<Result<>> Flusher::flush(std::vector<sys::Fd> fds) {
  if (context_ == 0) co_return flush_now(fds);
  Batch batch(loop_, std::move(fds));
  Result<> submitted = submit(batch);
  Task<> waiting = finish(batch);
  co_await shield(std::move(waiting));
  if (submitted && batch.err != 0) co_return fail_errno(batch.err, "fsync");
  co_return submitted;
}

/// One of those who wait reads the eventfd, for all of them, and then lets another one.
Task<> Flusher::finish(Batch& batch) {
  const Deadline never = Deadline::never();
  waiting_.push_back(batch);
  while (batch.pending > 0) {
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
