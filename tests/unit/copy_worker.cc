// A log copier, asked as a supervisor asks it.
#include "engine/supervisor/copy_worker.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>

#include "engine/supervisor/copy_wire.h"
#include "sys/proc.h"
#include "sys/worker.h"
#include "tests/unit/copy_support.h"

namespace gantry::copy_test {
namespace {

constexpr int kPatienceMs = 5'000;

int work(void* given) {
  return run_copy_worker(*static_cast<const CopyWorker*>(given));
}

/// One copier, with a journal that others may work with, too.
class Talk {
 public:
  explicit Talk(const Copier& hands) {
    int pair[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
    control_ = sys::Fd(pair[0]);
    const sys::Fd theirs(pair[1]);
    const Copier::Descriptors fds = hands.descriptors();
    CopyWorker given{theirs.get(), fds.journal, fds.staging_read, fds.staging_write};
    const std::array<int, 4> keep{given.control, given.journal, given.staging_read, given.staging_write};
    Result<sys::Child> child = sys::fork_worker("gantry-copier", keep, work, &given);
    REQUIRE(child);
    child_ = std::move(*child);
  }
  ~Talk() {
    ::kill(child_.pid, SIGKILL);
    ::waitpid(child_.pid, nullptr, 0);
  }

  void tell(CopyTag tag, uint16_t slot, std::string text = {}, int fd = -1, bool flag = false) {
    CopyFrame frame;
    frame.tag = tag;
    frame.slot = slot;
    frame.serial = ++serial_;
    frame.flag = flag;
    frame.text = std::move(text);
    frame.streams = fd < 0 ? 0 : kCopyOut;
    std::string bytes = encode_copy_frame(frame);
    iovec data{bytes.data(), bytes.size()};
    alignas(cmsghdr) char room[CMSG_SPACE(sizeof fd)] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (fd >= 0) {
      message.msg_control = room;
      message.msg_controllen = sizeof room;
      cmsghdr* const head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof fd);
      std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
    }
    REQUIRE(::sendmsg(control_.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }

  bool answers(int within_ms) const {
    pollfd polled{control_.get(), POLLIN, 0};
    return ::poll(&polled, 1, within_ms) == 1;
  }

  CopyFrame hear() {
    std::string bytes(kMaxCopyFrame, '\0');
    REQUIRE(answers(kPatienceMs));
    const ssize_t got = ::recv(control_.get(), bytes.data(), bytes.size(), 0);
    REQUIRE(got > 0);
    Result<CopyFrame> frame = decode_copy_frame({bytes.data(), static_cast<size_t>(got)});
    REQUIRE(frame);
    return *std::move(frame);
  }

  CopyFrame ask(CopyTag tag, uint16_t slot, std::string text = {}) {
    tell(tag, slot, std::move(text));
    CopyFrame answer = hear();
    CHECK(answer.tag == CopyTag::kAnswer);
    CHECK(answer.serial == serial_);
    return answer;
  }

  /// Closes our end; how it has ended.
  int end() {
    control_.reset();
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(child_.pid), &info, WEXITED | WNOWAIT) == 0);
    return info.si_code == CLD_EXITED ? info.si_status : -1;
  }

