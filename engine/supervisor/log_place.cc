#include "engine/supervisor/log_place.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <string_view>

#include "sys/fd.h"
#include "sys/text.h"

namespace gantry {
namespace {

/// Opens the deepest directory of `path` that exists; what is missing goes in front of `rest`.
Result<sys::Fd> open_deepest(std::string path, std::string& rest) {
  for (;;) {
    sys::Fd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (directory) return directory;
    const size_t slash = path.find_last_of('/');
    if (errno != ENOENT || path == "/" || slash == path.npos) return fail_path(errno, "log: open", path);
    const std::string missing = path.substr(slash + 1);
    // The kernel would go up from a directory that it cannot find.
    if (missing == "..") return fail_path(ENOENT, "log: open", path);
    if (!missing.empty() && missing != ".") rest = cat(missing, "/", rest);
    path.resize(slash == 0 ? 1 : slash);
  }
}

/// `name` is `log`.N, with a number that a rotation gives.
bool is_rotated(std::string_view name, const LogPlace& log) {
  if (!name.starts_with(log.rest) || name.size() < log.rest.size() + 2 || name[log.rest.size()] != '.') return false;
  const std::string_view digits = name.substr(log.rest.size() + 1);
  const std::optional<unsigned> number = parse_number<unsigned>(digits);
  return number && digits.front() != '0' && *number < log.max_files;
}

}  // namespace

FileIdentity identity_of(const struct stat& file) {
  return {static_cast<uint64_t>(file.st_dev), static_cast<uint64_t>(file.st_ino)};
}

Result<FoundLogPlace> find_log_place(const LogOptions& options) {
  FoundLogPlace found;
  const size_t slash = options.path.find_last_of('/');
  if (slash == options.path.npos) return fail(cat("log \"", options.path, "\": must be an absolute path"));
  found.place.max_files = options.max_files;
  found.place.rest = options.path.substr(slash + 1);
  if (found.place.rest == "." || found.place.rest == "..") return fail_path(EISDIR, "log: open", options.path);
  GANTRY_LET(sys::Fd here, open_deepest(slash == 0 ? "/" : options.path.substr(0, slash), found.place.rest));
  struct stat directory{};
  if (::stat("/", &directory) < 0) return fail_path(errno, "stat", "/");
  const FileIdentity root = identity_of(directory);
  for (;;) {
    if (::fstat(here.get(), &directory) < 0) return fail_path(errno, "log: fstat", options.path);
    const FileIdentity identity = identity_of(directory);
    // "/" lies in itself; what else seems to do so is bound on what is in it.
    if (!found.above.empty() && found.above.back() == identity && identity == root) break;
    found.above.push_back(identity);
    sys::Fd up(::openat(here.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!up) return fail_path(errno, "log: open a directory above", options.path);
    here = std::move(up);
  }
  found.place.directory = found.above.front();
  return found;
}

LogPlace log_place_by_name(const LogOptions& options) {
  LogPlace place;
  place.rest = std::filesystem::path(options.path).lexically_normal();
  place.max_files = options.max_files;
  return place;
}

LogMeeting meeting_of(const LogPlace& first, const LogPlace& second) {
  if (!(first.directory == second.directory)) return LogMeeting::kNone;
  if (first.rest == second.rest) return LogMeeting::kSame;
  if (is_rotated(first.rest, second)) return LogMeeting::kRotatedTo;
  return is_rotated(second.rest, first) ? LogMeeting::kRotates : LogMeeting::kNone;
}

}  // namespace gantry
