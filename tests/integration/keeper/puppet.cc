// A supervisor on strings: it does what a line from the test says (words between tabs) and
// answers with a line.
//
// usage: puppet become SOCKET ROOT [PATH]   the process becomes the keeper, which starts `puppet serve SOCKET ROOT`
//                                           (from PATH, when given); $PUPPET_KEEPS waits in a pipe in slot 9
//        puppet serve SOCKET ROOT           connects to SOCKET, says who it is, and obeys until the end of it
// Answers are JSON: {"error": text} or what was asked for.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <list>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/state_store.h"
#include "engine/supervisor/keeper_link.h"
#include "engine/supervisor/keeper_start.h"
#include "engine/verbs.h"
#include "io/scope.h"
#include "io/stream.h"
#include "sys/proc.h"
#include "sys/text.h"
#include "tests/integration/keeper/table.h"
#include "tests/integration/keeper/tap.h"

extern char** environ;  // NOLINT: environ(7)

namespace gantry::puppet {
namespace {

constexpr uint32_t kPipeRead = 0, kPipeWrite = 1;

using Words = std::vector<std::string>;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

template <class T>
T number(const Words& words, size_t index, T otherwise = 0) {
  return index < words.size() ? parse_number<T>(words[index]).value_or(otherwise) : otherwise;
}

Result<sys::Fd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  sys::Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return fail_path(errno, "connect", path);
  return socket;
}

class Puppet {
 public:
  Puppet(sys::Fd control, Table table, std::string socket, std::string root)
      : control_(std::move(control)),
        table_(table),
        socket_(std::move(socket)),
        root_(root),
        store_(std::move(root), true),
        tap_(loop_, sys::Fd(init::kSupervisorSocketFd)),
        link_(loop_, tap_.link_end()),
        spawner_(link_),
        exits_(loop_, link_),
        env_{loop_, store_, spawner_, exits_, "puppet", 0} {
    for (uint32_t i = 0; i < table_.head().used; ++i)
      if (table_.slot(i).state != init::SlotState::kFree)
        std::copy_n(table_.slot(i).fds, init::kKeeperFds, held_[i].begin());
  }

  Result<> run() { return loop_.run(serve()); }

 private:
  io::Task<Result<>> serve();
  io::Task<> hear();
  io::Task<Result<>> answer(std::string text);
  io::Task<Result<>> obey(Words words, json::Writer& out);
  io::Task<Result<>> verb(Words words, json::Writer& out);
  io::Task<Result<>> hold(Words words, json::Writer& out);
  io::Task<Result<>> hold_many(Words words);
  io::Task<Result<>> time_spawns(Words words, json::Writer& out);
  Result<> hand_over(const Words& words);
  Result<> garbage(const Words& words);
  void describe_exits(json::Writer& out) const;

  io::Loop loop_;
  sys::Fd control_;
  Table table_;
  std::string socket_, root_;
  StateStore store_;
  Tap tap_;
  KeeperLink link_;
  KeeperSpawner spawner_;
  KeeperExits exits_;
  Env env_;
  std::map<pid_t, sys::Fd> pidfds_;
  std::map<uint32_t, std::array<int, init::kKeeperFds>> held_;  ///< by their numbers here
};

io::Task<> Puppet::hear() {
  Result<> ended = co_await link_.listen();
  if (!ended) std::fprintf(stderr, "puppet: %s\n", ended.error().text.c_str());
}

io::Task<Result<>> Puppet::answer(std::string text) {
  text += '\n';
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  const io::Deadline never = io::Deadline::never();
  Result<> written = co_await io::write_all(loop_, control_.get(), bytes, never);
  co_return written;
}

io::Task<Result<>> Puppet::serve() {
  io::Scope background(loop_);
  background.spawn(tap_.run());
  background.spawn(hear());
  json::Writer hello;
  table_.describe(hello);
  std::string greeting = hello.take();
  GANTRY_CO_TRY(co_await answer(std::move(greeting)));
  std::string pending;
  std::array<std::byte, 4096> chunk;
  const std::span<std::byte> into(chunk);
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    Result<size_t> got = co_await io::read_some(loop_, control_.get(), into, never);
    if (!got || *got == 0) break;
    pending.append(reinterpret_cast<const char*>(chunk.data()), *got);
    for (size_t end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
      Words words;
      for (const std::string_view word : split(std::string_view(pending).substr(0, end), '\t'))
        words.emplace_back(word);
      pending.erase(0, end + 1);
      json::Writer out;
      out.begin_object();
      Result<> done = co_await obey(std::move(words), out);
      if (!done) out.member("error", done.error().text);
      out.end_object();
      std::string text = out.take();
      GANTRY_CO_TRY(co_await answer(std::move(text)));
    }
  }
  Result<> ended = co_await background.cancel_and_join();
  co_return ended;
}

