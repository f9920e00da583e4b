// The supervisor's end of the conversation, with a keeper that only pretends.
#include "engine/supervisor/keeper_link.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "io/scope.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io_support.h"

namespace gantry {
namespace {

using init::KeeperFrame;
using init::KeeperTag;
using io::Deadline;

/// A link, and the keeper's end of it in the hands of the test.
struct Room {
  io::Loop loop;
  io::test::Pair sockets = io::test::make_sockets(SOCK_SEQPACKET);
  KeeperLink link{loop, std::move(sockets.a)};

  KeeperFrame exit_of(pid_t pid, int code, uint32_t slot = init::kUnslotted) const {
    KeeperFrame frame{};
    frame.magic = init::kKeeperFrameMagic;
    frame.tag = KeeperTag::kExited;
    frame.slot = slot;
    frame.pid = pid;
    frame.code = code;
    return frame;
  }
  io::Task<Result<>> say(KeeperFrame frame, int fd = -1) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(&frame, 1));
    std::vector<int> fds;
    if (fd >= 0) fds.push_back(fd);
    const std::span<const int> passed(fds);
    const Deadline deadline = Deadline::in_ms(5000);
    Result<> sent = co_await io::send_msg(loop, sockets.b.get(), bytes, passed, deadline);
    co_return sent;
  }
  /// The next request; its descriptors are closed.
  io::Task<Result<KeeperFrame>> hear(size_t* count = nullptr) {
    KeeperFrame frame{};
    std::vector<sys::Fd> fds;
    const std::span<std::byte> bytes = std::as_writable_bytes(std::span(&frame, 1));
    const Deadline deadline = Deadline::in_ms(5000);
    Result<size_t> got = co_await io::recv_msg(loop, sockets.b.get(), bytes, fds, deadline);
    if (!got) co_return forward(std::move(got));
    if (const char* wrong = init::check_keeper_frame(&frame, *got)) co_return fail(wrong);
    if (count != nullptr) *count = fds.size();
    co_return frame;
  }

