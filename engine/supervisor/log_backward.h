// The lines of a file from its end to its beginning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sys/result.h"

namespace gantry {

/// Reads blocks from the end on: who wants the last ten lines of a gigabyte reads 64 KiB. What has no newline at the
/// end of the file is no line. Lines longer than any record come in pieces.
class BackwardLines {
 public:
  /// `fd` is borrowed.
  BackwardLines(int fd, uint64_t size) : fd_(fd), base_(size) {}

  struct Line {
    std::string_view text;  ///< without newline; valid until the next call
    uint64_t end;           ///< offset behind the newline
  };
  /// Nothing: this was the beginning of the file.
  Result<std::optional<Line>> previous();

 private:
  Result<> read_more();

  int fd_;
  uint64_t base_;     ///< offset of the first byte of data_
  std::string data_;  ///< ends where the last line returned began
  std::string text_;
  bool at_end_ = true;  ///< what is behind the last newline is still to be cut off
};

}  // namespace gantry