io::Task<Result<>> Puppet::verb(Words words, json::Writer& out) {
  if (words[0] == "create") {
    CreateOptions options;
    options.id = words[1];
    options.bundle = words[2];
    Result<> made = co_await create(env_, std::move(options));
    if (!made) co_return made;
    GANTRY_CO_LET(const ContainerView view, state(env_, words[1]));
    GANTRY_CO_LET(pidfds_[view.pid], sys::pidfd_open(view.pid));
    out.member("pid", view.pid);
    co_return Result<>();
  }
  if (words[0] == "exec") {
    ExecOptions options;
    options.id = words[1];
    options.args.assign(words.begin() + 2, words.end());
    Result<int> status = co_await exec(env_, std::move(options));
    if (!status) co_return forward(std::move(status));
    out.member("status", *status);
    co_return Result<>();
  }
  if (words[0] == "start") {
    Result<> done = co_await start(env_, words[1]);
    co_return done;
  }
  Result<> done = co_await remove(env_, words[1], true);
  co_return done;
}

/// hold SLOT OWNER PID [pipe] [pidfd]
io::Task<Result<>> Puppet::hold(Words words, json::Writer& out) {
  KeeperHold request;
  request.slot = number<uint32_t>(words, 1);
  request.owner = number<uint64_t>(words, 2);
  request.pid = number<pid_t>(words, 3);
  request.kind = 7;
  auto& held = held_.try_emplace(request.slot, request.fds).first->second;
  for (size_t i = 4; i < words.size(); ++i) {
    if (words[i] == "pidfd") request.fds[init::kHeldPidfd] = pidfds_[request.pid].get();
    if (words[i] != "pipe") continue;
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0) co_return fail_errno(errno, "pipe2");
    request.fds[kPipeRead] = held[kPipeRead] = ends[0];
    request.fds[kPipeWrite] = held[kPipeWrite] = ends[1];
  }
  if (request.fds[init::kHeldPidfd] >= 0) held[init::kHeldPidfd] = request.fds[init::kHeldPidfd];
  Result<> done = co_await link_.hold(request);
  out.member("slot", request.slot);
  co_return done;
}

/// many FIRST COUNT: slots with four descriptors each
io::Task<Result<>> Puppet::hold_many(Words words) {
  const auto first = number<uint32_t>(words, 1), count = number<uint32_t>(words, 2);
  const sys::Fd memory(::memfd_create("held", MFD_CLOEXEC));
  for (uint32_t i = 0; i < count; ++i) {
    KeeperHold request;
    request.slot = first + i;
    request.owner = request.slot;
    request.fds = {memory.get(), memory.get(), memory.get(), memory.get()};
    GANTRY_CO_TRY(co_await link_.hold(request));
  }
  co_return Result<>();
}

