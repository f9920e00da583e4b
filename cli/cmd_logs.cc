#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <ctime>

#include "cli/commands.h"
#include "cli/log_output.h"
#include "cli/supervised.h"
#include "engine/state_store.h"
#include "engine/supervisor/client.h"
#include "engine/supervisor/definition.h"
#include "engine/supervisor/log_reader.h"
#include "engine/verbs.h"
#include "io/readable.h"
#include "io/scope.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr size_t kFlushBytes = size_t{64} << 10;

constexpr std::array<Flag, 7> kFlags{{
    {"follow", "f", Kind::kBool, "", "go on with what comes, until the container has ended for good"},
    {"tail", "n", Kind::kInt, "N", "only the last N lines"},
    {"since", "", Kind::kText, "TIME", "only what came since then: 2026-08-19T12:34:56Z, 30s, 10m, 2h, 1d"},
    {"timestamps", "t", Kind::kBool, "", "show when each line came (UTC)"},
    {"reopen", "", Kind::kBool, "", "show nothing; have the supervisor open the files anew, after you have moved them"},
    kSocketFlag,
    kStateDirFlag,
}};

Result<> write_fd(int fd, std::string& text) {
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(fd, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, fd == STDOUT_FILENO ? "write /dev/stdout" : "write /dev/stderr");
    rest.remove_prefix(static_cast<size_t>(written));
  }
  text.clear();
  return {};
}

/// Where a container's log is, and where its definition.
struct Source {
  std::string id, state_dir;
  LogOptions options;
};

bool has_ended(const Source& source) {
  const auto store = DefinitionStore::open(source.state_dir);
  if (!store) return true;
  const auto loaded = store->load(source.id);
  return loaded ? loaded->definition.ended() : loaded.error().sys_errno == ENOENT;
}

/// Shows one container's log.
class LogShow {
 public:
  LogShow(io::Loop& loop, Source source, LogReader reader, LogPrinter::Look look)
      : loop_(loop), source_(std::move(source)), reader_(std::move(reader)), printer_(std::move(look)) {}

  /// What there is now.
  io::Task<Result<>> show() {
    std::string out, err;
    for (;;) {
      GANTRY_CO_LET(const std::optional<LogRecord> record, reader_.next());
      if (record) printer_.add(*record, out, err);
      if (record && out.size() + err.size() < kFlushBytes) continue;
      GANTRY_CO_TRY(write_fd(STDOUT_FILENO, out));
      GANTRY_CO_TRY(write_fd(STDERR_FILENO, err));
      if (!record) co_return Result<>();
      co_await io::yield_now(loop_);
    }
  }

  /// And what comes, until nothing more can.
  io::Task<Result<>> follow() {
    GANTRY_CO_LET(const sys::Fd news, watch_definition());
    for (;;) {
      // Asked before the rest is read: an end is on record only after the last bytes are.
      const bool ended = has_ended(source_);
      reader_.drain_watch();
      GANTRY_CO_TRY(co_await show());
      if (ended) co_return Result<>();
      const io::Deadline never = io::Deadline::never();
      auto log = io::wait_fd(loop_, reader_.watch().get(), POLLIN, never);
      auto definition = io::wait_fd(loop_, news.get(), POLLIN, never);
      (void)co_await io::race(loop_, std::move(log), std::move(definition));
      drain(news);
    }
  }

 private:
  Result<sys::Fd> watch_definition() const {
    sys::Fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!watch) return fail_errno(errno, "inotify_init (see /proc/sys/fs/inotify/max_user_instances)");
    const std::string path = cat(source_.state_dir, "/", source_.id);
    constexpr uint32_t kEvents = IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR;
    if (::inotify_add_watch(watch.get(), path.c_str(), kEvents) < 0) return fail_path(errno, "watch", path);
    return watch;
  }
  static void drain(const sys::Fd& watch) {
    std::array<char, 4096> events;
    while (::read(watch.get(), events.data(), events.size()) > 0) continue;
  }

  io::Loop& loop_;
  Source source_;
  LogReader reader_;
  LogPrinter printer_;
};

/// The log of a container that has a definition, or of one that was removed but for its log.
Result<Source> find_source(const Call& call, const StateStore& states, const std::string& id) {
  if (const std::string refusal = check_id(id); !refusal.empty()) return fail(refusal);
  SupervisedPlace otherwise;
  GANTRY_LET(otherwise.state_dir, state_dir(call));
  Source source{id, otherwise.state_dir, {}};
  if (!call.options.given("state-dir")) source.state_dir = place_of(states, id, otherwise).state_dir;
  const std::string directory = cat(source.state_dir, "/", id);
  if (::access(directory.c_str(), F_OK) < 0)
    return fail(errno == ENOENT ? "container does not exist, or has no log" : cat(directory, ": ", errno_text(errno)));
  GANTRY_LET(const DefinitionStore store, DefinitionStore::open(source.state_dir));
  const auto loaded = store.load(id);
  if (!loaded && loaded.error().sys_errno != ENOENT) return std::unexpected(loaded.error());
  GANTRY_LET(source.options, parse_log_options(loaded ? loaded->definition.log : ""));
  if (source.options.driver == LogDriver::kNone) return fail("has no log: it was started with --log none");
  if (source.options.path.empty()) source.options.path = cat(directory, "/container.log");
  return source;
}

