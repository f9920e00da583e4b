#include "engine/supervisor/log_backward.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "engine/supervisor/log_record.h"

namespace gantry {

namespace {
constexpr size_t kBlock = size_t{64} << 10U;
}

Result<> BackwardLines::read_more() {
  const auto size = static_cast<size_t>(std::min(base_, uint64_t{kBlock}));
  std::string block(size, '\0');
  for (size_t done = 0; done < size;) {
    const ssize_t count = ::pread(fd_, block.data() + done, size - done, static_cast<off_t>(base_ - size + done));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, "log: read");
    if (count == 0) {  // cut meanwhile: what follows is gone
      block.resize(done);
      data_.clear();
      at_end_ = true;
      break;
    }
    done += static_cast<size_t>(count);
  }
  base_ -= size;
  data_.insert(0, block);
  return {};
}

Result<std::optional<BackwardLines::Line>> BackwardLines::previous() {
  for (;;) {
    if (at_end_) {
      const size_t newline = data_.rfind('\n');
      if (newline != data_.npos) {
        data_.resize(newline + 1);
        at_end_ = false;
      } else {
        data_.clear();
      }
    }
    if (!data_.empty()) {
      const size_t size = data_.size();
      // Its own newline is the last byte.
      const size_t before = size > 1 ? data_.rfind('\n', size - 2) : data_.npos;
      if (before != data_.npos || base_ == 0 || size > 2 * kMaxRecord) {
        const size_t begin = before != data_.npos ? before + 1 : 0;
        text_.assign(data_, begin);
        if (text_.ends_with('\n')) text_.pop_back();
        data_.resize(begin);
        return std::optional(Line{text_, base_ + size});
      }
    }
    if (base_ == 0) return std::optional<Line>();
    GANTRY_TRY(read_more());
  }
}

}  // namespace gantry
