// What a pidfd tells of a process that is somebody else's to reap.
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include "sys/proc.h"

using namespace gantry;

TEST_CASE("pidfd: a zombie has not been reaped, and whoever has been is known by it") {
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    char byte = 0;
    ::close(gate[1]);
    (void)!::read(gate[0], &byte, 1);
    ::_exit(3);
  }
  ::close(gate[0]);
  const Result<sys::Fd> pidfd = sys::pidfd_open(pid);
  REQUIRE(pidfd);
  CHECK_FALSE(sys::pidfd_reaped(pidfd->get()));
  ::close(gate[1]);
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) == 0);
  CHECK_FALSE(sys::pidfd_reaped(pidfd->get()));
  CHECK_FALSE(sys::pidfd_exit(pidfd->get()));
  REQUIRE(::waitpid(pid, nullptr, 0) == pid);
  CHECK(sys::pidfd_reaped(pidfd->get()));
  CHECK_FALSE(sys::pidfd_reaped(-1));
}
