#include "engine/state_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "sys/file.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr size_t kMaxRecord = 4u << 20;
constexpr size_t kMaxConfig = 16u << 20;
constexpr char kRecordFile[] = "state.json";
constexpr char kClaimFile[] = "cgroups";
constexpr char kConfigFile[] = "config.json";
constexpr size_t kMaxCgroupsPath = 4096;
constexpr char kCgroupsPathFile[] = "cgroups_path";
constexpr char kStartFifo[] = "exec.fifo";
constexpr char kStatusFifo[] = "status.fifo";

Result<sys::Fd> make_fifo(const sys::Fd& dir, const char* name, mode_t mode) {
  if (::mkfifoat(dir.get(), name, mode) < 0) return fail_path(errno, "mkfifo", name);
  if (::fchmodat(dir.get(), name, mode, 0) < 0) return fail_path(errno, "chmod", name);
  return sys::open_at(dir, name, O_RDWR | O_NOFOLLOW);
}

Result<> make_root(const std::string& root) {
  if (::mkdir(root.c_str(), 0700) == 0 || errno == EEXIST) return {};
  if (errno != ENOENT) return fail_path(errno, "mkdir", root);
  for (size_t at = 1; at != std::string::npos;) {
    at = root.find('/', at + 1);
    const std::string part = root.substr(0, at);
    if (::mkdir(part.c_str(), 0700) < 0 && errno != EEXIST) return fail_path(errno, "mkdir", part);
  }
  return {};
}

}  // namespace

Result<bool> StateDir::try_lock() {
  if (::flock(dir_.get(), LOCK_EX | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  return fail_errno(errno, "flock");
}

void StateDir::unlock() {
  ::flock(dir_.get(), LOCK_UN);
}

Result<> StateDir::save(const ContainerRecord& record) const {
  GANTRY_LET(const std::string boot, sys::boot_id());
  return sys::replace_file_at(dir_, kRecordFile, encode_record(record, boot), 0600);
}

Result<LoadedRecord> StateDir::load() const {
  auto bytes = sys::read_file_at(dir_, kRecordFile, kMaxRecord);
  if (!bytes) return forward(std::move(bytes));
  auto boot = sys::boot_id();
  return decode_record(*bytes, id_, boot ? std::string_view(*boot) : std::string_view());
}

Result<> StateDir::add_claims(const std::vector<CgroupClaim>& claims) const {
  if (claims.empty()) return {};
  GANTRY_LET(const std::string boot, sys::boot_id());
  GANTRY_LET(const sys::Fd file, sys::open_at(dir_, kClaimFile, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  return sys::write_all(file, encode_claims(claims, boot));
}

std::vector<CgroupClaim> StateDir::claims() const {
  const auto bytes = sys::read_file_at(dir_, kClaimFile, kMaxRecord);
  const auto boot = sys::boot_id();
  return bytes && boot ? decode_claims(*bytes, *boot) : std::vector<CgroupClaim>();
}

Result<> StateDir::save_config(std::string_view config) const {
  return sys::replace_file_at(dir_, kConfigFile, config, 0600);
}

Result<std::string> StateDir::load_config() const {
  return sys::read_file_at(dir_, kConfigFile, kMaxConfig);
}

Result<> StateDir::save_cgroups_path(std::string_view path) const {
  return sys::replace_file_at(dir_, kCgroupsPathFile, path, 0600);
}

std::string StateDir::load_cgroups_path() const {
  return sys::read_file_at(dir_, kCgroupsPathFile, kMaxCgroupsPath).value_or("");
}

Result<StateDir::Fifos> StateDir::make_fifos() const {
  Fifos fifos;
  GANTRY_LET(fifos.start, make_fifo(dir_, kStartFifo, 0622));
  GANTRY_LET(fifos.status, make_fifo(dir_, kStatusFifo, 0600));
  return fifos;
}

bool StateDir::has_start_fifo() const {
  struct stat info;
  return ::fstatat(dir_.get(), kStartFifo, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISFIFO(info.st_mode);
}

Result<sys::Fd> StateDir::open_start_fifo() const {
  return sys::open_at(dir_, kStartFifo, O_WRONLY | O_NONBLOCK | O_NOFOLLOW);
}

Result<sys::Fd> StateDir::open_status_fifo() const {
  return sys::open_at(dir_, kStatusFifo, O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
}

void StateDir::remove_start_fifo() const {
  ::unlinkat(dir_.get(), kStartFifo, 0);
}

Result<StateDir> StateStore::create(const std::string& id) {
  const std::string path = path_of(id);
  int made = ::mkdir(path.c_str(), 0711);
  if (made < 0 && errno == ENOENT) {
    GANTRY_TRY(make_root(root_));
    made = ::mkdir(path.c_str(), 0711);
  }
  if (made < 0 && errno == EEXIST) return fail("container with given ID already exists");
  if (made < 0) return fail_path(errno, "mkdir", path);
  auto dir = sys::open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (dir) return StateDir(id, std::move(*dir));
  ::rmdir(path.c_str());
  return forward(std::move(dir));
}

Result<StateDir> StateStore::open(const std::string& id) const {
  auto dir = sys::open_file(path_of(id), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (dir) return StateDir(id, std::move(*dir));
  if (dir.error().sys_errno == ENOENT || dir.error().sys_errno == ENOTDIR)
    return std::unexpected(Error{"container does not exist", ENOENT});
  return forward(std::move(dir));
}

Result<> StateStore::remove(const StateDir& dir) const {
  GANTRY_LET(const sys::Fd root, sys::open_file(root_, O_RDONLY | O_DIRECTORY));
  if (!sys::is_entry(root, dir.id(), dir.fd())) return {};
  return sys::remove_tree_at(root, dir.id());
}

Result<std::vector<std::string>> StateStore::ids() const {
  std::vector<std::string> found;
  auto root = sys::open_file(root_, O_RDONLY | O_DIRECTORY);
  if (!root) {
    if (root.error().sys_errno == ENOENT && !explicit_root_) return found;
    return forward(std::move(root));
  }
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(root->get()), &::closedir);
  if (!stream) return fail_path(errno, "open", root_);
  (void)root->release();
  while (const dirent* entry = ::readdir(stream.get()))
    if (entry->d_name[0] != '.' && entry->d_name[0] != '@' && entry->d_type == DT_DIR)
      found.emplace_back(entry->d_name);
  std::sort(found.begin(), found.end());
  return found;
}

Result<uid_t> StateStore::owner(const std::string& id) const {
  struct stat info;
  if (::lstat(path_of(id).c_str(), &info) < 0) return fail_path(errno, "stat", path_of(id));
  return info.st_uid;
}

}  // namespace gantry
