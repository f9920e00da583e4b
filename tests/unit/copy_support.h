// What the tests of the copy path share.
#pragma once

#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>

#include "engine/supervisor/copier.h"
#include "engine/supervisor/log_file.h"
#include "sys/fd.h"

namespace gantry::copy_test {

/// A directory of our own, removed with what is in it: in memory, if there is such a place, or on a disk.
class TempDir {
 public:
  enum class Where { kMemory, kDisk };
  explicit TempDir(Where where = Where::kMemory);
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Pipe {
  sys::Fd read, write;
};
Pipe make_pipe();

/// Numbered lines of all lengths, with empty ones, very long ones and any byte, of about `size` bytes; the last line
/// has no newline when `unfinished`.
std::string make_output(unsigned seed, size_t size, bool unfinished);

/// What a log says, oldest file first: the bytes of each stream, with lost bytes taken from `expected` and counted.
struct Decoded {
  std::array<std::string, 2> streams;
  std::array<uint64_t, 2> lost{};
  std::array<unsigned, 2> ends{};
  unsigned foreign = 0;
};
Decoded decode_log(const LogFile& log, const std::array<std::string, 2>& expected);
std::string read_whole(const std::string& path);

/// The first difference, for a message a person can use; empty if there is none.
std::string difference(const std::string& got, const std::string& wanted);

}  // namespace gantry::copy_test
