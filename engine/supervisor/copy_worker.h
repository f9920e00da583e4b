// A log copier: the process that writes the logs on one device of a file system that may not answer. It may wait for
// that as long as it takes; the supervisor, which forked it (sys/worker.h), only talks to it (copy_wire.h).
#pragma once

namespace gantry {

/// Exit statuses. With the first one its successor goes on where the journal says; with the second one it cannot.
inline constexpr int kCopyAgain = 75;
inline constexpr int kCopyJournalBroken = 76;

/// Descriptors of ours, by number: the conversation, and the copier's journal and staging pipe.
struct CopyWorker {
  int control = -1;
  int journal = -1;
  int staging_read = -1;
  int staging_write = -1;
};

/// Works until the supervisor closes its end: the exit status. First waits until no other process works with the same
/// journal: a copier that was killed while it waited for its device is there until that answers.
int run_copy_worker(const CopyWorker& given);

}  // namespace gantry
