#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "sys/init/wire.h"

using namespace gantry::init;

namespace {

Frame frame_with(const std::string& text) {
  Frame frame = {};
  frame.magic = kFrameMagic;
  frame.tag = Tag::kError;
  frame.step = 4;
  frame.err = 13;
  frame.text_length = static_cast<uint16_t>(text.size());
  std::memcpy(frame.text, text.data(), text.size());
  return frame;
}

std::string verdict(const Frame& frame, size_t size) {
  const char* wrong = check_frame(&frame, size);
  return wrong != nullptr ? wrong : "";
}

}  // namespace

TEST_CASE("a frame is as long as its text says") {
  const Frame frame = frame_with("fsmount");
  CHECK(verdict(frame, frame_size(frame)).empty());
  for (size_t size = 0; size < kFrameHead; ++size) CHECK(verdict(frame, size) == "frame: shorter than its head");
  CHECK(verdict(frame, frame_size(frame) - 1) == "frame: size does not fit the text's length");
  CHECK(verdict(frame, frame_size(frame) + 1) == "frame: size does not fit the text's length");
  CHECK(verdict(frame, sizeof frame + 1) == "frame: longer than any frame");
  const Frame longest = frame_with(std::string(kFrameText, 'x'));
  CHECK(verdict(longest, frame_size(longest)).empty());
  Frame lying = frame;
  lying.text_length = kFrameText + 1;
  CHECK(verdict(lying, sizeof lying) == "frame: text too long");
}

TEST_CASE("a frame has the magic and a known tag") {
  Frame frame = frame_with("");
  for (unsigned tag = 0; tag < 0x10000; ++tag) {
    frame.tag = static_cast<Tag>(tag);
    const bool known = (tag >= 1 && tag <= 7) || (tag >= 16 && tag <= 18) || (tag >= 32 && tag <= 33);
    if (verdict(frame, kFrameHead).empty() != known) FAIL("tag " << tag);
  }
  frame.tag = Tag::kGo;
  frame.magic ^= 0x100;
  CHECK(verdict(frame, kFrameHead) == "frame: wrong magic");
}
