#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "cli/commands.h"
#include "cli/version.h"
#include "engine/cgroup_delegated.h"
#include "engine/slots.h"
#include "engine/supervisor/client.h"
#include "engine/supervisor/definition.h"
#include "engine/supervisor/handover.h"
#include "engine/supervisor/keeper_start.h"
#include "engine/supervisor/paths.h"
#include "engine/supervisor/supervisor.h"
#include "io/timer.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr int64_t kAnswerMs = 5'000, kHandoverMs = 20'000;

constexpr std::array<Flag, 6> kFlags{{
    {"state-dir", "", Kind::kText, "DIR",
     "where definitions and logs are kept, also across boots (default: /var/lib/gantry)"},
    {"socket", "", Kind::kText, "PATH", "where clients connect (default: ROOT/@supervisor/socket)"},
    {"stop-on-exit", "", Kind::kBool, "", "on SIGTERM stop all containers first; else they live on"},
    {"cgroup-parent", "", Kind::kText, "PATH",
     "where containers without an absolute cgroupsPath get their cgroups (default: beside the supervisor's own)"},
    {"parallel", "", Kind::kInt, "N", "how many containers are created at the same time, from 1 to 256 (default: 8)"},
    {"under-keeper", "", Kind::kBool, "", "how the keeper starts the supervisor itself", true},
}};

Result<std::string> cgroup_parent(std::string_view path) {
  const std::string clean = clean_path(path);
  if (!path.starts_with('/') || clean == "/")
    return fail(cat("--cgroup-parent ", path, ": must be an absolute path below the root cgroup, such as /containers"));
  return clean;
}

Result<SupervisorOptions> supervisor_options(const Call& call) {
  SupervisorOptions options;
  options.root = call.globals.root;
  options.program = call.globals.program;
  options.version = std::string(version_of(options.program));
  options.state_dir = call.options.given("state-dir") ? call.options.text("state-dir") : kDefaultStateDir;
  options.socket = call.options.given("socket") ? call.options.text("socket") : default_socket(options.root);
  options.stop_on_exit = call.options.on("stop-on-exit");
  GANTRY_LET(options.state_dir, sys::absolute_path(options.state_dir));
  GANTRY_LET(options.socket, sys::absolute_path(options.socket));
  if (call.options.given("cgroup-parent")) {
    GANTRY_LET(options.cgroup_parent, cgroup_parent(call.options.text("cgroup-parent")));
  }
  const int64_t parallel = call.options.number("parallel").value_or(options.parallel);
  if (parallel < 1 || parallel > 256) return fail(cat("--parallel ", parallel, ": must be from 1 to 256"));
  options.parallel = static_cast<int>(parallel);
  return options;
}

/// sd_watchdog_enabled(3). The process that the manager has started is the keeper.
std::chrono::microseconds watchdog_of_manager() {
  constexpr int64_t kShortest = 50'000, kLongest = int64_t{365} * 24 * 3600 * 1'000'000;
  const char* const interval = std::getenv("WATCHDOG_USEC");
  const char* const pid = std::getenv("WATCHDOG_PID");
  if (interval == nullptr || (pid != nullptr && pid != cat(::getppid()))) return {};
  const auto number = parse_number<int64_t>(interval);
  if (!number || *number <= 0) return {};
  return std::chrono::microseconds(std::clamp(*number, kShortest, kLongest));
}

/// This command line, as the keeper is to repeat it.
Result<std::vector<std::string>> own_command_line() {
  GANTRY_LET(const std::string words, sys::read_file("/proc/self/cmdline", 1u << 20));
  std::vector<std::string> args;
  for (const std::string_view word : split(std::string_view(words).substr(0, words.size() - 1), '\0'))
    args.emplace_back(word);
  args.emplace_back("--under-keeper");
  return args;
}

