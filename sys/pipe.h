// A pipe that closes itself.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

struct Pipe {
  Fd read, write;

  /// Both ends CLOEXEC.
  static Result<Pipe> open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) return fail_errno(errno, "pipe");
    return Pipe{Fd(ends[0]), Fd(ends[1])};
  }
};

}  // namespace gantry::sys
