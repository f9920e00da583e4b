// Starting gantry-init: what becomes of the child between clone and execve.
#include "sys/launch.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

using namespace gantry;

namespace {

/// An empty Plan: gantry-init says that it is wrong, or leaves because nobody listens.
struct Launch {
  sys::Fd ours, theirs, plan;
  sys::SpawnFds fds;

  Launch() {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    ours = sys::Fd(pair[0]);
    theirs = sys::Fd(pair[1]);
    plan = sys::Fd(::memfd_create("plan", MFD_CLOEXEC));
    fds.sync = theirs.get();
    fds.plan = plan.get();
  }
};

int end_of(const sys::Child& child) {
  int status = 0;
  REQUIRE(::waitpid(child.pid, &status, 0) == child.pid);
  return status;
}

}  // namespace

TEST_CASE("a launcher runs beside its parent and is gantry-init when finish_launcher returns") {
  Launch launch;
  auto child = sys::begin_launcher(launch.fds);
  REQUIRE(child);
  CHECK(child->departure != nullptr);
  REQUIRE(sys::finish_launcher(launch.fds, *child));
  CHECK(child->departure == nullptr);
  launch.theirs.reset();
  char frame[512];
  CHECK(::recv(launch.ours.get(), frame, sizeof frame, 0) > 0);  // "mmap of the plan"
  CHECK(WIFEXITED(end_of(*child)));
}

TEST_CASE("a launcher that cannot be executed is an error of finish_launcher and leaves no zombie") {
  Launch launch;
  const int closed = ::fcntl(launch.plan.get(), F_DUPFD_CLOEXEC, 900);
  REQUIRE(closed >= 900);
  ::close(closed);
  launch.fds.slots.push_back(closed);
  auto child = sys::begin_launcher(launch.fds);
  REQUIRE(child);
  const pid_t pid = child->pid;
  const auto finished = sys::finish_launcher(launch.fds, *child);
  REQUIRE(!finished);
  CHECK(finished.error().sys_errno == EBADF);
  CHECK(!child->pidfd);
  CHECK(::waitpid(pid, nullptr, WNOHANG) < 0);
}

TEST_CASE("a launcher that nobody finishes is waited for before its memory is freed") {
  Launch launch;
  pid_t pid = 0;
  {
    auto child = sys::begin_launcher(launch.fds);
    REQUIRE(child);
    pid = child->pid;
  }
  launch.ours.reset();
  launch.theirs.reset();
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
}
