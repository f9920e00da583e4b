// What the tests of io/ share.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "io/loop.h"
#include "sys/fd.h"

namespace gantry::io::test {

struct Pair {
  sys::Fd a;
  sys::Fd b;
};

inline Pair make_pipe() {
  int fds[2];
  REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
  return {sys::Fd(fds[0]), sys::Fd(fds[1])};
}

inline Pair make_sockets(int type = SOCK_STREAM) {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) == 0);
  return {sys::Fd(fds[0]), sys::Fd(fds[1])};
}

inline std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string text(std::span<const std::byte> from) {
  return {reinterpret_cast<const char*>(from.data()), from.size()};
}

inline bool nonblocking(int fd) {
  return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
}

/// Pieces of text that differ everywhere, so that a lost or doubled piece shows.
inline std::string pattern(size_t size) {
  std::string out(size, '\0');
  uint32_t state = 12345;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>('a' + (state >> 24) % 26);
  }
  return out;
}

/// A directory of our own, removed with what is in it (one level).
class Directory {
 public:
  Directory();
  ~Directory();
  std::string path(std::string_view name) const;

 private:
  std::string path_;
};

}  // namespace gantry::io::test