Result<LogQuery> query_of(const Parsed& options) {
  LogQuery query;
  if (const auto tail = options.number("tail")) {
    if (*tail < 0) return fail(cat("--tail ", *tail, ": must not be negative"));
    query.tail = static_cast<uint64_t>(*tail);
  }
  if (options.given("since")) {
    GANTRY_LET(query.since, parse_since(options.text("since"), ::time(nullptr)));
  }
  return query;
}

class AllLogs {
 public:
  AllLogs(io::Loop& loop, const Call& call, LogQuery query) : loop_(loop), call_(call), query_(std::move(query)) {}

  /// In the order given, or when they are followed as it comes.
  io::Task<> show() {
    for (const std::string& id : call_.options.args) open(id);
    io::Scope scope(loop_);
    const bool follow = call_.options.on("follow");
    for (auto& [id, log] : logs_) {
      if (follow) {
        scope.spawn(one(id, log->follow()));
        continue;
      }
      auto showing = log->show();
      co_await one(id, std::move(showing));
    }
    (void)co_await scope.join();
  }

  bool failed() const { return failed_; }

 private:
  void open(const std::string& id) {
    const bool follow = call_.options.on("follow");
    auto source = find_source(call_, states_, id);
    if (!source) return complain(id, source.error());
    LogQuery query = query_;
    query.path = source->options.path;
    query.max_files = source->options.max_files;
    auto reader = LogReader::open(std::move(query), follow);
    if (!reader) return complain(id, reader.error());
    LogPrinter::Look look{call_.options.args.size() > 1 ? cat(id, " | ") : "", call_.options.on("timestamps")};
    logs_.emplace_back(id, std::make_unique<LogShow>(loop_, std::move(*source), std::move(*reader), std::move(look)));
  }
  void complain(const std::string& id, const Error& error) {
    failed_ = true;
    // A reader that has seen enough needs no message: `logs web | head`.
    if (error.sys_errno != EPIPE) log_error(cat(id, ": ", error.text));
  }
  io::Task<> one(std::string id, io::Task<Result<>> showing) {
    const Result<> shown = co_await std::move(showing);
    if (!shown) complain(id, shown.error());
  }

  io::Loop& loop_;
  const Call& call_;
  LogQuery query_;
  StateStore states_{call_.globals.root, false};
  std::vector<std::pair<std::string, std::unique_ptr<LogShow>>> logs_;
  bool failed_ = false;
};

/// For those who rotate logs themselves.
class ReopenJobs final : public Jobs {
 public:
  ReopenJobs(io::Loop& loop, const Call& call, SupervisorAddress address)
      : loop_(loop), call_(call), address_(std::move(address)) {}

  io::Task<> run(size_t index) override {
    const std::string& id = call_.options.args[index];
    api::Call question = api::ReopenLog{id};
    std::vector<int> none;
    const Patience patience;
    const Result<api::Reply> reply =
        co_await call_patiently(loop_, address_, std::move(question), std::move(none), patience);
    if (reply) co_return;
    log_error(cat(id, ": ", reply.error().text));
    failed_ = true;
  }

  bool failed() const { return failed_; }

 private:
  io::Loop& loop_;
  const Call& call_;
  SupervisorAddress address_;
  bool failed_ = false;
};

Result<int> reopen_logs(const Call& call) {
  GANTRY_LET(SupervisorAddress address, supervisor_address(call));
  io::Loop loop;
  ReopenJobs jobs(loop, call, std::move(address));
  loop.run(run_jobs(loop, jobs, call.options.args.size()));
  return jobs.failed() ? 1 : 0;
}

Result<int> run_logs(const Call& call) {
  if (call.options.on("reopen")) return reopen_logs(call);
  GANTRY_LET(LogQuery query, query_of(call.options));
  io::Loop loop;
  AllLogs logs(loop, call, std::move(query));
  loop.run(logs.show());
  return logs.failed() ? 1 : 0;
}

}  // namespace

constinit const Command kLogs{
    .name = "logs",
    .summary = "show what supervised containers have written",
    .arguments = "ID...",
    .description =
        "Reads the log files and needs no supervisor. What the container wrote to its stdout goes to\n"
        "stdout, byte for byte, and the rest to stderr. With several IDs each line begins with \"ID | \".",
    .flags = kFlags,
    .count = {1, -1},
    .for_supervised = true,
    .run = run_logs,
};

}  // namespace gantry::cli
