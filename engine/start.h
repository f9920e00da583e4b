// The two halves of `start`, shared with `run`.
#pragma once

#include "engine/state_store.h"
#include "io/loop.h"
#include "io/task.h"
#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

/// Opens the status fifo, writes init's start byte, removes exec.fifo. The result is the reading end of the status
/// fifo.
Result<sys::Fd> release_init(const StateDir& dir);

/// Waits until init has executed the program (EOF: init's end is CLOEXEC) or has died. What it wrote before is the
/// error: a failed startContainer hook or a failed execve.
io::Task<Result<>> await_program(io::Loop& loop, sys::Fd status);

}  // namespace gantry
