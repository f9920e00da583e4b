#include "sys/init/passwd.h"

namespace gantry::init {
namespace {

constexpr size_t kFields = 6;  // name:password:uid:gid:gecos:home, then :shell
constexpr size_t kUidField = 2, kHomeField = 5;

}  // namespace

bool parse_id(const char* text, size_t size, uint32_t* out) {
  constexpr uint64_t kNoId = 0xffffffff;
  if (size == 0 || size > 10) return false;
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  if (value >= kNoId) return false;
  *out = static_cast<uint32_t>(value);
  return true;
}

bool HomeFinder::feed(const char* data, size_t size) {
  for (size_t i = 0; i < size && !found_; ++i) {
    if (data[i] == '\n') {
      (void)take_line();
    } else if (data[i] == '\0' || size_ == kMaxLine) {
      skip_ = true;
    } else {
      line_[size_++] = data[i];
    }
  }
  return found_;
}

bool HomeFinder::finish() {
  return found_ || take_line();
}

bool HomeFinder::take_line() {
  const bool usable = !skip_;
  const size_t size = size_;
  skip_ = false;
  size_ = 0;
  if (!usable) return false;
  line_[size] = '\0';

  // What lies behind the home directory does not matter, and some images leave the shell out.
  size_t starts[kFields + 1] = {};
  size_t fields = 1;
  for (size_t i = 0; i < size && fields <= kFields; ++i)
    if (line_[i] == ':') starts[fields++] = i + 1;
  if (fields < kFields) return false;
  const size_t end = fields > kFields ? starts[kFields] - 1 : size;
  uint32_t uid = 0;
  if (!parse_id(line_ + starts[kUidField], starts[kUidField + 1] - 1 - starts[kUidField], &uid) || uid != uid_)
    return false;
  found_ = true;
  line_[end] = '\0';
  if (line_[starts[kHomeField]] != '\0') home_ = line_ + starts[kHomeField];
  return true;
}

}  // namespace gantry::init