/// spawns COUNT [CGROUP]: time from the request to the answer, for launchers that find no Plan and end
io::Task<Result<>> Puppet::time_spawns(Words words, json::Writer& out) {
  const sys::Fd plan(::memfd_create("plan", MFD_CLOEXEC));
  if (::ftruncate(plan.get(), 64) < 0) co_return fail_errno(errno, "ftruncate");
  sys::Fd cgroup;
  if (words.size() > 2) cgroup = sys::Fd(::open(words[2].c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  std::vector<int64_t> took;
  bool in_cgroup = words.size() > 2;
  for (int i = number<int>(words, 1); i > 0; --i) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) co_return fail_errno(errno, "socketpair");
    const sys::Fd ours(ends[0]), theirs(ends[1]);
    sys::SpawnFds fds;
    fds.stdio = {2, 2, 2};
    fds.sync = theirs.get();
    fds.plan = plan.get();
    fds.cgroup = cgroup ? cgroup.get() : -1;
    const int64_t from = now_ns();
    Result<sys::Child> child = co_await link_.spawn(fds);
    if (!child) co_return forward(std::move(child));
    took.push_back(now_ns() - from);
    in_cgroup = in_cgroup && child->in_cgroup;
    const io::Deadline deadline = io::Deadline::in_ms(5000);
    Result<ExitStatus> ended = co_await exits_.wait(child->pid, child->pidfd.get(), deadline);
    if (!ended) co_return forward(std::move(ended));
  }
  out.list("took_ns", took).member("in_cgroup", in_cgroup);
  co_return Result<>();
}

/// garbage KIND: raw datagrams that no keeper should mind
Result<> Puppet::garbage(const Words& words) {
  init::KeeperFrame frame{};
  frame.magic = init::kKeeperFrameMagic;
  size_t size = sizeof frame;
  const int kind = number<int>(words, 1);
  if (kind == 0) size = 0;
  if (kind == 1) size = 7;
  if (kind == 2) frame.magic = 1;
  if (kind == 3) frame.tag = static_cast<init::KeeperTag>(99);
  if (kind == 4) frame.tag = init::KeeperTag::kExited;
  if (kind == 5) frame.tag = init::KeeperTag::kSpawn;  // without descriptors
  if (kind == 6) {
    frame.tag = init::KeeperTag::kHold;
    frame.slot = ~0u;
  }
  if (kind == 7) {
    frame.tag = init::KeeperTag::kNotify;
    frame.kind = 77;
  }
  if (::send(init::kSupervisorSocketFd, &frame, size, MSG_NOSIGNAL) < 0) return fail_errno(errno, "send");
  return {};
}

/// Becomes the keeper of a table whose keeper is dead, under the same pid.
Result<> Puppet::hand_over(const Words& words) {
  KeeperOptions options;
  options.args = {"puppet", "serve", socket_, root_};
  options.table = sys::Fd(::fcntl(init::kSupervisorTableFd, F_DUPFD_CLOEXEC, 3));
  for (uint32_t i = 0; i < table_.head().used; ++i) {
    if (table_.slot(i).state == init::SlotState::kFree) continue;
    KeptSlot kept;
    kept.slot = i;
    kept.fds = held_[i];
    options.slots.push_back(kept);
  }
  std::array<char, 4096> self{};
  if (::readlink("/proc/self/exe", self.data(), self.size() - 1) < 0) return fail_errno(errno, "readlink");
  options.program = self.data();
  return std::unexpected(become_keeper(std::move(options)));
}

void Puppet::describe_exits(json::Writer& out) const {
  out.key("exits").begin_array();
  for (const init::KeeperFrame& exit : tap_.exits()) {
    const bool known = (exit.flags & init::kExitUnknown) == 0;
    out.begin_object().member("slot", exit.slot).member("pid", exit.pid).member("known", known);
    out.member("code", known ? exit.code : -1).member("signal", known ? exit.signal : -1);
    out.end_object();
  }
  out.end_array();
}

