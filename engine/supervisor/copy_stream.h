// The copier on the loop: one coroutine for each stream.
#pragma once

#include "engine/supervisor/copier.h"
#include "io/loop.h"
#include "io/readable.h"
#include "io/scope.h"

namespace gantry {

/// Copies `source` into `log` until the end of the stream, a batch at a turn, so that a container that floods its log
/// gives way to all others after each. A log that takes no bytes is tried again after 100 ms, then less and less often,
/// up to every 5 s. A log without news for a second is closed until there are some.
///
/// Sets O_NONBLOCK on `source`'s open file description, which must be ours alone (the read end of a pipe, a pty
/// master). All references must outlive the task. Returns early, without an error, when it is cancelled: the bytes stay
/// where they are. An error is that of Copier::step().
io::Task<Result<>> copy_stream(io::Loop& loop, Copier& copier, StreamId id, int source, LogFile& log);

/// copy_stream() for a container that may be silent for long: costs a coroutine only while there is something to do.
/// The scope's tasks must have ended before it dies.
class StreamCopy final : public io::FdWatch {
 public:
  /// Is told an error of Copier::step(), after which nothing is copied any more.
  using Failed = void (*)(const Error& why);
  /// The references must outlive it.
  StreamCopy(io::Scope& scope, Copier& copier, StreamId id, int source, LogFile& log, Failed failed);

  /// Looks for something to do at once, as when there is some after start().
  void copy_now();

 private:
  void on_ready() override { copy_now(); }
  io::Task<> copy();

  io::Scope& scope_;
  Copier& copier_;
  LogFile& log_;
  Failed failed_;
  StreamId id_;
  int source_;
};

/// To be called when the process has ended and before its end is told: copies what it has written until now, whoever
/// still holds the other end (grandchildren keep the stream open and block nobody). Runs beside copy_stream() of the
/// same stream. True when all is in the log; false at the deadline, if the log takes no bytes: they stay in the pipe
/// and come later.
io::Task<Result<bool>> drain_stream(io::Loop& loop, Copier& copier, StreamId id, int source, LogFile& log,
                                    io::Deadline deadline);

}  // namespace gantry