  using Body = io::Task<Result<>> (*)(Room&);
  io::Task<Result<>> both(Body body) {
    io::Scope background(loop);
    background.spawn(listen());
    Result<> done = co_await body(*this);
    Result<> ended = co_await background.cancel_and_join();
    if (!done) co_return done;
    co_return ended;
  }
  io::Task<> listen() {
    Result<> ignored = co_await link.listen();
    (void)ignored;
  }
  void run(Body body) {
    const auto done = loop.run(io::with_deadline(loop, both(body), Deadline::in_ms(10'000)));
    INFO((done ? "" : done.error().text));
    CHECK(done);
  }
  /// Until the link has taken everything that was said.
  io::Task<> settle() {
    for (int i = 0; i < 5; ++i) {
      io::Wake wake = co_await io::yield_now(loop);
      (void)wake;
    }
  }
};

io::Task<Result<>> expect_code(Room& room, pid_t pid, int code) {
  const Deadline deadline = Deadline::in_ms(1000);
  Result<ExitStatus> ended = co_await room.link.wait(pid, deadline);
  if (!ended) co_return forward(std::move(ended));
  if (ended->code != code) co_return fail("another code");
  co_return Result<>();
}

TEST_CASE("keeper link: an exit finds who waits, and is kept for who comes later") {
  Room room;
  room.run([](Room& in) -> io::Task<Result<>> {
    GANTRY_CO_TRY(co_await in.say(in.exit_of(50, 3, 7)));
    GANTRY_CO_TRY(co_await in.say(in.exit_of(51, 4)));
    co_await in.settle();
    GANTRY_CO_TRY(co_await expect_code(in, 51, 4));
    GANTRY_CO_TRY(co_await expect_code(in, 50, 3));
    const Deadline soon = Deadline::in_ms(1);
    Result<ExitStatus> again = co_await in.link.wait(50, soon);
    if (again || again.error().sys_errno != ETIMEDOUT) co_return fail("told twice");
    KeeperFrame unknown = in.exit_of(52, 0);
    unknown.flags = init::kExitUnknown;
    GANTRY_CO_TRY(co_await in.say(unknown));
    const Deadline deadline = Deadline::in_ms(1000);
    Result<ExitStatus> nobody = co_await in.link.wait(52, deadline);
    if (nobody) co_return fail("a status that nobody knows");
    co_return Result<>();
  });
}

TEST_CASE("keeper link: unclaimed exits are bounded") {
  Room room;
  room.run([](Room& in) -> io::Task<Result<>> {
    const auto many = static_cast<pid_t>(KeeperLink::kMaxEarly);
    for (pid_t pid = 1; pid <= many + 10; ++pid) {
      GANTRY_CO_TRY(co_await in.say(in.exit_of(pid, 1)));
    }
    GANTRY_CO_TRY(co_await expect_code(in, many + 10, 1));
    GANTRY_CO_TRY(co_await expect_code(in, 12, 1));
    const Deadline soon = Deadline::in_ms(1);
    Result<ExitStatus> oldest = co_await in.link.wait(9, soon);
    if (oldest || oldest.error().sys_errno != ETIMEDOUT) co_return fail("not the oldest ones are forgotten");
    co_return Result<>();
  });
}

io::Task<Result<>> answer_hold(Room& room, int err) {
  size_t count = 0;
  GANTRY_CO_LET(KeeperFrame asked, co_await room.hear(&count));
  if (asked.tag != KeeperTag::kHold || asked.slot != 4 || asked.owner != 9 || asked.mask != 5 || count != 2)
    co_return fail("another request");
  asked.tag = KeeperTag::kHeld;
  asked.err = err;
  Result<> said = co_await room.say(asked);
  co_return said;
}

io::Task<Result<>> hold_once(Room& room, int err) {
  KeeperHold request;
  request.slot = 4;
  request.owner = 9;
  request.fds[0] = 0;
  request.fds[init::kHeldPidfd] = 1;
  io::Task<Result<>> asking = room.link.hold(request);
  io::Task<Result<>> answering = answer_hold(room, err);
  auto raced = co_await io::race(room.loop, std::move(asking), std::move(answering));
  if (!raced.b) co_return raced.b;
  if (raced.a.has_value() != (err == 0)) co_return fail("the answer was not taken");
  if (err != 0 && raced.a.error().sys_errno != err) co_return raced.a;
  co_return Result<>();
}

TEST_CASE("keeper link: hold is done when the keeper says so") {
  Room room;
  room.run([](Room& in) -> io::Task<Result<>> {
    GANTRY_CO_TRY(co_await hold_once(in, 0));
    GANTRY_CO_TRY(co_await hold_once(in, EEXIST));
    co_return Result<>();
  });
}

TEST_CASE("keeper link: when the keeper is gone everybody who waits is told") {
  Room room;
  room.run([](Room& in) -> io::Task<Result<>> {
    in.sockets.b.reset();
    const Deadline deadline = Deadline::in_ms(5000);
    Result<ExitStatus> waited = co_await in.link.wait(77, deadline);
    if (waited || waited.error().text.find("the keeper is gone") == std::string::npos) co_return fail("waited on");
    if (!in.link.gone().is_set()) co_return fail("not said to be gone");
    KeeperHold request;
    Result<> held = co_await in.link.hold(request);
    if (held) co_return fail("held by nobody");
    co_return Result<>();
  });
}

/// Takes all numbers below a limit of its own, so that nothing can be opened or received while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit few = before_;
    few.rlim_cur = 128;
    ::setrlimit(RLIMIT_NOFILE, &few);
    for (;;) {
      sys::Fd fd(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
      if (!fd) break;
      taken_.push_back(std::move(fd));
    }
  }
  ~NoDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
  std::vector<sys::Fd> taken_;
};

io::Task<Result<>> answer_without_room(Room& room) {
  GANTRY_CO_LET(KeeperFrame asked, co_await room.hear());
  if (asked.tag != KeeperTag::kSpawn) co_return fail("another request");
  asked.tag = KeeperTag::kSpawned;
  asked.flags = 0;
  asked.pid = 4711;
  const NoDescriptors none;
  GANTRY_CO_TRY(co_await room.say(asked, STDERR_FILENO));
  co_await room.settle();
  co_return Result<>();
}

io::Task<> answer_spawn(Room& room, Result<>& done) {
  done = co_await answer_without_room(room);
}

TEST_CASE("keeper link: an answer whose descriptor is lost is an error at once") {
  Room room;
  room.run([](Room& in) -> io::Task<Result<>> {
    sys::SpawnFds fds;
    fds.plan = STDERR_FILENO;
    const Deadline limit = Deadline::in_ms(2000);
    // Nothing is cancelled meanwhile: to look at a watcher, the sanitizer wants descriptors of its own.
    io::Scope answering(in.loop);
    Result<> answered;
    answering.spawn(answer_spawn(in, answered));
    Result<sys::Child> child = co_await in.link.spawn(fds);
    GANTRY_CO_TRY(co_await answering.join());
    if (!answered) co_return answered;
    if (limit.expired()) co_return fail("it waited");
    if (child) co_return fail("a child without a pidfd");
    if (child.error().sys_errno != EMFILE) co_return forward(std::move(child));
    // The link goes on.
    GANTRY_CO_TRY(co_await hold_once(in, 0));
    co_return Result<>();
  });
}

TEST_CASE("keeper link: what was started for nobody is killed") {
  Room room;
  room.run([](Room& in) -> io::Task<Result<>> {
    const pid_t child = ::fork();
    if (child == 0) {
      for (;;) ::pause();
    }
    const sys::Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    KeeperFrame late{};
    late.magic = init::kKeeperFrameMagic;
    late.tag = KeeperTag::kSpawned;
    late.serial = 4711;
    late.pid = child;
    GANTRY_CO_TRY(co_await in.say(late, pidfd.get()));
    const Deadline deadline = Deadline::in_ms(5000);
    LocalExits exits(in.loop);
    Result<ExitStatus> ended = co_await exits.wait(child, pidfd.get(), deadline);
    if (!ended || ended->signal != SIGKILL) co_return fail("it lives");
    co_return Result<>();
  });
}

}  // namespace
}  // namespace gantry
