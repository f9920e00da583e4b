#include "engine/supervisor/log_reader.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <tuple>

#include "engine/supervisor/log_backward.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr size_t kBlock = size_t{64} << 10U;
/// What has no newline for so long is cut into foreign lines.
constexpr size_t kLongestLine = 2 * kMaxRecord;

LogOptions options_of(const LogQuery& query) {
  LogOptions options;
  options.path = query.path;
  options.max_files = query.max_files < 1 ? 1 : query.max_files;
  return options;
}

bool modified_later(const struct stat& a, const struct stat& b) {
  return std::tuple(a.st_mtim.tv_sec, a.st_mtim.tv_nsec) > std::tuple(b.st_mtim.tv_sec, b.st_mtim.tv_nsec);
}

bool earlier(int64_t seconds, int64_t nanoseconds, const LogTime& than) {
  return std::tuple(seconds, nanoseconds) < std::tuple(than.seconds, int64_t{than.nanoseconds});
}

}  // namespace

LogReader::LogReader(LogQuery query) : query_(std::move(query)), names_(options_of(query_)) {}

Result<LogReader> LogReader::open(LogQuery query, bool follow) {
  LogReader reader(std::move(query));
  if (follow) GANTRY_TRY(reader.start_watch());
  GANTRY_LET(reader.sources_, reader.open_files(nullptr));
  if (reader.sources_.empty()) return fail_path(ENOENT, "log: open", reader.query_.path);
  if (reader.query_.tail) GANTRY_TRY(reader.find_tail(*reader.query_.tail));
  return reader;
}

/// All files, oldest first, or only those behind `newer_than`. Opened newest first: a rotation meanwhile shows the same
/// file again under the next number, and hides none.
Result<std::deque<LogReader::Source>> LogReader::open_files(const Source* newer_than) const {
  std::deque<Source> found;
  for (unsigned number = 0; number < names_.options().max_files; ++number) {
    const std::string name = names_.name(number);
    sys::Fd fd(::open(name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!fd && errno == ENOENT) continue;
    if (!fd) return fail_path(errno, "log: open", name);
    struct stat file{};
    if (::fstat(fd.get(), &file) != 0) return fail_path(errno, "log: fstat", name);
    if (!S_ISREG(file.st_mode)) return fail(cat("log ", name, ": is not a regular file"));
    const FileIdentity identity = identity_of(file);
    if (newer_than != nullptr && identity == newer_than->identity) return found;
    if (!found.empty() && found.front().identity == identity) continue;
    if (number > 0 && query_.since && earlier(file.st_mtim.tv_sec, file.st_mtim.tv_nsec, *query_.since)) break;
    found.push_front({std::move(fd), identity, file});
  }
  if (newer_than == nullptr) return found;
  // The file has another name now, or none: what follows it was modified after it.
  struct stat last{};
  if (::fstat(newer_than->fd.get(), &last) != 0) return fail_path(errno, "log: fstat", query_.path);
  while (found.size() > 1 && !modified_later(found.front().about, last)) found.pop_front();
  return found;
}

Result<> LogReader::start_watch() {
  watch_ = sys::Fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!watch_) return fail_errno(errno, "log: inotify_init1");
  const std::string directory = query_.path.substr(0, query_.path.rfind('/') + 1);
  const char* const where = directory.empty() ? "." : directory.c_str();
  if (::inotify_add_watch(watch_.get(), where, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR) < 0)
    return fail_path(errno, "log: inotify_add_watch", where);
  watch_live();
  return {};
}

/// Watches what PATH is now. If that is another file by the time we read, the directory's watch has told so.
void LogReader::watch_live() {
  if (!watch_) return;
  if (live_watch_ >= 0) static_cast<void>(::inotify_rm_watch(watch_.get(), live_watch_));
  live_watch_ = ::inotify_add_watch(watch_.get(), query_.path.c_str(), IN_MODIFY | IN_DONT_FOLLOW);
}

void LogReader::drain_watch() const {
  alignas(inotify_event) std::array<char, 4096> events;
  while (watch_ && ::read(watch_.get(), events.data(), events.size()) > 0) {
  }
}