io::Task<Result<>> Puppet::obey(Words words, json::Writer& out) {
  const std::string& what = words[0];
  if (what == "create" || what == "start" || what == "exec" || what == "delete") {
    Result<> done = co_await verb(std::move(words), out);
    co_return done;
  }
  if (what == "hold") {
    Result<> done = co_await hold(std::move(words), out);
    co_return done;
  }
  if (what == "many") {
    Result<> done = co_await hold_many(std::move(words));
    co_return done;
  }
  if (what == "spawns") {
    Result<> done = co_await time_spawns(std::move(words), out);
    co_return done;
  }
  if (what == "release") {
    Result<> done = co_await link_.release(number<uint32_t>(words, 1));
    co_return done;
  }
  if (what == "wait") {
    const auto pid = number<pid_t>(words, 1);
    const io::Deadline deadline = io::Deadline::in_ms(5000);
    Result<ExitStatus> ended = co_await exits_.wait(pid, pidfds_[pid].get(), deadline);
    if (!ended) co_return forward(std::move(ended));
    out.member("code", ended->code).member("signal", ended->signal);
    co_return Result<>();
  }
  if (what == "watch") {
    GANTRY_CO_LET(pidfds_[number<pid_t>(words, 1)], sys::pidfd_open(number<pid_t>(words, 1)));
  }
  if (what == "notify") {
    const auto which = static_cast<init::KeeperNotify>(number<uint32_t>(words, 1));
    Result<> done = co_await link_.notify(which);
    co_return done;
  }
  if (what == "leave") {
    const size_t before = tap_.given();
    GANTRY_CO_TRY(co_await link_.leave());
    while (tap_.given() == before) (void)co_await io::yield_now(loop_);
    ::_exit(number<int>(words, 1));
  }
  if (what == "exit") ::_exit(number<int>(words, 1));
  if (what == "garbage") co_return garbage(words);
  if (what == "become") co_return hand_over(words);
  if (what == "exits") describe_exits(out);
  if (what == "gone") out.member("gone", link_.gone().is_set());
  if (what == "table") {
    out.key("table");
    table_.describe(out);
  }
  if (what == "write" || what == "read") {
    const auto& fds = held_[number<uint32_t>(words, 1)];
    std::array<char, 256> bytes{};
    const ssize_t size = what == "write" ? ::write(fds[kPipeWrite], words[2].data(), words[2].size())
                                         : ::read(fds[kPipeRead], bytes.data(), bytes.size());
    if (size < 0) co_return fail_errno(errno, what);
    out.member("text", std::string_view(bytes.data(), what == "read" ? static_cast<size_t>(size) : 0));
  }
  co_return Result<>();
}

Result<> serve_from(const std::string& socket, const std::string& root) {
  GANTRY_LET(Table table, Table::open());
  GANTRY_LET(sys::Fd control, connect_to(socket));
  Puppet puppet(std::move(control), table, socket, root);
  return puppet.run();
}

Error become_from(int argc, char** argv) {
  KeeperOptions options;
  std::array<char, 4096> self{};
  if (::readlink("/proc/self/exe", self.data(), self.size() - 1) < 0) return Error{"readlink", errno};
  options.program = argc > 4 ? argv[4] : self.data();
  options.args = {"puppet", "serve", argv[2], argv[3]};
  for (char** each = environ; *each != nullptr; ++each) options.env.emplace_back(*each);
  if (const char* const notify = std::getenv("NOTIFY_SOCKET")) options.notify_socket = notify;
  if (const char* const text = std::getenv("PUPPET_KEEPS")) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) < 0 || ::write(ends[1], text, std::strlen(text)) < 0) return Error{"pipe2", errno};
    KeptSlot kept;
    kept.slot = 9;
    kept.owner = 5;
    kept.fds[kPipeRead] = ends[0];
    kept.fds[kPipeWrite] = ends[1];
    options.slots.push_back(kept);
  }
  return become_keeper(std::move(options));
}

}  // namespace
}  // namespace gantry::puppet

int main(int argc, char** argv) {
  namespace puppet = gantry::puppet;
  const std::string_view job = argc >= 4 ? argv[1] : "";
  if (job == "become") {
    const gantry::Error why = puppet::become_from(argc, argv);
    std::fprintf(stderr, "puppet: %s\n", why.text.c_str());
    return 1;
  }
  if (job != "serve") return 2;
  ::fcntl(gantry::init::kSupervisorSocketFd, F_SETFD, FD_CLOEXEC);
  ::fcntl(gantry::init::kSupervisorTableFd, F_SETFD, FD_CLOEXEC);
  const auto done = puppet::serve_from(argv[2], argv[3]);
  if (!done) std::fprintf(stderr, "puppet: %s\n", done.error().text.c_str());
  return done ? 0 : 1;
}
