// Waiting for descriptors.
#pragma once

#include <poll.h>

#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io {

/// Waits until `fd` has one of `events` (POLLIN, POLLOUT, POLLPRI, POLLRDHUP), or hangs up or fails: the next call on
/// it tells which. Files without poll (regular files, /dev/null) and bad descriptors are always ready. An expired
/// deadline still looks once. Several tasks may wait for one fd. The fd must stay open until the task is done or
/// destroyed.
///
/// Sets O_NONBLOCK on the open file description: pass only descriptors of ours. A descriptor that came from a
/// caller goes through an Endpoint (endpoint.h).
Task<Wake> wait_fd(Loop& loop, int fd, short events, Deadline deadline);

/// Somebody who wants to hear, once, of events of one descriptor. Leaves the table before it dies.
class FdListener {
 public:
  /// `events`: POLLIN, POLLOUT, POLLPRI, POLLRDHUP; an error or the end of the other side is always told.
  FdListener(int fd, short events) : fd_(fd), events_(events) {}
  FdListener(const FdListener&) = delete;
  FdListener& operator=(const FdListener&) = delete;

  int fd() const { return fd_; }
  short events() const { return events_; }

 protected:
  virtual ~FdListener() = default;

 private:
  friend class FdTable;
  /// It is out of the table already. Must only take notes.
  virtual void fd_ready() = 0;

  int fd_;
  short events_;
  FdListener* next_ = nullptr;
};

/// Calls on_ready() when a descriptor has events, as wait_fd() would end: for those who wait long and are many, and for
/// whom a coroutine costs too much memory. Silent until start(), and again after each call.
class FdWatch : ReadyItem, FdListener {
 public:
  FdWatch(Loop& loop, int fd, short events) : FdListener(fd, events), loop_(loop) {}
  ~FdWatch() override { stop(); }

  void start();
  void stop();

 private:
  /// On a turn of the loop, with a clean stack. May destroy the watch.
  virtual void on_ready() = 0;
  void run() final { on_ready(); }
  void fd_ready() final;
  static void look(void* self);

  Loop& loop_;
  bool listening_ = false;
  UvTimer retry_;
};

}  // namespace gantry::io
