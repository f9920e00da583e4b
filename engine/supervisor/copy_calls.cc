#include "engine/supervisor/copy_calls.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

namespace gantry {

CopyCalls& CopyCalls::real() {
  static CopyCalls calls;
  return calls;
}

ssize_t CopyCalls::splice(int in, int out, size_t count) {
  return ::splice(in, nullptr, out, nullptr, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

int CopyCalls::bytes_in_pipe(int fd, int& bytes) {
  return ::ioctl(fd, FIONREAD, &bytes);
}

ssize_t CopyCalls::read(int fd, void* into, size_t count) {
  return ::read(fd, into, count);
}

ssize_t CopyCalls::write(int fd, const void* from, size_t count) {
  return ::write(fd, from, count);
}

int CopyCalls::fstat(int fd, struct stat& into) {
  return ::fstat(fd, &into);
}

int CopyCalls::lstat(const std::string& path, struct stat& into) {
  return ::lstat(path.c_str(), &into);
}

int CopyCalls::open(const std::string& path, int flags, mode_t mode) {
  return ::open(path.c_str(), flags | O_CLOEXEC, mode);
}

int CopyCalls::rename(const std::string& from, const std::string& to) {
  return ::rename(from.c_str(), to.c_str());
}

int CopyCalls::unlink(const std::string& path) {
  return ::unlink(path.c_str());
}

int CopyCalls::ftruncate(int fd, off_t size) {
  return ::ftruncate(fd, size);
}

int CopyCalls::fallocate(int fd, int mode, off_t offset, off_t size) {
  return ::fallocate(fd, mode, offset, size);
}

int CopyCalls::filesystem_type(int fd, int64_t& magic) {
  struct statfs about{};
  const int status = ::fstatfs(fd, &about);
  magic = about.f_type;
  return status;
}

void CopyCalls::now(int64_t& seconds, int32_t& nanoseconds) {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  seconds = time.tv_sec;
  nanoseconds = static_cast<int32_t>(time.tv_nsec);
}

}  // namespace gantry
