// Drives the verbs through a Spawner whose parent is another process, while one container's create hangs in a mount.
//
// usage: foster seam ROOT BUNDLES KEY=VALUE...     (it finds the foster at kSupervisorSocketFd)
//   beats=ID,ID,...     containers that write heartbeats to BUNDLES/ID/rootfs/beat
//   churns=ID,ID,...    containers that go through create, start, exec, kill, delete; rounds=N times
//   hung=ID             its create hangs until it is cancelled or killed, or `fuse` is
//   hung_cgroup=DIR     where its init is looked for
//   control=FIFO        heartbeats of a process outside: how busy the host is
//   asked=FILE          appears when the hung file system has a request
//   fuse=PID            the hung file system
//   end=cancel|kill     how the hung create ends; when that is not enough within a second, by ending `fuse`
//   patience=MS         instead of that second; what create could not undo is removed when `fuse` has ended
// Prints one JSON object. Exit status 0 unless it could not go on; what happened is for the caller to judge.
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/json_write.h"
#include "engine/state_store.h"
#include "engine/supervisor/keeper_link.h"
#include "engine/verbs.h"
#include "io/scope.h"
#include "io/timer.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/text.h"
#include "tests/integration/seam/beats.h"

namespace gantry::seam {
namespace {

constexpr int64_t kStepMs = 20'000;  // far beyond what any step takes
constexpr int64_t kPollMs = 5;

struct Options {
  std::string root, bundles;
  std::vector<std::string> beats, churns;
  int rounds = 1;
  std::string hung, hung_cgroup, control, asked, end = "cancel";
  pid_t fuse = 0;
  int64_t patience_ms = 1'000;  // for a create that was told to end, before `fuse` is
};

/// How a container's init lived and ended.
struct InitReport {
  std::string id;
  pid_t pid = 0, parent = 0;
  int code = -1, signal = -1;
};

struct HungReport {
  bool hung_during_churn = false;                ///< it had not returned when all the others were done
  bool needed_abort = false;                     ///< what `end` says was not enough
  bool state_left = false, cgroup_left = false;  ///< when create returned
  int64_t took_ns = 0;                           ///< from the first attempt to end it
  std::string error;                             ///< what create said; empty: it succeeded
};

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  if (text.empty()) return words;
  for (const std::string_view word : split(text, ',')) words.emplace_back(word);
  return words;
}

Result<Options> parse_options(int argc, char** argv) {
  if (argc < 3) return fail("usage: foster seam ROOT BUNDLES KEY=VALUE...");
  Options options;
  options.root = argv[1];
  options.bundles = argv[2];
  std::map<std::string, std::string, std::less<>> given;
  for (int i = 3; i < argc; ++i) {
    const std::string_view word(argv[i]);
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) return fail(cat("not KEY=VALUE: ", word));
    given.emplace(word.substr(0, equals), word.substr(equals + 1));
  }
  options.beats = words_of(given["beats"]);
  options.churns = words_of(given["churns"]);
  options.rounds = parse_number<int>(given["rounds"]).value_or(1);
  options.hung = given["hung"];
  options.hung_cgroup = given["hung_cgroup"];
  options.control = given["control"];
  options.asked = given["asked"];
  options.end = given["end"];
  options.patience_ms = parse_number<int64_t>(given["patience"]).value_or(options.patience_ms);
  options.fuse = parse_number<pid_t>(given["fuse"]).value_or(0);
  return options;
}

/// Pid of a process' parent as /proc tells; 0 when there is no such process.
pid_t parent_of(pid_t pid) {
  const auto status = sys::read_file(cat("/proc/", pid, "/status"), 16384);
  if (!status) return 0;
  const size_t at = status->find("\nPPid:");
  if (at == std::string::npos) return 0;
  const std::string_view rest = std::string_view(*status).substr(at + 6);
  return parse_number<pid_t>(trim(rest.substr(0, rest.find('\n')))).value_or(0);
}

