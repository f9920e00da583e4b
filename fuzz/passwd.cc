// HomeFinder: the answer does not depend on how the file is cut into pieces, and is one bounded string without NUL,
// newline or colon.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "sys/init/passwd.h"

namespace gantry::init {

namespace {

std::string home(const std::string& file, uint32_t uid, size_t piece) {
  HomeFinder finder(uid);
  bool found = false;
  for (size_t at = 0; at < file.size() && !found; at += piece) {
    const std::string part = file.substr(at, piece);
    found = finder.feed(part.data(), part.size());
  }
  if (!found) finder.finish();
  return finder.home() != nullptr ? finder.home() : "";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const uint32_t uid = data[0] % 8;
  const size_t piece = data[1] % 64 + 1;
  const std::string file(reinterpret_cast<const char*>(data + 2), size - 2);
  const std::string whole = home(file, uid, file.size() + 1);
  if (whole != home(file, uid, piece)) std::abort();
  if (whole.size() > HomeFinder::kMaxLine || whole.find_first_of("\n:") != std::string::npos) std::abort();
  if (!whole.empty() && file.find(whole) == std::string::npos) std::abort();
  return 0;
}

}  // namespace gantry::init
