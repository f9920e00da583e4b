#include "engine/supervisor/log_file.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "sys/text.h"

namespace gantry {

namespace {

/// File systems whose server, or user space process, an append may have to wait for (f_type of statfs(2)).
struct SlowFileSystem {
  int64_t magic;
  std::string_view name;
};
constexpr std::array<SlowFileSystem, 19> kSlow{{{0x6969, "NFS"},
                                                {0xFF534D42, "CIFS"},
                                                {0xFE534D42, "SMB2"},
                                                {0x517B, "SMB"},
                                                {0x65735546, "FUSE"},
                                                {0x01021997, "9P"},
                                                {0x00C36400, "Ceph"},
                                                {0x5346414F, "AFS"},
                                                {0x6B414653, "AFS"},
                                                {0x73757245, "Coda"},
                                                {0x0BD00BD0, "Lustre"},
                                                {0x47504653, "GPFS"},
                                                {0x564C, "NCP"},
                                                {0x786F4256, "VirtualBox shared folder"},
                                                {0xBACBACBC, "VMware shared folder"},
                                                {0x20030528, "OrangeFS"},
                                                {0x7461636F, "OCFS2"},
                                                {0x01161970, "GFS2"},
                                                {0x013111A8, "IBRIX"}}};

std::string_view slow_name(int64_t magic) {
  // Some f_type are negative on 32 bits: compare as the kernel's headers give them.
  const auto unsigned_magic = static_cast<int64_t>(static_cast<uint32_t>(magic));
  const auto* const found =
      std::find_if(kSlow.begin(), kSlow.end(), [&](const SlowFileSystem& one) { return one.magic == unsigned_magic; });
  return found != kSlow.end() ? found->name : std::string_view();
}

struct CloseDirectory {
  void operator()(DIR* directory) const { ::closedir(directory); }
};

/// Makes the directories above `path` that are missing.
Result<> make_directories(const std::string& path) {
  for (size_t slash = path.find('/', 1); slash != path.npos; slash = path.find('/', slash + 1)) {
    const std::string directory = path.substr(0, slash);
    if (::mkdir(directory.c_str(), kLogDirectoryMode) != 0 && errno != EEXIST) {
      const int err = errno;
      struct stat there{};
      // A read-only file system says EROFS for a directory that exists.
      if (::stat(directory.c_str(), &there) == 0 && S_ISDIR(there.st_mode)) continue;
      return fail_path(err, "log: mkdir", directory);
    }
  }
  return {};
}

}  // namespace

LogFile::LogFile(LogOptions options, CopyCalls& calls) : options_(std::move(options)), calls_(&calls) {}

std::string LogFile::name(unsigned number) const {
  return number == 0 ? options_.path : cat(options_.path, ".", number);
}

Result<sys::Fd> LogFile::open_checked(const std::string& path, int more_flags) {
  // O_NONBLOCK: a FIFO somebody put there must not stop us in open(2).
  sys::Fd fd(calls_->open(path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK | more_flags, kLogFileMode));
  if (!fd) {
    if (errno == ELOOP)
      return std::unexpected(Error{cat("log ", path, ": is a symlink; give the file's own path"), ELOOP});
    return fail_path(errno, "log: open", path);
  }
  struct stat file{};
  if (calls_->fstat(fd.get(), file) != 0) return fail_path(errno, "log: fstat", path);
  if (!S_ISREG(file.st_mode)) return std::unexpected(Error{cat("log ", path, ": is not a regular file"), EINVAL});
  return fd;
}

Result<> LogFile::prepare() {
  if (options_.driver == LogDriver::kNone) return {};
  if (!options_.path.starts_with('/')) return fail(cat("log \"", options_.path, "\": must be an absolute path"));
  GANTRY_TRY(make_directories(options_.path));
  GANTRY_LET(const int fd, descriptor());
  static_cast<void>(fd);
  return {};
}

Result<> LogFile::check_local() {
  if (options_.driver == LogDriver::kNone) return {};
  GANTRY_LET(const int fd, descriptor());
  int64_t magic = 0;
  if (calls_->filesystem_type(fd, magic) != 0) return fail_path(errno, "log: statfs", options_.path);
  const std::string_view slow = slow_name(magic);
  if (slow.empty()) return {};
  fd_.reset();
  return std::unexpected(Error{cat("log ", options_.path, ": is on ", slow,
                                   ", where an append can hang; choose a local path with --log FORMAT,path=PATH"),
                               ENOTSUP});
}

Result<int> LogFile::descriptor() {
  if (fd_) return fd_.get();
  GANTRY_LET(fd_, open_checked(options_.path, O_CREAT));
  return fd_.get();
}

Result<sys::Fd> LogFile::find(FileIdentity wanted) {
  for (unsigned number = 0; number < options_.max_files; ++number) {
    struct stat file{};
    if (calls_->lstat(name(number), file) != 0 || !(identity_of(file) == wanted)) continue;
    Result<sys::Fd> fd = open_checked(name(number), 0);
    if (fd && calls_->fstat(fd->get(), file) == 0 && identity_of(file) == wanted) return fd;
  }
  return find_in_directory(wanted);
}

Result<sys::Fd> LogFile::find_in_directory(FileIdentity wanted) {
  const std::string directory = options_.path.substr(0, options_.path.rfind('/') + 1);
  const std::unique_ptr<DIR, CloseDirectory> list(::opendir(directory.c_str()));
  if (list == nullptr) {
    if (errno == ENOENT) return sys::Fd();
    return fail_path(errno, "log: opendir", directory);
  }
  while (const dirent* const entry = ::readdir(list.get())) {
    if (entry->d_ino != wanted.inode || (entry->d_type != DT_REG && entry->d_type != DT_UNKNOWN)) continue;
    Result<sys::Fd> fd = open_checked(directory + entry->d_name, 0);
    struct stat file{};
    if (fd && calls_->fstat(fd->get(), file) == 0 && identity_of(file) == wanted) return fd;
  }
  return sys::Fd();
}

Result<unsigned> LogFile::first_shift() {
  // Starting at a free name spares the oldest file when an earlier rotation stopped half way.
  for (unsigned number = 1; number < options_.max_files; ++number) {
    struct stat file{};
    if (calls_->lstat(name(number), file) == 0) continue;
    if (errno != ENOENT) return fail_path(errno, "log: lstat", name(number));
    return number;
  }
  return options_.max_files;
}

Result<> LogFile::shift(unsigned number, FileIdentity live) {
  if (number == 1) {
    fd_.reset();
    struct stat file{};
    if (calls_->lstat(options_.path, file) == 0 && !(identity_of(file) == live)) return {};
  }
  if (number >= options_.max_files) {
    // Rather than to rename over it: ext4 then first writes the other file to the disk (auto_da_alloc).
    if (calls_->unlink(name(number - 1)) == 0 || errno == ENOENT) return {};
    return fail_path(errno, "log: unlink", name(number - 1));
  }
  if (calls_->rename(name(number - 1), name(number)) == 0 || errno == ENOENT) return {};
  return fail_path(errno, "log: rename", name(number - 1));
}

Result<> LogFile::start_new() {
  fd_.reset();
  if (options_.max_files == 1 && calls_->unlink(options_.path) != 0 && errno != ENOENT)
    return fail_path(errno, "log: unlink", options_.path);
  GANTRY_LET(const int fd, descriptor());
  static_cast<void>(fd);
  return {};
}

bool LogFile::has_files() const {
  if (options_.driver == LogDriver::kNone) return false;
  for (unsigned number = 0; number < options_.max_files; ++number) {
    struct stat file{};
    if (calls_->lstat(name(number), file) == 0 || (errno != ENOENT && errno != ENOTDIR)) return true;
  }
  return false;
}

Result<> LogFile::remove_all() {
  fd_.reset();
  if (options_.driver == LogDriver::kNone || options_.path.empty()) return {};
  for (unsigned number = 0; number < options_.max_files; ++number) {
    if (calls_->unlink(name(number)) != 0 && errno != ENOENT) return fail_path(errno, "log: unlink", name(number));
  }
  return {};
}

}  // namespace gantry