bool exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

class Driver {
 public:
  explicit Driver(Options options)
      : options_(std::move(options)),
        store_(options_.root, true),
        link_(loop_, sys::Fd(init::kSupervisorSocketFd)),
        env_{loop_, store_, spawner_, exits_, "seam", 0},
        hung_done_(loop_) {}

  Result<> run() { return loop_.run(drive()); }
  std::string report();

 private:
  io::Task<Result<>> drive();
  io::Task<Result<>> act();
  io::Task<> bring_up(std::string id);
  io::Task<> put_down(std::string id, BeatReader& beats);
  io::Task<> churn(std::string id);
  io::Task<Result<>> live_once(std::string id);
  io::Task<Result<>> expect_exec(std::string id, std::string script, int status);
  io::Task<> hang();
  io::Task<Result<>> await_asked();
  io::Task<> end_hung();
  Result<> kill_hung();
  Result<InitReport*> note_init(const std::string& id);
  io::Task<Result<>> note_exit(InitReport& init);
  CreateOptions create_options(const std::string& id) const;
  void note(const std::string& id, const Result<>& result);

  const Options options_;
  io::Loop loop_;
  StateStore store_;
  KeeperLink link_;
  KeeperSpawner spawner_{link_};
  KeeperExits exits_{loop_, link_};
  Env env_;
  io::CancelSource hung_cancel_;
  io::Event hung_done_;
  int64_t epoch_ = monotonic_now();
  int64_t asked_at_ = 0;
  Silence startup_, heart_;        // of the loop: while the first containers are made, and from then on
  std::list<BeatReader> readers_;  // of the containers, then the control
  std::list<InitReport> inits_;
  HungReport hung_;
  std::vector<std::string> errors_;
  int rounds_done_ = 0;
};

CreateOptions Driver::create_options(const std::string& id) const {
  CreateOptions options;
  options.id = id;
  options.bundle = options_.bundles + "/" + id;
  return options;
}

void Driver::note(const std::string& id, const Result<>& result) {
  if (!result) errors_.push_back(cat(id, ": ", result.error().text));
}

Result<InitReport*> Driver::note_init(const std::string& id) {
  GANTRY_LET(const ContainerView view, state(env_, id));
  return &inits_.emplace_back(InitReport{id, view.pid, parent_of(view.pid)});
}

io::Task<Result<>> Driver::note_exit(InitReport& init) {
  const io::Deadline deadline = io::Deadline::in_ms(kStepMs);
  GANTRY_CO_LET(const ExitStatus status, co_await exits_.wait(init.pid, -1, deadline));
  init.code = status.code;
  init.signal = status.signal;
  co_return Result<>();
}

io::Task<> Driver::bring_up(std::string id) {
  CreateOptions options = create_options(id);
  Result<> done = co_await create(env_, std::move(options));
  if (done) {
    Result<InitReport*> init = note_init(id);
    if (!init) done = forward(std::move(init));
  }
  if (done) done = co_await start(env_, id);
  note(id, done);
}

io::Task<> Driver::put_down(std::string id, BeatReader& beats) {
  beats.close(monotonic_now());
  Result<> done = co_await kill(env_, id, SIGKILL, false);
  for (InitReport& init : inits_) {
    if (done && init.id == id) done = co_await note_exit(init);
  }
  if (done) done = co_await remove(env_, id, false);
  note(id, done);
}

io::Task<Result<>> Driver::expect_exec(std::string id, std::string script, int status) {
  ExecOptions options;
  options.id = id;
  options.args = {"sh", "-c", std::move(script)};
  GANTRY_CO_LET(const int got, co_await exec(env_, std::move(options)));
  if (got != status) co_return fail(cat("exec gave ", got, " instead of ", status));
  co_return Result<>();
}

