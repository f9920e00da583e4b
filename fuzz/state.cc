// state.json: hostile bytes never crash the reader, and what it believes it writes back unchanged.
#include <cstdlib>
#include <string_view>

#include "engine/state_store.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const gantry::LoadedRecord loaded = gantry::decode_record(bytes, "web-1", "");
  if (loaded.record.id != "web-1") std::abort();
  const std::string again = gantry::encode_record(loaded.record, "boot");
  const gantry::LoadedRecord second = gantry::decode_record(again, "web-1", "boot");
  if (loaded.health != gantry::RecordHealth::kGood) return 0;
  if (second.health != gantry::RecordHealth::kGood) std::abort();
  if (gantry::encode_record(second.record, "boot") != again) std::abort();
  return 0;
}
