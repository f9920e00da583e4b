// Frames between supervisor and log copier, and the places of logs in them: whatever is taken comes back as it was.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "engine/supervisor/copy_wire.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto frame = gantry::decode_copy_frame(bytes);
  if (frame && gantry::encode_copy_frame(*frame) != bytes) std::abort();
  const auto place = gantry::decode_place(frame ? std::string_view(frame->text) : bytes);
  if (!place) return 0;
  const auto again = gantry::encode_place(*place);
  if (again && *again != (frame ? std::string_view(frame->text) : bytes)) std::abort();
  return 0;
}
