// The parent of containers in the seam test: a process of its own that clones and reaps on behalf of the engine. It
// speaks as the keeper does (sys/init/keeper.h), but is another program, and holds nothing. It starts the driver, too,
// so that the engine is a sibling of the containers and has no children at all.
//
// usage: foster PROGRAM [ARG...]     PROGRAM finds the socket at kSupervisorSocketFd
// Exit status: that of PROGRAM, or 99 when a child is left once PROGRAM has ended.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <span>
#include <vector>

#include "sys/fd.h"
#include "sys/init/keeper.h"
#include "sys/launch.h"

namespace gantry::seam {
namespace {

using init::KeeperFrame;
using init::KeeperTag;
using init::make_keeper_frame;

constexpr size_t kMaxFds = 253;  // SCM_MAX_FD
constexpr size_t kFixedFds = 4;  // stdio and the Plan
constexpr int kChildLeft = 99;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::_Exit(98);
}

/// One frame from the driver; false at the end of the conversation.
bool receive(int socket, KeeperFrame& message, std::vector<sys::Fd>& fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  iovec bytes{&message, sizeof message};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
  if (got < 0) die("foster: recvmsg");
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  if (got != 0 && got != sizeof message) die("foster: frame of a wrong size");
  return got != 0;
}

/// False when the socket is full.
bool send(int socket, const KeeperFrame& message, int fd) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec bytes{const_cast<KeeperFrame*>(&message), sizeof message};
  msghdr header{};
  header.msg_iov = &bytes;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* const part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(part), &fd, sizeof fd);
  }
  if (::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return true;
  if (errno == EAGAIN) return false;
  if (errno == EPIPE || errno == ECONNRESET) return true;  // nobody is left who would want to know
  die("foster: sendmsg");
}

class Foster {
 public:
  explicit Foster(char** program);
  int run();

 private:
  void start(char** program, int socket);
  void serve();
  void spawn(const KeeperFrame& request, std::span<const sys::Fd> fds);
  void reap();
  void flush();

  /// An answer that waits for room in the socket.
  struct Outgoing {
    KeeperFrame message;
    sys::Fd fd;
  };

  sys::Fd socket_, signals_;
  pid_t driver_ = -1;
  int status_ = -1;  ///< the driver's, once it has ended
  std::deque<Outgoing> queue_;
};

Foster::Foster(char** program) {
  sigset_t chld;
  ::sigemptyset(&chld);
  ::sigaddset(&chld, SIGCHLD);
  int pair[2];
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) die("foster: prctl");
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) die("foster: socketpair");
  socket_ = sys::Fd(pair[0]);
  const sys::Fd theirs(pair[1]);
  if (::sigprocmask(SIG_BLOCK, &chld, nullptr) < 0) die("foster: sigprocmask");
  signals_ = sys::Fd(::signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) die("foster: signalfd");
  start(program, theirs.get());
}

void Foster::start(char** program, int socket) {
  driver_ = ::fork();
  if (driver_ < 0) die("foster: fork");
  if (driver_ > 0) return;
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  // dup2 onto itself would keep CLOEXEC.
  const int high = ::fcntl(socket, F_DUPFD_CLOEXEC, 100);
  ::dup2(high, init::kSupervisorSocketFd);
  ::execv(program[0], program);
  die(program[0]);
}

void Foster::spawn(const KeeperFrame& request, std::span<const sys::Fd> fds) {
  KeeperFrame answer = make_keeper_frame(KeeperTag::kSpawned);
  answer.serial = request.serial;
  size_t next = kFixedFds;
  const auto take_if = [&](uint16_t flag) { return (request.flags & flag) != 0 ? static_cast<int>(next++) : -1; };
  const int sync = take_if(init::kSpawnSync), cgroup = take_if(init::kSpawnInCgroup);
  if (fds.size() < next) die("foster: frame without its descriptors");
  sys::SpawnFds given;
  given.stdio = {fds[0].get(), fds[1].get(), fds[2].get()};
  given.plan = fds[3].get();
  if (sync >= 0) given.sync = fds[static_cast<size_t>(sync)].get();
  if (cgroup >= 0) given.cgroup = fds[static_cast<size_t>(cgroup)].get();
  for (const sys::Fd& slot : fds.subspan(next)) given.slots.push_back(slot.get());
  Result<sys::Child> child = sys::spawn_launcher(given);
  if (!child) {
    std::fprintf(stderr, "foster: %s\n", child.error().text.c_str());
    answer.err = child.error().sys_errno != 0 ? child.error().sys_errno : EIO;
    queue_.push_back({answer, sys::Fd()});
    return;
  }
  answer.pid = child->pid;
  answer.flags = child->in_cgroup ? init::kSpawnInCgroup : 0;
  queue_.push_back({answer, std::move(child->pidfd)});
}

void Foster::serve() {
  KeeperFrame request{};
  std::vector<sys::Fd> fds;
  if (!receive(socket_.get(), request, fds)) {
    socket_.reset();
    return;
  }
  if (request.tag != KeeperTag::kSpawn) die("foster: unknown frame");
  spawn(request, fds);
}

/// All that have ended, ours and those that fell to us; the driver's status is kept.
void Foster::reap() {
  signalfd_siginfo ignored;
  while (::read(signals_.get(), &ignored, sizeof ignored) > 0) {
  }
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) < 0 || info.si_pid == 0) return;
    KeeperFrame note = make_keeper_frame(KeeperTag::kExited);
    note.slot = init::kUnslotted;
    note.pid = info.si_pid;
    (info.si_code == CLD_EXITED ? note.code : note.signal) = info.si_status;
    if (info.si_pid == driver_) status_ = note.signal != 0 ? 128 + note.signal : note.code;
    queue_.push_back({note, sys::Fd()});
  }
}

void Foster::flush() {
  while (!queue_.empty() && (!socket_ || send(socket_.get(), queue_.front().message, queue_.front().fd.get())))
    queue_.pop_front();
}

int Foster::run() {
  while (status_ < 0) {
    const auto wanted = static_cast<short>(queue_.empty() ? POLLIN : POLLIN | POLLOUT);
    pollfd polled[2] = {{signals_.get(), POLLIN, 0}, {socket_.get(), wanted, 0}};
    if (::poll(polled, 2, -1) < 0 && errno != EINTR) die("foster: poll");
    // Requests first: an exit never overtakes the answer that names the process.
    if (polled[1].revents & (POLLIN | POLLHUP)) serve();
    if (polled[0].revents != 0) reap();
    flush();
  }
  if (::waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 && errno == ECHILD) return status_;
  std::fprintf(stderr, "foster: a child is left behind\n");
  return status_ != 0 ? status_ : kChildLeft;
}

}  // namespace
}  // namespace gantry::seam

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: foster PROGRAM [ARG...]\n");
    return 2;
  }
  gantry::seam::Foster foster(argv + 1);
  return foster.run();
}
