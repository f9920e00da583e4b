// The API's messages: hostile bytes never crash, and what is believed is written and read again without a change.
#include <cstdlib>
#include <string>
#include <string_view>

#include "engine/supervisor/api.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace api = gantry::api;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto call = api::decode_call(text)) {
    const std::string written = api::encode_call(*call);
    const auto again = api::decode_call(written);
    // Escapes may make a message longer than what may be sent.
    require(again.has_value() || written.size() >= api::kMaxMessage);
    if (again) require(api::encode_call(*again) == written && api::reply_index(*again) == api::reply_index(*call));
  } else {
    require(!call.error().text.empty());
  }
  for (size_t index = 0; index < std::variant_size_v<api::Reply>; ++index) {
    const auto reply = api::decode_reply(text, index);
    if (!reply) continue;
    require(reply->index() == index);
    const std::string written = api::encode_reply(*reply);
    const auto again = api::decode_reply(written, index);
    require(again.has_value() || written.size() >= api::kMaxMessage);
    if (again) require(api::encode_reply(*again) == written);
  }
  return 0;
}
