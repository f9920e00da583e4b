// Children that go on with our code.
#include "sys/worker.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>

using namespace gantry;

namespace {

int exit_status(const sys::Child& child) {
  siginfo_t info{};
  REQUIRE(::waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED) == 0);
  CHECK(info.si_code == CLD_EXITED);
  return info.si_status;
}

struct Given {
  int first, second, closed;
};

void handler(int) {}

bool has(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

/// The number of the first thing that is wrong.
int look(void* argument) {
  const Given& given = *static_cast<const Given*>(argument);
  if (!has(given.first) || !has(given.second)) return 1;
  if (has(given.closed)) return 2;
  for (int fd = 3; fd < 1000; ++fd)
    if (fd != given.first && fd != given.second && has(fd)) return 3;
  char name[16] = {};
  if (::prctl(PR_GET_NAME, name) < 0 || std::strcmp(name, "gantry-test") != 0) return 4;
  int signo = 0;
  if (::prctl(PR_GET_PDEATHSIG, &signo) < 0 || signo != SIGKILL) return 5;
  struct sigaction action{};
  if (::sigaction(SIGUSR1, nullptr, &action) < 0 || action.sa_handler != SIG_DFL) return 6;
  if (::sigaction(SIGTERM, nullptr, &action) < 0 || action.sa_handler != SIG_IGN) return 7;
  sigset_t mask;
  if (::sigprocmask(SIG_BLOCK, nullptr, &mask) < 0 || sigismember(&mask, SIGUSR1) != 0) return 8;
  return 42;
}

}  // namespace

TEST_CASE("a worker has what it was given, and no more") {
  struct sigaction before{};
  struct sigaction ours{};
  ours.sa_handler = handler;
  REQUIRE(::sigaction(SIGUSR1, &ours, &before) == 0);
  const sys::Fd first(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 100));
  const sys::Fd second(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 7));
  const sys::Fd closed(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 50));
  REQUIRE((first && second && closed));
  Given given{first.get(), second.get(), closed.get()};
  const std::array<int, 2> keep{first.get(), second.get()};
  const Result<sys::Child> child = sys::fork_worker("gantry-test", keep, look, &given);
  REQUIRE(child);
  CHECK(exit_status(*child) == 42);
  CHECK((has(first.get()) && has(closed.get())));
  sigset_t mask;
  REQUIRE(::sigprocmask(SIG_BLOCK, nullptr, &mask) == 0);
  CHECK(sigismember(&mask, SIGUSR1) == 0);
  REQUIRE(::sigaction(SIGUSR1, &before, nullptr) == 0);
}

TEST_CASE("a worker cannot be given more than eight descriptors") {
  const std::array<int, 9> many{};
  CHECK_FALSE(sys::fork_worker("gantry-test", many, look, nullptr));
}
