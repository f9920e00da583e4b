// check_frame(): an accepted frame has exactly the size that it says and survives being sent again.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "sys/init/wire.h"

namespace gantry::init {

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::vector<uint8_t> bytes(data, data + size);
  if (check_frame(bytes.data(), bytes.size()) != nullptr) return 0;
  Frame frame = {};
  std::memcpy(&frame, bytes.data(), bytes.size());
  if (frame_size(frame) != bytes.size() || frame.text_length > kFrameText) std::abort();
  if (check_frame(&frame, frame_size(frame)) != nullptr) std::abort();
  if (bytes.size() > kFrameHead && check_frame(bytes.data(), bytes.size() - 1) == nullptr) std::abort();
  return 0;
}

}  // namespace gantry::init