/// The environment without what is meant for this very process.
std::vector<std::string> own_environment() {
  std::vector<std::string> env;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    if (!text.starts_with("NOTIFY_SOCKET=") && !text.starts_with("LISTEN_")) env.emplace_back(text);
  }
  return env;
}

Result<std::string> own_program() {
  std::array<char, 4096> path;
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length < 0) return fail_errno(errno, "readlink /proc/self/exe");
  return std::string(path.data(), static_cast<size_t>(length));
}

/// Whether somebody answers there; a connection that breaks was in the queue of one that has died.
io::Task<Result<bool>> is_served(io::Loop& loop, SupervisorAddress address) {
  const io::Deadline deadline = io::Deadline::in_ms(kAnswerMs);
  Result<Client> client = co_await Client::connect(loop, address, deadline);
  if (!client && Client::is_absent(client.error())) co_return false;
  if (!client) co_return forward(std::move(client));
  api::Call question = api::Status{};
  Result<api::Reply> reply = co_await client->call(std::move(question), std::vector<int>(), deadline);
  if (!reply && client->lost() && !io::is_timeout(reply.error())) co_return false;
  if (!reply) co_return forward(std::move(reply));
  co_return true;
}

/// A socket of our own at the path. One that has just been killed may take a moment to let go of it.
io::Task<Result<io::Listener>> claim_socket(io::Loop& loop, std::string path) {
  const io::Deadline limit = io::Deadline::in_ms(kAnswerMs);
  for (;;) {
    Result<io::Listener> made = co_await listen_at(loop, path);
    if (made || made.error().sys_errno != EADDRINUSE || limit.expired()) co_return made;
    SupervisorAddress address;
    address.socket = path;
    Result<bool> served = co_await is_served(loop, std::move(address));
    if (!served) co_return forward(std::move(served), cat("the supervisor at ", path, " does not answer"));
    if (*served) co_return made;
    (void)co_await io::sleep_for(loop, std::chrono::milliseconds(10));
  }
}

/// Everything that a keeper before us has left; nullopt: nothing.
io::Task<Result<std::optional<Inheritance>>> inherit(io::Loop& loop, std::string socket) {
  const io::Deadline limit = io::Deadline::in_ms(kHandoverMs);
  for (;;) {
    Result<std::optional<Inheritance>> taken = co_await ask_for_handover(loop, handover_socket(socket), limit);
    if (taken) co_return std::move(taken);
    if (taken.error().sys_errno == EBUSY)
      co_return std::unexpected(Error{cat(taken.error().text, " at ", socket), EADDRINUSE});
    // Somebody else was faster, or it died: look again.
    if (taken.error().sys_errno != ECONNRESET || limit.expired())
      co_return forward(std::move(taken), cat("what the supervisor at ", socket, " has left cannot be taken over"));
    (void)co_await io::sleep_for(loop, std::chrono::milliseconds(10));
  }
}

/// Containers remember the path: verbs find their supervisor by it.
Result<> check_address(const sys::Fd& listener, const std::string& socket) {
  sockaddr_un address{};
  socklen_t size = sizeof address;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) < 0)
    return fail_errno(errno, "LISTEN_FDS: getsockname");
  const std::string path(address.sun_path, ::strnlen(address.sun_path, sizeof address.sun_path));
  if (path == socket) return {};
  return fail(cat("LISTEN_FDS: the socket is ", path.empty() ? "not a path" : path, ", and not ", socket,
                  ": make them the same (--socket)"));
}

/// The socket clients connect to: a service manager's (LISTEN_FDS), or one of our own.
Result<sys::Fd> listening_socket(const SupervisorOptions& options) {
  io::Loop loop;
  if (listen_fds() > 0) {
    if (listen_fds() != 1) return fail(cat("LISTEN_FDS=", listen_fds(), ": one socket is expected"));
    GANTRY_LET(const io::Listener given, adopt_listener(loop, sys::Fd(3)));
    GANTRY_TRY(check_address(given.fd(), options.socket));
    return sys::Fd(::fcntl(given.fd().get(), F_DUPFD_CLOEXEC, 3));
  }
  GANTRY_LET(const io::Listener made, loop.run(claim_socket(loop, options.socket)));
  return sys::Fd(::fcntl(made.fd().get(), F_DUPFD_CLOEXEC, 3));
}

