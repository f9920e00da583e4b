// Lays out a Plan (sys/init/plan.h): collects steps, joins and an arena of interned bytes, and joins them into one
// buffer.
#pragma once

#include <cstring>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "sys/init/plan.h"
#include "sys/result.h"

namespace gantry {

/// Builds one Plan. Refs stay valid until finish(). Mistakes of the input (a NUL inside a string, a Plan that is too
/// large) are remembered and come out of finish(), so that callers need not check each string.
class PlanWriter {
 public:
  PlanWriter();

  /// The header to fill in; sizes, offsets and counts are finish()'s.
  init::Header& header() { return header_; }

  /// A string with its NUL. Equal strings share their place. An empty one is present, unlike a Ref{}.
  init::Ref text(std::string_view value);

  /// As text(), but an empty value is an absent Ref.
  init::Ref text_or_absent(std::string_view value);

  /// The strings one after the other, each with its NUL, which `length` counts. No strings: an absent Ref.
  init::Ref list(std::span<const std::string> values);

  /// Raw bytes at an offset divisible by 8; equal bytes share their place. Empty: an absent Ref.
  init::Ref bytes(const void* data, size_t size);

  /// A structure of plan.h, which must have no padding that is not zero.
  template <class T>
    requires std::is_trivially_copyable_v<T>
  init::Ref blob(const T& value) {
    return bytes(&value, sizeof value);
  }

  /// Appends a step and returns it, so that its fields can be filled in. Valid until the next step().
  init::Step& step(init::Op op, std::string_view label = {});

  /// Appends a namespace to join by path.
  void join(uint64_t clone_flag, std::string_view label, std::string_view path);

  /// The finished Plan. The writer is empty afterwards.
  Result<std::string> finish();

 private:
  uint32_t append(std::string_view raw, size_t alignment);

  init::Header header_ = {};
  std::vector<init::Join> joins_;
  std::vector<init::Step> steps_;
  std::string arena_;
  std::map<std::string, uint32_t, std::less<>> strings_;
  std::map<std::string, uint32_t, std::less<>> blobs_;
  std::string problem_;
};

}  // namespace gantry
