#include "sys/init/wire.h"

namespace gantry::init {
namespace {

bool is_known(Tag tag) {
  switch (tag) {
    case Tag::kBorn:
    case Tag::kMapsPlease:
    case Tag::kHooksPlease:
    case Tag::kSeccompFd:
    case Tag::kReady:
    case Tag::kError:
    case Tag::kWarning:
    case Tag::kGo:
    case Tag::kCgroup:
    case Tag::kCommit:
    case Tag::kMountFdPlease:
    case Tag::kMountFd:
      return true;
    case Tag::kInvalid:
      break;
  }
  return false;
}

}  // namespace

const char* check_frame(const void* data, size_t size) {
  if (size < kFrameHead) return "frame: shorter than its head";
  if (size > sizeof(Frame)) return "frame: longer than any frame";
  Frame head;
  __builtin_memcpy(&head, data, kFrameHead);
  if (head.magic != kFrameMagic) return "frame: wrong magic";
  if (!is_known(head.tag)) return "frame: unknown tag";
  if (head.text_length > kFrameText) return "frame: text too long";
  if (size != kFrameHead + head.text_length) return "frame: size does not fit the text's length";
  return nullptr;
}

}  // namespace gantry::init