KeptSlot& listener_slot(std::vector<KeptSlot>& slots) {
  for (KeptSlot& slot : slots)
    if (slot.slot == kListenerSlot) return slot;
  KeptSlot& slot = slots.emplace_back();
  slot.slot = kListenerSlot;
  slot.kind = static_cast<uint32_t>(HeldKind::kListener);
  return slot;
}

/// Room for whatever comes; what the limit was is for the launchers.
void raise_files(KeeperOptions& keeper) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) < 0) return;
  keeper.nofile_soft = files.rlim_cur;
  keeper.nofile_hard = files.rlim_max;
  files.rlim_cur = files.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &files);
}

/// What would fail in every supervisor again and again is told before there is a keeper. `takes_over`: somebody has the
/// right to the definitions until he has given us all.
Result<> check_definitions(io::Loop& loop, const SupervisorOptions& options, bool takes_over) {
  auto store = DefinitionStore::open(options.state_dir);
  if (!store) return forward(std::move(store), cat("--state-dir ", options.state_dir));
  if (takes_over) return {};
  return loop.run(own_definitions(loop, *store));
}

Result<int> run_supervise(const Call& call) {
  GANTRY_LET(SupervisorOptions options, supervisor_options(call));
  if (call.options.on("under-keeper")) {
    options.watchdog = watchdog_of_manager();
    return run_supervisor(std::move(options));
  }
  GANTRY_TRY(enter_own_sub_cgroup());
  KeeperOptions keeper;
  GANTRY_LET(keeper.program, own_program());
  GANTRY_LET(keeper.args, own_command_line());
  keeper.env = own_environment();
  if (const char* notify = std::getenv("NOTIFY_SOCKET")) keeper.notify_socket = notify;
  raise_files(keeper);
  io::Loop loop;
  GANTRY_LET(std::optional<Inheritance> left, loop.run(inherit(loop, options.socket)));
  GANTRY_TRY(check_definitions(loop, options, left.has_value()));
  std::vector<sys::Fd> held;
  if (left) {
    keeper.table = std::move(left->table);
    keeper.slots = std::move(left->slots);
    keeper.handover = std::move(left->peer);
    held = std::move(left->fds);
  }
  int& clients = listener_slot(keeper.slots).fds[init::kClientsSocket];
  sys::Fd listener;
  if (clients < 0 || listen_fds() > 0) {
    GANTRY_LET(listener, listening_socket(options));
    clients = listener.get();
  }
  return std::unexpected(become_keeper(std::move(keeper)));
}

}  // namespace

constinit const Command kSupervise{
    .name = "supervise",
    .summary = "run many containers from one process, in the foreground",
    .arguments = "",
    .description =
        "Prepares the ground for up, wait, stop and rm. The process that is started becomes the keeper, the parent of\n"
        "all containers; the supervisor is its child and may be killed at any moment: the keeper starts another one,\n"
        "and no container, exit status or line of output is lost.\n"
        "SIGTERM ends both; containers live on unless --stop-on-exit is given: a small process (gantry-holder) keeps\n"
        "what they depend on until the next supervise takes over. SIGHUP starts the supervisor anew, from the program\n"
        "file as it is then. When the keeper is killed the supervisor goes on, but starts nothing: supervise again.\n"
        "# gantry supervise &\n"
        "# gantry --root /run/other supervise --state-dir /var/lib/other    a second one beside it",
    .flags = kFlags,
    .count = {0, 0},
    .changes_system = true,
    .for_supervised = true,
    .run = run_supervise,
};

}  // namespace gantry::cli
