// What a keeper says, seen on its way to the link.
#pragma once

#include <utility>
#include <vector>

#include "io/loop.h"
#include "sys/fd.h"
#include "sys/init/keeper.h"
#include "sys/result.h"

namespace gantry::puppet {

/// Stands between a KeeperLink and the keeper: passes every datagram on, and remembers the exits that it has seen.
class Tap {
 public:
  /// `keeper`: number kSupervisorSocketFd of a supervisor.
  Tap(io::Loop& loop, sys::Fd keeper);

  /// What the link is to be made of.
  sys::Fd link_end() { return std::move(theirs_); }

  /// Until one of the two ends or it is cancelled; the other one then sees an end, too.
  io::Task<> run();

  const std::vector<init::KeeperFrame>& exits() const { return exits_; }
  /// How many datagrams the keeper was given.
  size_t given() const { return given_; }

 private:
  io::Task<Result<>> pass(int from, int to, size_t& count);

  io::Loop& loop_;
  sys::Fd keeper_, ours_, theirs_;
  std::vector<init::KeeperFrame> exits_;
  size_t given_ = 0, taken_ = 0;
};

}  // namespace gantry::puppet
