// What the supervisor and a log copier say to each other: frames on a SOCK_SEQPACKET pair. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/supervisor/log_place.h"
#include "sys/result.h"

namespace gantry {

enum class CopyTag : uint8_t {
  kInvalid = 0,
  // supervisor -> copier. Those that are answered have a serial; `text` is the log's options unless said otherwise.
  kResume = 1,   ///< slot, text, flag: its counters begin at zero; fds. Only before kGo
  kGo = 2,       ///< completes what was in flight and copies what was resumed; answered
  kPlace = 3,    ///< where is the log? Answered with encode_place()
  kRemove = 4,   ///< removes its files; answered
  kPrepare = 5,  ///< slot, text: opens the log, counters at zero; answered, flag: there was such a file before
  kUndo = 6,     ///< slot: takes kPrepare back, with a file that it has made
  kStart = 7,    ///< slot; fds: copies
  kDrain = 8,    ///< slot: what has been written until now; answered, flag: it is in the log
  kFinish = 9,   ///< slot: stops copying and marks unfinished lines; answered, flag: done
  kReopen = 10,  ///< slot
  kClose = 11,   ///< slot: forgets it
  // copier -> supervisor
  kAnswer = 32,   ///< serial, flag, err and, if there is one, text; without an error text belongs to the question
  kTrouble = 33,  ///< text: why it ends
};

/// The descriptors that come with kResume and kStart, in this order.
enum CopyStreams : uint8_t { kCopyOut = 1, kCopyErr = 2 };

struct CopyFrame {
  CopyTag tag = CopyTag::kInvalid;
  bool flag = false;
  bool failed = false;  ///< kAnswer: `text` is an error, `err` its errno or 0
  uint8_t streams = 0;  ///< CopyStreams
  uint16_t slot = 0;
  uint32_t serial = 0;
  int32_t err = 0;
  std::string text;
  bool operator==(const CopyFrame&) const = default;
};

/// Bytes of a frame at most.
inline constexpr size_t kMaxCopyFrame = size_t{32} << 10U;

/// A text that is too long is cut off, as only errors can be.
std::string encode_copy_frame(const CopyFrame& frame);
/// Total: hostile bytes are an error that names what is wrong.
Result<CopyFrame> decode_copy_frame(std::string_view bytes);

/// An error when it is too deep for a frame.
Result<std::string> encode_place(const FoundLogPlace& place);
Result<FoundLogPlace> decode_place(std::string_view bytes);

}  // namespace gantry