 private:
  sys::Fd control_;
  sys::Child child_;
  uint32_t serial_ = 0;
};

std::string log_at(const std::string& path) {
  return "cri,path=" + path;
}

void put(const Pipe& pipe, std::string_view text) {
  REQUIRE(::write(pipe.write.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string logged(const std::string& path) {
  LogOptions options;
  options.path = path;
  return decode_log(LogFile(options), {}).streams[0];
}

Copier make_hands() {
  Result<Copier> hands = Copier::make();
  REQUIRE(hands);
  return *std::move(hands);
}

}  // namespace

TEST_CASE("a log copier has the whole life of a log") {
  TempDir dir;
  const Copier hands = make_hands();
  Talk talk(hands);
  const Pipe pipe = make_pipe();
  const std::string path = dir.file("deep/log");
  CHECK_FALSE(talk.ask(CopyTag::kGo, 0).failed);
  const CopyFrame prepared = talk.ask(CopyTag::kPrepare, 5, log_at(path));
  CHECK_FALSE((prepared.failed || prepared.flag));
  talk.tell(CopyTag::kStart, 5, "", pipe.read.get());
  put(pipe, "one\ntw");
  CHECK(talk.ask(CopyTag::kDrain, 5).flag);
  CHECK(logged(path) == "one\ntw");
  const CopyFrame placed = talk.ask(CopyTag::kPlace, 0, log_at(path));
  const Result<FoundLogPlace> place = decode_place(placed.text);
  REQUIRE(place);
  CHECK((place->place.rest == "log" && place->above.size() > 2));
  std::filesystem::rename(path, path + ".old");
  talk.tell(CopyTag::kReopen, 5);
  put(pipe, "o\n");
  CHECK(talk.ask(CopyTag::kDrain, 5).flag);
  CHECK(logged(path) == "o\n");
  CHECK(talk.ask(CopyTag::kFinish, 5).flag);
  talk.tell(CopyTag::kClose, 5);
  CHECK_FALSE(talk.ask(CopyTag::kRemove, 0, log_at(path)).failed);
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK(talk.end() == 0);
}

TEST_CASE("what a log copier cannot do it says, and what it has made for nothing it takes back") {
  TempDir dir;
  const Copier hands = make_hands();
  Talk talk(hands);
  talk.ask(CopyTag::kGo, 0);
  std::filesystem::create_symlink("log", dir.file("link"));
  const CopyFrame refused = talk.ask(CopyTag::kPrepare, 5, log_at(dir.file("link")));
  CHECK(refused.failed);
  CHECK(refused.text.ends_with("is a symlink; give the file's own path"));
  CHECK(talk.ask(CopyTag::kPrepare, 5, "cri,size=x").failed);
  CHECK(talk.ask(CopyTag::kPlace, 0, log_at("/proc/self/exe/log")).err == ENOTDIR);
  talk.ask(CopyTag::kPrepare, 5, log_at(dir.file("new")));
  CHECK(std::filesystem::exists(dir.file("new")));
  talk.tell(CopyTag::kUndo, 5);
  CHECK(talk.ask(CopyTag::kPrepare, 5, log_at(dir.file("other"))).flag == false);
  CHECK_FALSE(std::filesystem::exists(dir.file("new")));
  talk.tell(CopyTag::kUndo, 7);  // nobody knows that one
  CHECK(talk.ask(CopyTag::kDrain, 7).flag);
  CHECK(talk.end() == 0);
}

TEST_CASE("two log copiers never work with one journal at the same time") {
  TempDir dir;
  const Copier hands = make_hands();
  const Pipe pipe = make_pipe();
  const std::string path = dir.file("log");
  Talk first(hands);
  first.ask(CopyTag::kGo, 0);
  first.ask(CopyTag::kPrepare, 5, log_at(path));
  first.tell(CopyTag::kStart, 5, "", pipe.read.get());
  put(pipe, "one\n");
  CHECK(first.ask(CopyTag::kDrain, 5).flag);
  Talk second(hands);
  second.tell(CopyTag::kResume, 5, log_at(path), pipe.read.get());
  second.tell(CopyTag::kGo, 0);
  CHECK_FALSE(second.answers(50));
  CHECK(first.end() == 0);
  CHECK_FALSE(second.hear().failed);
  put(pipe, "two\n");
  CHECK(second.ask(CopyTag::kDrain, 5).flag);
  CHECK(logged(path) == "one\ntwo\n");
}

TEST_CASE("a journal that makes no sense is the end of a log copier, and it says so") {
  const Copier hands = make_hands();
  CHECK(::write(hands.descriptors().staging_write, "x", 1) == 1);
  Talk talk(hands);
  talk.tell(CopyTag::kGo, 0);
  const CopyFrame last = talk.hear();
  CHECK(last.tag == CopyTag::kTrouble);
  CHECK(last.text.find("that are nobody's") != std::string::npos);
  CHECK(talk.end() == kCopyJournalBroken);
}

}  // namespace gantry::copy_test
