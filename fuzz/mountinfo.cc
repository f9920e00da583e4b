// mountinfo: any bytes parse or fail, and what parses holds what it promises.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sys/mountinfo.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto entries = gantry::sys::parse_mountinfo(text);
  if (!entries) {
    if (!entries.error().text.starts_with("mountinfo: ") || entries.error().text.find('\n') != std::string::npos)
      std::abort();
    return 0;
  }
  size_t bytes = 0;
  for (const auto& entry : *entries) {
    for (const std::string* field : {&entry.root, &entry.mountpoint, &entry.options, &entry.optional, &entry.fs_type,
                                     &entry.source, &entry.super_options}) {
      if (field->find('\0') != std::string::npos) std::abort();
      bytes += field->size();
    }
  }
  if (bytes > size) std::abort();
  return 0;
}
