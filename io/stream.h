// Bytes and messages over descriptors of ours. All of these set O_NONBLOCK on the descriptor, heed cancellation
// (ECANCELED) and deadlines (ETIMEDOUT) and let others run now and then when they never have to wait. Buffers must live
// until the task is done: await at once.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io {

/// Reads what there is, at most the size of `into`; 0 is the end of the file.
Task<Result<size_t>> read_some(Loop& loop, int fd, std::span<std::byte> into, Deadline deadline);

/// Writes everything. After an error an unknown part of it is written. EPIPE does not raise a signal (see Loop).
Task<Result<>> write_all(Loop& loop, int fd, std::span<const std::byte> from, Deadline deadline);

/// SCM_MAX_FD of the kernel: unix(7).
inline constexpr size_t kMaxFdsPerMessage = 253;

/// One datagram, or what a stream has, with the descriptors that came with it (CLOEXEC) appended to `fds`. 0 is the end
/// (or an empty datagram). A datagram longer than `data` (EMSGSIZE) and lost descriptors (EMFILE: more than
/// kMaxFdsPerMessage, or the process's limit is reached) are errors; the message is then consumed.
Task<Result<size_t>> recv_msg(Loop& loop, int sock, std::span<std::byte> data, std::vector<sys::Fd>& fds,
                              Deadline deadline);

/// Sends all of `data`, the descriptors with its first byte. A closed peer is EPIPE or ECONNRESET, without a signal.
Task<Result<>> send_msg(Loop& loop, int sock, std::span<const std::byte> data, std::span<const int> fds,
                        Deadline deadline);

}  // namespace gantry::io
