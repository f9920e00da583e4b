#include "sys/local_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <string_view>
#include <vector>

#include "sys/file.h"
#include "sys/mountinfo.h"
#include "sys/text.h"

namespace gantry::sys {
namespace {

constexpr int kMaxLinks = 40;  // as path_resolution(7)
constexpr size_t kMaxTable = size_t{64} << 20;

/// One directory on the way, and which mount it belongs to.
struct Place {
  Fd fd;
  uint64_t mount = 0;
  mode_t mode = 0;
};

class Walk {
 public:
  explicit Walk(const std::string& path) { push(path); }

  /// Up to slow_, if there is one.
  Result<> run() {
    GANTRY_TRY(restart());
    while (!left_.empty() && !slow_) {
      const std::string name = std::move(left_.back());
      left_.pop_back();
      GANTRY_LET(const bool more, step(name));
      if (!more) return {};
    }
    return {};
  }

  std::optional<SlowPlace>& slow() { return slow_; }

 private:
  /// The components of `path` come next.
  void push(std::string_view path) {
    std::vector<std::string> names;
    for (const std::string_view name : split(path, '/'))
      if (!name.empty() && name != ".") names.emplace_back(name);
    left_.insert(left_.end(), std::make_move_iterator(names.rbegin()), std::make_move_iterator(names.rend()));
  }

  Result<> restart() {
    here_ = Place();
    GANTRY_LET(here_.fd, open_file("/", O_PATH | O_DIRECTORY));
    where_ = "/";
    return look(here_);
  }

  /// statx(2) with AT_STATX_DONT_SYNC asks no server, and neither does the number of a mount.
  Result<> look(Place& place) {
    struct statx info{};
    if (::statx(place.fd.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID, &info) < 0)
      return fail_path(errno, "statx", where_);
    place.mount = info.stx_mnt_id;
    place.mode = info.stx_mode;
    if (place.mount == here_.mount) return {};
    GANTRY_LET(const MountEntry entry, mount_of(place.mount));
    type_ = entry.fs_type;
    if (may_hang(type_)) slow_ = SlowPlace{where_, type_, entry.major, entry.minor};
    return {};
  }

  Result<MountEntry> mount_of(uint64_t mount) {
    GANTRY_LET(const std::string text, read_file("/proc/self/mountinfo", kMaxTable));
    GANTRY_LET(std::vector<MountEntry> table, parse_mountinfo(text));
    for (MountEntry& entry : table)
      if (entry.id == mount) return std::move(entry);
    return MountEntry();  // of another namespace, through /proc/PID/root
  }

  /// False: there is nothing of this name, or nothing below it.
  Result<bool> step(const std::string& name) {
    // The links of procfs lead to where their text does not; none of them asks a file system.
    const bool magic = type_ == "proc" && name != "..";
    Place next;
    next.fd = Fd(::openat(here_.fd.get(), name.c_str(), O_PATH | O_CLOEXEC | (magic ? 0 : O_NOFOLLOW)));
    if (!next.fd && (errno == ENOENT || errno == ENOTDIR)) return false;
    if (!next.fd) return fail_path(errno, "open", cat(where_, "/", name));
    where_ = where_ == "/" ? cat("/", name) : cat(where_, "/", name);
    next.mount = here_.mount;
    GANTRY_TRY(look(next));
    if (slow_) return false;
    if (!S_ISLNK(next.mode)) {
      here_ = std::move(next);
      return true;
    }
    return follow(next);
  }

  Result<bool> follow(const Place& link) {
    std::array<char, PATH_MAX> target;
    const ssize_t length = ::readlinkat(link.fd.get(), "", target.data(), target.size());
    if (length < 0) return fail_path(errno, "readlink", where_);
    if (++links_ > kMaxLinks) return fail_path(ELOOP, "open", where_);
    const std::string_view text(target.data(), static_cast<size_t>(length));
    push(text);
    if (text.starts_with('/')) {
      GANTRY_TRY(restart());
    } else {
      where_.resize(std::max(where_.rfind('/'), size_t{1}));
    }
    return true;
  }

  Place here_;
  std::string type_;  ///< of the mount of here_
  std::optional<SlowPlace> slow_;
  std::string where_;
  std::vector<std::string> left_;  ///< components, the next one last
  int links_ = 0;
};

}  // namespace

bool may_hang(const std::string& fs_type) {
  constexpr std::array<std::string_view, 20> kSlow{
      "nfs", "nfs4", "cifs", "smb3",  "smbfs",  "fuse",   "fuseblk",  "virtiofs", "9p",   "ceph",
      "afs", "coda", "gpfs", "ncpfs", "lustre", "vboxsf", "orangefs", "ocfs2",    "gfs2", "autofs"};
  return fs_type.starts_with("fuse.") || std::find(kSlow.begin(), kSlow.end(), fs_type) != kSlow.end();
}

Result<std::optional<SlowPlace>> find_slow_place(const std::string& path) {
  Walk walk(path);
  GANTRY_TRY(walk.run());
  return std::move(walk.slow());
}

Result<> check_answers(const std::string& path) {
  GANTRY_LET(const std::optional<SlowPlace> slow, find_slow_place(path));
  if (!slow) return {};
  return std::unexpected(Error{cat(slow->where, " is on ", slow->fs_type, ", which may not answer"), ENOTSUP});
}

}  // namespace gantry::sys
