// The system calls of the copy path, in one place, so that a test can stop the copier behind any of them.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace gantry {

/// What the kernel does for the copier: results and errno as of the calls named so. The only implementation outside of
/// tests is real(). Virtual calls cost nothing beside a system call.
class CopyCalls {
 public:
  virtual ~CopyCalls() = default;
  static CopyCalls& real();

  /// splice(2) without offsets, with SPLICE_F_MOVE and SPLICE_F_NONBLOCK.
  virtual ssize_t splice(int in, int out, size_t count);
  virtual int bytes_in_pipe(int fd, int& bytes);  ///< FIONREAD
  virtual ssize_t read(int fd, void* into, size_t count);
  virtual ssize_t write(int fd, const void* from, size_t count);
  virtual int fstat(int fd, struct stat& into);
  virtual int lstat(const std::string& path, struct stat& into);
  virtual int open(const std::string& path, int flags, mode_t mode);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int unlink(const std::string& path);
  virtual int ftruncate(int fd, off_t size);
  virtual int fallocate(int fd, int mode, off_t offset, off_t size);
  virtual int filesystem_type(int fd, int64_t& magic);       ///< f_type of fstatfs(2)
  virtual void now(int64_t& seconds, int32_t& nanoseconds);  ///< CLOCK_REALTIME

  /// Called after each change of a phase in the journal: not a system call, but a moment at which one can die.
  virtual void journaled() {}
};

}  // namespace gantry
