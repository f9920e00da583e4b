// Frames between supervisor and log copier.
#include "engine/supervisor/copy_wire.h"

#include <catch2/catch.hpp>
#include <functional>
#include <vector>

#include "engine/supervisor/copy_journal.h"

using namespace gantry;

namespace {

CopyFrame full_frame(CopyTag tag) {
  CopyFrame frame;
  frame.tag = tag;
  frame.flag = true;
  frame.failed = true;
  frame.streams = kCopyOut | kCopyErr;
  frame.slot = kCopySlots - 1;
  frame.serial = 0xfffffffeU;
  frame.err = -7;
  frame.text = std::string("cri,path=/mnt/\0log", 18);
  return frame;
}

}  // namespace

TEST_CASE("each frame comes back as it was") {
  for (const CopyTag tag : {CopyTag::kResume, CopyTag::kGo, CopyTag::kPlace, CopyTag::kRemove, CopyTag::kPrepare,
                            CopyTag::kUndo, CopyTag::kStart, CopyTag::kDrain, CopyTag::kFinish, CopyTag::kReopen,
                            CopyTag::kClose, CopyTag::kAnswer, CopyTag::kTrouble}) {
    CopyFrame plain;
    plain.tag = tag;
    for (const CopyFrame& frame : {plain, full_frame(tag)}) {
      const Result<CopyFrame> back = decode_copy_frame(encode_copy_frame(frame));
      REQUIRE(back);
      CHECK(*back == frame);
    }
  }
}

TEST_CASE("frames that nobody of ours has sent are refused by name") {
  const std::string good = encode_copy_frame(full_frame(CopyTag::kDrain));
  struct Case {
    size_t at;
    char byte;
    const char* text;
  };
  for (const Case& one : {Case{0, 'x', "magic"}, Case{4, 0, "tag 0"}, Case{4, 12, "tag 12"}, Case{4, 31, "tag 31"},
                          Case{4, 34, "tag 34"}, Case{5, 2, "unknown flags"}, Case{6, 2, "unknown flags"},
                          Case{7, 4, "unknown flags"}, Case{9, 64, "slot"}, Case{10, 1, "unknown flags"}}) {
    std::string bad = good;
    bad[one.at] = one.byte;
    const Result<CopyFrame> frame = decode_copy_frame(bad);
    REQUIRE_FALSE(frame);
    CHECK(frame.error().text.find(one.text) != std::string::npos);
  }
  for (size_t size = 0; size < 20; ++size) CHECK_FALSE(decode_copy_frame(good.substr(0, size)));
  CHECK_FALSE(decode_copy_frame(good + std::string(kMaxCopyFrame, 'x')));
}

TEST_CASE("a text that is too long is cut off") {
  CopyFrame frame;
  frame.tag = CopyTag::kTrouble;
  frame.text.assign(2 * kMaxCopyFrame, 'x');
  const std::string bytes = encode_copy_frame(frame);
  CHECK(bytes.size() == kMaxCopyFrame);
  CHECK(decode_copy_frame(bytes));
}

TEST_CASE("places of logs come back as they were, or are too deep") {
  FoundLogPlace place;
  place.place.directory = {1, 2};
  place.place.rest = "deep/log";
  place.place.max_files = 4;
  for (uint64_t depth = 1; depth < 5; ++depth) {
    place.above.push_back({depth, depth * 7});
    const Result<std::string> bytes = encode_place(place);
    REQUIRE(bytes);
    const Result<FoundLogPlace> back = decode_place(*bytes);
    REQUIRE(back);
    CHECK(back->above == place.above);
    CHECK((back->place.directory == place.place.directory && back->place.rest == "deep/log"));
    CHECK(back->place.max_files == 4);
    CHECK_FALSE(decode_place(bytes->substr(0, 24 + depth * 16 - 1)));
    CHECK_FALSE(decode_place(bytes->substr(0, 23)));
  }
  place.above.resize(4096);
  CHECK_FALSE(encode_place(place));
}
