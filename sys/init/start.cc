// The end of a Plan: find the program, be ready, wait for `start`, execute.
#include "sys/init/passwd.h"
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr int kFDupfdCloexec = 1030, kXOk = 1;

// -- looking for the program, with the words of Go's os/exec (CR-11)
// -----------------------------------------------------

/// 0 when `path` is something that we may execute.
long check_executable(const char* path, bool& exists) {
  Stat object;
  const long there = stat_at(kAtFdcwd, path, &object, 0);
  exists = there >= 0;
  if (there < 0) return there;
  if ((object.st_mode & kSIfmt) == kSIfdir) return -kEISDIR;
  return call(__NR_faccessat2, kAtFdcwd, path, kXOk, kAtEaccess);
}

[[noreturn]] void die_lookup(Context& ctx, const char* name, long err, bool exists) {
  Message message("exec: \"");
  message.add(name).add("\": ");
  if (!exists) message.add("stat ").add(name).add(": ");
  const char* words = errno_words(err);
  die(ctx, 0, message.add(words != nullptr ? words : "unknown error").get());
}

/// True when `name` lies in the PATH entry; remembers where.
bool look_in(Context& ctx, const char* directory, size_t size, const char* name) {
  Text<kPathMax> path;
  path.add(directory, size);
  if (size == 0) path.add(".");
  path.add("/").add(name);
  bool exists = false;
  if (path.cut() || check_executable(path.get(), exists) < 0) return false;
  if (path.get()[0] != '/') {
    Message message("exec: \"");
    die(ctx, 0, message.add(name).add("\": cannot run executable found relative to current directory").get());
  }
  ctx.executable.shorten(0);
  ctx.executable.add(path.get(), path.size());
  return true;
}

bool has_slash(const char* name) {
  while (*name != '\0' && *name != '/') ++name;
  return *name == '/';
}

// -- what exec needs
// -----------------------------------------------------------------------------------------------------

/// HOME=DIR for the uid, from the container's own passwd: any trouble with that file means "/".
void find_home(Context& ctx, uint32_t uid, TextBuilder& out) {
  out.add("HOME=");
  HomeFinder finder(uid);
  const long file = open_in_root(ctx, "/etc/passwd", kORdonly | kONonblock | kONoctty);
  Stat object = {};
  if (file >= 0 && stat_fd(static_cast<int>(file), &object) >= 0 && (object.st_mode & kSIfmt) == kSIfreg) {
    char piece[4096];
    size_t total = 0;
    long got = 0;
    bool found = false;
    while (!found && total < HomeFinder::kMaxFile && (got = read_fd(static_cast<int>(file), piece, sizeof piece)) > 0) {
      total += static_cast<size_t>(got);
      found = finder.feed(piece, static_cast<size_t>(got));
    }
    if (!found) finder.finish();
  }
  if (file >= 0) close_fd(file);
  out.add(finder.home() != nullptr ? finder.home() : "/");
}

void build_arguments(Context& ctx) {
  const Step* exec = find_step(ctx, Op::kExec);
  if (ctx.argv != nullptr || exec == nullptr) return;
  ctx.argv = string_array(ctx, exec->s[0], exec->n[0], 0);
  const bool needs_home = (exec->flags & kStepNeedHome) != 0;
  ctx.envp = string_array(ctx, exec->s[1], exec->n[1], needs_home ? 1 : 0);
  if (!needs_home) return;
  find_home(ctx, static_cast<uint32_t>(exec->n[2]), ctx.home);
  uint64_t kept = 0;
  for (uint64_t i = 0; i < exec->n[1]; ++i)
    if (!starts_with(ctx.envp[i], "HOME=")) ctx.envp[kept++] = ctx.envp[i];
  ctx.envp[kept++] = ctx.home.get();
  ctx.envp[kept] = nullptr;
}

/// Out of the way of what is placed, and of the number announced for the listener.
int move_above(Context& ctx, int fd) {
  if (fd < 0) return fd;
  const int slots_end = kFirstSlot + static_cast<int>(ctx.plan.header->slot_count);
  const int lowest = ctx.listener >= slots_end ? ctx.listener + 1 : slots_end;
  return static_cast<int>(must(ctx, call(__NR_fcntl, fd, kFDupfdCloexec, lowest), "fcntl F_DUPFD"));
}

void place_fds(Context& ctx) {
  if (ctx.placed) return;
  ctx.placed = true;
  if (!ctx.umask_given) call(__NR_umask, ctx.inherited_umask);
  const Step* place = find_step(ctx, Op::kPlaceFds);
  const int count = static_cast<int>(ctx.placed_count);
  if (place != nullptr && count > 0) {
    ctx.start_fifo = move_above(ctx, ctx.start_fifo);
    ctx.status = move_above(ctx, ctx.status);
    ctx.sync = move_above(ctx, ctx.sync);
    // Every source lies above its target and above all targets before it.
    const int first = kFirstSlot + static_cast<int>(place->n[0]);
    for (int i = 0; i < count; ++i) must(ctx, duplicate_to(first + i, kSyncFd + i, 0), "dup3");
  }
  must(ctx, close_all_on_exec(static_cast<unsigned>(kSyncFd + count)), "close_range");
}

