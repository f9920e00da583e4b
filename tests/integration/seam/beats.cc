#include "tests/integration/seam/beats.h"

#include <fcntl.h>

#include <array>
#include <chrono>
#include <ctime>
#include <optional>
#include <span>

#include "io/stream.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry::seam {

int64_t monotonic_now() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void Silence::note(int64_t at) {
  if (count_ > 0 && at - last_ > longest_) {
    longest_ = at - last_;
    since_ = last_;
  }
  last_ = at;
  ++count_;
}

Result<BeatReader> BeatReader::open(std::string name, const std::string& path) {
  sys::Fd fifo(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fifo) return fail_path(errno, "open", path);
  return BeatReader(std::move(name), std::move(fifo));
}

Result<> BeatReader::take_line(std::string_view line) {
  const auto words = split(line, ' ');
  const auto number = parse_number<uint64_t>(words.front());
  const auto stamp = parse_number<int64_t>(words.back());
  if (words.size() != 2 || !number || !stamp) return fail(cat("heartbeat of ", name_, ": strange line: ", line));
  if (*number < next_) return fail(cat("heartbeat of ", name_, ": number ", *number, " after ", next_));
  lost_ += *number - next_;
  next_ = *number + 1;
  if (!closed_) stamped_.note(*stamp);
  return {};
}

io::Task<Result<>> BeatReader::read(io::Loop& loop) {
  const io::Deadline never = io::Deadline::never();
  std::array<std::byte, 4096> chunk;
  for (;;) {
    const std::span<std::byte> into(chunk);
    Result<size_t> got = co_await io::read_some(loop, fifo_.get(), into, never);
    if (!got && io::is_cancelled(got.error())) co_return Result<>();
    if (!got) co_return forward(std::move(got));
    if (!closed_) arrived_.note(monotonic_now());
    partial_.append(reinterpret_cast<const char*>(chunk.data()), *got);
    for (size_t end = partial_.find('\n'); end != std::string::npos; end = partial_.find('\n')) {
      GANTRY_CO_TRY(take_line(std::string_view(partial_).substr(0, end)));
      partial_.erase(0, end + 1);
    }
  }
}

void BeatReader::close(int64_t now) {
  if (closed_) return;
  closed_ = true;
  stamped_.note(now);
  arrived_.note(now);
}

void BeatReader::describe(json::Writer& out, int64_t epoch) const {
  out.begin_object().member("name", name_).member("count", count()).member("lost", lost_);
  out.member("stamp_gap_us", stamped_.longest() / 1000);
  out.member("arrival_gap_us", arrived_.longest() / 1000);
  out.member("arrival_gap_at_us", (arrived_.since() - epoch) / 1000);
  out.end_object();
}

io::Task<> beat_loop(io::Loop& loop, Silence& silence) {
  const std::chrono::milliseconds period(5);
  for (;;) {
    silence.note(monotonic_now());
    const io::Wake wake = co_await io::sleep_for(loop, period);
    if (wake == io::Wake::kCancelled) co_return;
  }
}

}  // namespace gantry::seam