io::Task<Result<>> Driver::live_once(std::string id) {
  CreateOptions options = create_options(id);
  GANTRY_CO_TRY(co_await create(env_, std::move(options)));
  GANTRY_CO_LET(InitReport* const init, note_init(id));
  GANTRY_CO_TRY(co_await start(env_, id));
  std::string wait_ready = "until [ -e /dev/ready ]; do usleep 2000; done; exit 7";
  std::string suicide = "kill -9 $$";
  GANTRY_CO_TRY(co_await expect_exec(id, std::move(wait_ready), 7));
  GANTRY_CO_TRY(co_await expect_exec(id, std::move(suicide), 128 + SIGKILL));
  GANTRY_CO_TRY(co_await kill(env_, id, SIGTERM, false));
  GANTRY_CO_TRY(co_await note_exit(*init));
  Result<> removed = co_await remove(env_, id, false);
  co_return removed;
}

io::Task<> Driver::churn(std::string id) {
  for (int round = 0; round < options_.rounds; ++round) {
    Result<> lived = co_await live_once(id);
    note(id, lived);
    if (!lived) {
      (void)co_await remove(env_, id, true);
      co_return;
    }
    ++rounds_done_;
  }
}

io::Task<> Driver::hang() {
  CreateOptions options = create_options(options_.hung);
  Result<> created = co_await create(env_, std::move(options));
  if (!created) hung_.error = created.error().text;
  hung_done_.set();
}

io::Task<Result<>> Driver::await_asked() {
  const io::Deadline deadline = io::Deadline::in_ms(kStepMs);
  const std::chrono::milliseconds pause(kPollMs);
  while (!exists(options_.asked)) {
    if (hung_done_.is_set()) co_return fail(cat("the create that should hang ended: ", hung_.error));
    if (deadline.expired()) co_return fail("the hung file system was not asked anything");
    (void)co_await io::sleep_for(loop_, pause);
  }
  asked_at_ = monotonic_now();
  co_return Result<>();
}

/// As somebody outside would: whoever is in its cgroup.
Result<> Driver::kill_hung() {
  GANTRY_LET(const std::string procs, sys::read_file(options_.hung_cgroup + "/cgroup.procs", 4096));
  const auto pid = parse_number<pid_t>(split(procs, '\n').front());
  if (!pid) return fail(cat("nobody is in ", options_.hung_cgroup));
  GANTRY_LET(const sys::Fd pidfd, sys::pidfd_open(*pid));
  return sys::pidfd_signal(pidfd, SIGKILL);
}

io::Task<> Driver::end_hung() {
  const int64_t begun = monotonic_now();
  if (options_.end == "kill") {
    note(options_.hung, kill_hung());
  } else {
    hung_cancel_.cancel();
  }
  const io::Deadline settle = io::Deadline::in_ms(options_.patience_ms);
  io::Wake wake = co_await hung_done_.wait(settle);
  if (wake == io::Wake::kTimeout) {
    hung_.needed_abort = true;
    if (options_.fuse > 0) ::kill(options_.fuse, SIGKILL);
    const io::Deadline deadline = io::Deadline::in_ms(kStepMs);
    wake = co_await hung_done_.wait(deadline);
  }
  hung_.took_ns = monotonic_now() - begun;
  if (wake != io::Wake::kReady) errors_.push_back("the hung create does not end");
  hung_.state_left = exists(options_.root + "/" + options_.hung);
  hung_.cgroup_left = exists(options_.hung_cgroup);
  if (!hung_.cgroup_left && !hung_.state_left) co_return;
  if (options_.fuse > 0) ::kill(options_.fuse, SIGKILL);
  Result<> removed = co_await remove(env_, options_.hung, true);
  note(options_.hung, removed);
}