/// Zeroed.
const char** room_for(Context& ctx, uint64_t places) {
  if (places <= ctx.places_left) {
    ctx.places_left -= places;
    return ctx.places + ctx.places_left;
  }
  constexpr int kReadWrite = 3, kPrivateAnonymous = 0x22;
  const size_t size = places * sizeof(const char*);
  return reinterpret_cast<const char**>(
      must(ctx, call(__NR_mmap, nullptr, size, kReadWrite, kPrivateAnonymous, -1, 0), "mmap"));
}

[[noreturn]] void end_by_signal(int signo) {
  constexpr int kSignaled = 128;
  exit_now(kSignaled + signo);
}

void never_called() {}

/// struct sigaction of the kernel. Some architectures do not deliver without a restorer; nothing returns to it.
struct SignalAction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)();
  uint64_t mask;
};

/// The first process of a pid namespace is deaf to signals that it does not handle: `kill` would say that it has ended
/// a created container which goes on waiting. execve takes the handlers away again.
void heed_end_signals() {
  if (call(__NR_getpid) != 1) return;
  constexpr int kHangup = 1, kInterrupt = 2, kQuit = 3, kTerminate = 15;
  constexpr int kEnds[] = {kHangup, kInterrupt, kQuit, kTerminate};
  constexpr unsigned long kHasRestorer = 0x04000000;
  const SignalAction end = {end_by_signal, kHasRestorer, never_called, 0};
  for (const int signo : kEnds) call(__NR_rt_sigaction, signo, &end, nullptr, sizeof end.mask);
}

}  // namespace

const Step* find_step(const Context& ctx, Op op) {
  for (uint32_t i = 0; i < ctx.plan.header->step_count; ++i)
    if (ctx.plan.steps[i].op == op) return &ctx.plan.steps[i];
  return nullptr;
}

const char** string_array(Context& ctx, Ref list, uint64_t count, unsigned spare) {
  const char** array = room_for(ctx, count + spare + 1);
  const char* entry = ctx.plan.arena + list.offset;
  for (uint64_t i = 0; i < count; ++i, entry = next_text(entry)) array[i] = entry;
  return array;
}

void prepare_exec(Context& ctx) {
  build_arguments(ctx);
  place_fds(ctx);
}

void step_look_path(Context& ctx, const Step& step) {
  const char* name = text(ctx.plan, step.s[0]);
  if (has_slash(name)) {
    bool exists = false;
    const long wrong = check_executable(name, exists);
    if (wrong < 0) die_lookup(ctx, name, -wrong, exists);
    ctx.executable.add(name);
    if (ctx.executable.cut()) die_lookup(ctx, name, kENAMETOOLONG, true);
    return;
  }
  const char* path = text(ctx.plan, step.s[1]);
  for (bool more = path != nullptr && *name != '\0'; more;) {
    size_t size = 0;
    while (path[size] != ':' && path[size] != '\0') ++size;
    if (look_in(ctx, path, size, name)) return;
    more = path[size] == ':';
    path += size + 1;
  }
  Message message("exec: \"");
  die(ctx, 0, message.add(name).add("\": executable file not found in $PATH").get());
}

void step_ready(Context& ctx, const Step&) {
  // While errors still reach the engine. Room for argv and the home directory need the container's files.
  build_arguments(ctx);
  await_born(ctx);
  if (ctx.launcher >= 0) close_fd(ctx.launcher);
  ctx.launcher = -1;
  if (ctx.plan.header->kind == Kind::kContainer) heed_end_signals();
  if ((ctx.plan.header->flags & kHeaderCommitAhead) == 0) tell(ctx, Tag::kReady, 0);
  await(ctx, Tag::kCommit);
  // A hook's socket stays, close-on-exec: whether it could be executed is still the engine's business.
  if (ctx.plan.header->kind == Kind::kHook) return;
  // Not later: under a filter there may be no close.
  close_fd(ctx.sync);
  ctx.sync = -1;
  place_fds(ctx);
}

void step_wait_start(Context& ctx, const Step&) {
  prepare_exec(ctx);
  char token;
  for (;;) {
    const long got = read_fd(ctx.start_fifo, &token, 1);
    if (got == 1) break;
    if (got == -kEAGAIN) {
      PollFd ready{ctx.start_fifo, kPollIn, 0};
      poll_fds(&ready, 1, nullptr);
    } else if (got == 0) {
      die(ctx, 0, "exec.fifo: nobody can write to it");
    } else if (got != -kEINTR) {
      die(ctx, -got, "read exec.fifo");
    }
  }
}

void step_exec(Context& ctx, const Step& step) {
  prepare_exec(ctx);
  const char* path = text(ctx.plan, step.s[2]);
  if (path == nullptr) path = ctx.executable.size() > 0 ? ctx.executable.get() : ctx.argv[0];
  const long failed = -call(__NR_execve, path, ctx.argv, ctx.envp);
  if (ctx.sync >= 0) die(ctx, failed, "execve");
  Message message("exec ");
  message.add(path).add(": ");
  const char* words = errno_words(failed);
  give_up(ctx, words != nullptr ? message.add(words).get() : message.add("errno ").add_signed(failed).get());
}

}  // namespace gantry::init
