// The one owner of file descriptors.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <utility>

namespace gantry::sys {

/// Owns one file descriptor and closes it. Move-only, no implicit int. Every fd in the process is CLOEXEC from
/// birth; functions borrow `const Fd&` and take `Fd` by value.
class [[nodiscard]] Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }

  /// Gives the number away; the caller closes it.
  int release() { return std::exchange(fd_, -1); }

  /// Closes now. EINTR is not retried: Linux has freed the number by then (close(2)).
  void reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }

  /// Another number for the same open file description, CLOEXEC; invalid when the limit is reached (errno set).
  Fd duplicate() const { return Fd(::fcntl(fd_, F_DUPFD_CLOEXEC, 3)); }

 private:
  int fd_ = -1;
};

}  // namespace gantry::sys
