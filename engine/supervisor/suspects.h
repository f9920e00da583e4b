// Which containers a supervisor is working on, told to its successor: what kills three supervisors in ten seconds is
// put in quarantine, and the others go on.
//
// The memory is a shared memfd that the keeper holds, so a kill -9 at any instruction leaves it as it was. Pure apart
// from that mapping; main thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry {

class Suspects {
 public:
  static constexpr size_t kPlaces = 1024;
  static constexpr int kCrashes = 3;
  static constexpr int64_t kWithinNs = 10'000'000'000;

  /// A new, empty one.
  static Result<Suspects> make();
  /// That of a predecessor. What is not one of ours is refused.
  static Result<Suspects> adopt(sys::Fd memfd);

  Suspects(Suspects&& other) noexcept;
  Suspects& operator=(Suspects&&) = delete;
  ~Suspects();

  const sys::Fd& memfd() const { return memfd_; }

  /// For a supervisor that starts after one that has crashed: everything that was being worked on is suspect once more.
  /// Returns the keys that have now been so kCrashes times within kWithinNs. `now_ns`: CLOCK_MONOTONIC.
  std::vector<uint32_t> after_crash(int64_t now_ns);
  /// For one that starts after one that was killed: that was no container's doing.
  void after_kill();

  /// Work on container `key` begins and ends; nested or repeated calls count as one. When all places are taken by
  /// others, nothing is noted.
  void begin(uint32_t key);
  /// `well`: it has come through, and what was before is forgiven.
  void end(uint32_t key, bool well);

 private:
  struct Place;
  struct Table;
  Suspects(sys::Fd memfd, Table* table) : memfd_(std::move(memfd)), table_(table) {}
  Place* find(uint32_t key);
  static Result<Suspects> map(sys::Fd memfd);

  sys::Fd memfd_;
  Table* table_;
};

}  // namespace gantry
