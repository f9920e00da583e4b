#include "engine/supervisor/copy_wire.h"

#include <cstring>

#include "engine/supervisor/copy_journal.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr uint32_t kMagic = 0x57504347;  // "GCPW"

/// In front of the text.
struct Head {
  uint32_t magic;
  uint8_t tag, flag, failed, streams;
  uint16_t slot;
  uint16_t reserved;
  uint32_t serial;
  int32_t err;
};
static_assert(sizeof(Head) == 20);

struct PlaceHead {
  uint64_t device, inode;
  uint32_t max_files, above;
};
static_assert(sizeof(PlaceHead) == 24 && sizeof(FileIdentity) == 16);

constexpr size_t kMaxText = kMaxCopyFrame - sizeof(Head);

bool is_tag(uint8_t tag) {
  constexpr auto kFirst = static_cast<uint8_t>(CopyTag::kResume), kLast = static_cast<uint8_t>(CopyTag::kClose);
  return (tag >= kFirst && tag <= kLast) || tag == static_cast<uint8_t>(CopyTag::kAnswer) ||
         tag == static_cast<uint8_t>(CopyTag::kTrouble);
}

template <class T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::unexpected<Error> broken(std::string_view what) {
  return fail(cat("log copier: a frame with ", what));
}

}  // namespace

std::string encode_copy_frame(const CopyFrame& frame) {
  const Head head{kMagic,
                  static_cast<uint8_t>(frame.tag),
                  static_cast<uint8_t>(frame.flag ? 1 : 0),
                  static_cast<uint8_t>(frame.failed ? 1 : 0),
                  frame.streams,
                  frame.slot,
                  0,
                  frame.serial,
                  frame.err};
  std::string bytes;
  append(bytes, head);
  bytes.append(frame.text, 0, kMaxText);
  return bytes;
}

Result<CopyFrame> decode_copy_frame(std::string_view bytes) {
  Head head{};
  if (bytes.size() < sizeof head || bytes.size() > kMaxCopyFrame) return broken(cat(bytes.size(), " bytes"));
  std::memcpy(&head, bytes.data(), sizeof head);
  if (head.magic != kMagic) return broken("a bad magic number");
  if (!is_tag(head.tag)) return broken(cat("tag ", head.tag));
  if (head.flag > 1 || head.failed > 1 || head.streams > (kCopyOut | kCopyErr) || head.reserved != 0)
    return broken("unknown flags");
  if (head.slot >= kCopySlots) return broken(cat("slot ", head.slot));
  CopyFrame frame;
  frame.tag = static_cast<CopyTag>(head.tag);
  frame.flag = head.flag != 0;
  frame.failed = head.failed != 0;
  frame.streams = head.streams;
  frame.slot = head.slot;
  frame.serial = head.serial;
  frame.err = head.err;
  frame.text = bytes.substr(sizeof head);
  return frame;
}

Result<std::string> encode_place(const FoundLogPlace& place) {
  const PlaceHead head{place.place.directory.device, place.place.directory.inode, place.place.max_files,
                       static_cast<uint32_t>(place.above.size())};
  std::string bytes;
  append(bytes, head);
  for (const FileIdentity& one : place.above) append(bytes, one);
  bytes += place.place.rest;
  if (bytes.size() > kMaxText) return fail("log: its directory is too deep");
  return bytes;
}

Result<FoundLogPlace> decode_place(std::string_view bytes) {
  PlaceHead head{};
  if (bytes.size() < sizeof head) return broken("half a place");
  std::memcpy(&head, bytes.data(), sizeof head);
  bytes.remove_prefix(sizeof head);
  if (head.above > bytes.size() / sizeof(FileIdentity))
    return broken(cat("a place below ", head.above, " directories"));
  FoundLogPlace found;
  found.place.directory = {head.device, head.inode};
  found.place.max_files = head.max_files;
  found.above.resize(head.above);
  if (head.above != 0) std::memcpy(found.above.data(), bytes.data(), head.above * sizeof(FileIdentity));
  found.place.rest = bytes.substr(head.above * sizeof(FileIdentity));
  return found;
}

}  // namespace gantry