Result<> LogReader::find_tail(uint64_t lines) {
  std::array<bool, 2> in_line{};  // coming from the end: the last record of the line in question was seen
  for (size_t index = sources_.size(); index-- > 0;) {
    struct stat file{};
    if (::fstat(sources_[index].fd.get(), &file) != 0) return fail_path(errno, "log: fstat", query_.path);
    BackwardLines backward(sources_[index].fd.get(), static_cast<uint64_t>(file.st_size));
    for (;;) {
      GANTRY_LET(const std::optional<BackwardLines::Line> line, backward.previous());
      if (!line) break;
      const LogRecord record = parse_log_record(line->text);
      if (!wanted(record)) continue;
      bool& inside = in_line[record.stream];
      const bool last = !inside || record.newline || record.kind != LogRecord::Kind::kPiece;
      inside = true;
      if (!last) continue;
      if (lines == 0) {
        sources_.erase(sources_.begin(), sources_.begin() + static_cast<ptrdiff_t>(index));
        offset_ = line->end;
        return {};
      }
      --lines;
    }
  }
  return {};
}

Result<std::optional<LogRecord>> LogReader::next() {
  for (;;) {
    GANTRY_LET(const std::optional<std::string_view> line, next_line());
    if (!line) {
      GANTRY_LET(const bool more, next_source());
      if (!more) return std::optional<LogRecord>();
      continue;
    }
    LogRecord record = parse_log_record(*line);
    if (wanted(record)) return std::optional<LogRecord>(std::move(record));
  }
}

/// The next line of the first source, without its newline. At the end of the file an unfinished one is forgotten, to be
/// read again: it may be cut off (OnFull::kDrop) rather than continued.
Result<std::optional<std::string_view>> LogReader::next_line() {
  size_t searched = at_;
  for (;;) {
    const size_t newline = buffer_.find('\n', searched);
    if (newline != buffer_.npos || buffer_.size() - at_ >= kLongestLine) {
      const size_t end = newline != buffer_.npos ? newline : at_ + kLongestLine;
      const std::string_view line = std::string_view(buffer_).substr(at_, end - at_);
      at_ = newline != buffer_.npos ? end + 1 : end;
      return std::optional(line);
    }
    buffer_.erase(0, at_);
    at_ = 0;
    searched = buffer_.size();
    buffer_.resize(searched + kBlock);
    const ssize_t count =
        ::pread(sources_.front().fd.get(), buffer_.data() + searched, kBlock, static_cast<off_t>(offset_));
    const int err = errno;
    buffer_.resize(searched + (count > 0 ? static_cast<size_t>(count) : 0));
    if (count < 0 && err != EINTR) return fail_path(err, "log: read", query_.path);
    if (count == 0) break;
    if (count > 0) offset_ += static_cast<size_t>(count);
  }
  offset_ -= buffer_.size();
  buffer_.clear();
  return std::optional<std::string_view>();
}

/// Whether there is something more to read, perhaps in another file.
Result<bool> LogReader::next_source() {
  struct stat file{};
  if (sources_.size() == 1) {
    if (::fstat(sources_.front().fd.get(), &file) != 0) return fail_path(errno, "log: fstat", query_.path);
    if (static_cast<uint64_t>(file.st_size) < offset_) {  // somebody truncated it (copytruncate)
      offset_ = 0;
      return true;
    }
    if (::lstat(query_.path.c_str(), &file) != 0 || identity_of(file) == sources_.front().identity) return false;
    // What was written between our last look and the rotation is still to be read.
    if (!std::exchange(saw_rotation_, true)) return true;
    watch_live();
    GANTRY_LET(std::deque<Source> newer, open_files(&sources_.front()));
    if (newer.empty()) return false;
    for (Source& source : newer) sources_.push_back(std::move(source));
  }
  sources_.pop_front();
  offset_ = 0;
  saw_rotation_ = false;
  return true;
}

bool LogReader::wanted(const LogRecord& record) const {
  if (record.kind == LogRecord::Kind::kForeign) return true;
  if (!query_.streams[record.stream]) return false;
  return !query_.since || !earlier(record.time.seconds, record.time.nanoseconds, *query_.since);
}

void append_raw(const LogRecord& record, std::string& out) {
  if (record.kind != LogRecord::Kind::kPiece && record.kind != LogRecord::Kind::kForeign) return;
  out += record.text;
  if (record.newline || record.kind == LogRecord::Kind::kForeign) out += '\n';
}

}  // namespace gantry