io::Task<Result<>> Driver::act() {
  io::Scope up(loop_);
  for (const std::string& id : options_.beats) up.spawn(bring_up(id));
  GANTRY_CO_TRY(co_await up.join());
  // What it does to the loop to create all at once, without any admission, is another question.
  startup_ = std::exchange(heart_, Silence());
  io::Scope hung(loop_);
  if (!options_.hung.empty()) {
    hung.spawn(io::with_cancel(hang(), hung_cancel_));
    GANTRY_CO_TRY(co_await await_asked());
  }
  io::Scope churns(loop_);
  for (const std::string& id : options_.churns) churns.spawn(churn(id));
  GANTRY_CO_TRY(co_await churns.join());
  if (!options_.hung.empty()) {
    hung_.hung_during_churn = !hung_done_.is_set();
    co_await end_hung();
  }
  io::Scope down(loop_);
  auto beats = readers_.begin();
  for (const std::string& id : options_.beats) down.spawn(put_down(id, *beats++));
  GANTRY_CO_TRY(co_await down.join());
  Result<> ended = co_await hung.join();
  co_return ended;
}

io::Task<Result<>> Driver::drive() {
  for (const std::string& id : options_.beats) {
    GANTRY_CO_LET(BeatReader reader, BeatReader::open(id, options_.bundles + "/" + id + "/rootfs/beat"));
    readers_.push_back(std::move(reader));
  }
  if (!options_.control.empty()) {
    GANTRY_CO_LET(BeatReader reader, BeatReader::open("control", options_.control));
    readers_.push_back(std::move(reader));
  }
  io::Scope background(loop_);
  background.spawn(link_.listen());
  background.spawn(beat_loop(loop_, heart_));
  for (BeatReader& reader : readers_) background.spawn(reader.read(loop_));
  Result<> acted = co_await act();
  Result<> ended = co_await background.cancel_and_join();
  if (!acted) co_return acted;
  co_return ended;
}

std::string Driver::report() {
  json::Writer out(json::Writer::Layout::kTwoSpaces);
  out.begin_object();
  out.member("foster", ::getppid()).member("engine", ::getpid());
  const auto children = sys::read_file(cat("/proc/self/task/", ::getpid(), "/children"), 4096);
  out.member("children", children ? *children : children.error().text);
  out.list("errors", errors_);
  out.member("rounds_done", rounds_done_);
  out.member("hang_began_us", (asked_at_ - epoch_) / 1000).member("total_us", (monotonic_now() - epoch_) / 1000);
  out.member("startup_gap_us", startup_.longest() / 1000);
  out.key("loop").begin_object().member("count", heart_.count()).member("gap_us", heart_.longest() / 1000);
  out.member("gap_at_us", (heart_.since() - epoch_) / 1000).end_object();
  out.key("beats").begin_array();
  for (const BeatReader& reader : readers_) reader.describe(out, epoch_);
  out.end_array();
  out.key("inits").begin_array();
  for (const InitReport& init : inits_) {
    out.begin_object().member("id", init.id).member("pid", init.pid).member("parent", init.parent);
    out.member("code", init.code).member("signal", init.signal).end_object();
  }
  out.end_array();
  out.key("hung").begin_object().member("during_churn", hung_.hung_during_churn);
  out.member("needed_abort", hung_.needed_abort).member("took_us", hung_.took_ns / 1000);
  out.member("state_left", hung_.state_left).member("cgroup_left", hung_.cgroup_left);
  out.member("error", hung_.error).end_object();
  out.end_object();
  return out.take();
}

}  // namespace
}  // namespace gantry::seam

int main(int argc, char** argv) {
  auto options = gantry::seam::parse_options(argc, argv);
  if (!options) {
    std::fprintf(stderr, "%s\n", options.error().text.c_str());
    return 2;
  }
  ::fcntl(gantry::init::kSupervisorSocketFd, F_SETFD, FD_CLOEXEC);
  gantry::seam::Driver driver(std::move(*options));
  const auto done = driver.run();
  if (!done) std::fprintf(stderr, "seam: %s\n", done.error().text.c_str());
  std::printf("%s\n", driver.report().c_str());
  return done ? 0 : 1;
}
