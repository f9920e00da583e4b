// startContainer hooks: children of init, inside the container, right before the program (HK-05).
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr size_t kMaxOutput = 1200;  // of each stream: both and the words must fit into kStatusMax

/// One stream of a hook: what is kept, and where it comes from.
struct Output {
  int fd = -1;
  Text<kMaxOutput + 1> kept;

  /// Reads a piece of what is there. False when there is nothing (more).
  bool drain() {
    char piece[1024];
    const long got = fd >= 0 ? read_fd(fd, piece, sizeof piece) : 0;
    if (got > 0) kept.add(piece, static_cast<size_t>(got));
    if (got == 0 && fd >= 0) {
      close_fd(fd);
      fd = -1;
    }
    return got > 0;
  }
};

struct HookRun {
  Context& ctx;
  const HookArgs& args;
  int input = -1, out_write = -1, err_write = -1, pidfd = -1;
  long pid = 0;
  Output out = {}, err = {};
  bool timed_out = false;
};

[[noreturn]] void fail_hook(HookRun& run, const char* reason) {
  Text<kStatusMax + 1> message("error running startContainer hook #");
  message.add_number(run.args.index).add(": ").add(reason);
  give_up(run.ctx, message.get());
}

[[noreturn]] void fail_call(HookRun& run, const char* name, long err) {
  Message message(name);
  const char* words = errno_words(err);
  fail_hook(run, message.add(": ").add(words != nullptr ? words : "unknown error").get());
}

long must_call(HookRun& run, long result, const char* name) {
  if (result < 0) fail_call(run, name, -result);
  return result;
}

/// The state as a file: a pipe would make a hook that does not read it hang us.
int state_input(HookRun& run) {
  constexpr unsigned kMfdCloexec = 1;
  const long fd = must_call(run, call(__NR_memfd_create, "state", kMfdCloexec), "memfd_create");
  const char* state = text(run.ctx.plan, run.args.state);
  if (state != nullptr) must_call(run, write_fd(static_cast<int>(fd), state, run.args.state.length), "write");
  must_call(run, call(__NR_lseek, fd, 0, 0), "lseek");
  return static_cast<int>(fd);
}

void open_pipe(HookRun& run, int& read_end, int& write_end) {
  int ends[2];
  must_call(run, call(__NR_pipe2, ends, kOCloexec), "pipe2");
  constexpr int kFSetfl = 4;
  must_call(run, call(__NR_fcntl, ends[0], kFSetfl, kONonblock), "fcntl");
  read_end = ends[0];
  write_end = ends[1];
}

/// In the child: becomes the hook. What goes wrong comes back as an errno on `report`.
[[noreturn]] void become_hook(HookRun& run, int report, const char** argv, const char** envp) {
  call(__NR_setsid);
  long failed = 0;
  const int stdio[3] = {run.input, run.out_write, run.err_write};
  for (int fd = 0; fd < 3 && failed >= 0; ++fd) failed = duplicate_to(stdio[fd], fd, 0);
  // What the program will get is not the hooks'.
  if (failed >= 0) failed = close_all_on_exec(3);
  if (failed >= 0) failed = call(__NR_execve, text(run.ctx.plan, run.args.path), argv, envp);
  const int err = static_cast<int>(-failed);
  write_fd(report, &err, sizeof err);
  exit_now(127);
}

void spawn_hook(HookRun& run) {
  const char** argv = string_array(run.ctx, run.args.argv, run.args.argc, 0);
  // The program's own environment has HOME in it by now; equal lists share their place in the arena.
  const Step* program = find_step(run.ctx, Op::kExec);
  const bool shared = program != nullptr && run.args.env.offset != 0 && run.args.env.offset == program->s[1].offset;
  const char** envp = shared ? run.ctx.envp : string_array(run.ctx, run.args.env, run.args.envc, 0);
  run.input = state_input(run);
  open_pipe(run, run.out.fd, run.out_write);
  open_pipe(run, run.err.fd, run.err_write);
  int report[2];
  must_call(run, call(__NR_pipe2, report, kOCloexec), "pipe2");
  run.pid = must_call(run, fork_child(0, &run.pidfd), "fork");
  if (run.pid == 0) become_hook(run, report[1], argv, envp);
  close_fd(report[1]);
  close_fd(run.input);
  close_fd(run.out_write);
  close_fd(run.err_write);
  int err = 0;
  const bool failed = read_fd(report[0], &err, sizeof err) == sizeof err;
  close_fd(report[0]);
  if (!failed) return;
  reap(run.pid);
  Message message("fork/exec ");
  fail_call(run, message.add(text(run.ctx.plan, run.args.path)).get(), err);
}

int64_t now_ms() {
  Timespec time = {};
  constexpr int kMonotonic = 1;
  call(__NR_clock_gettime, kMonotonic, &time);
  return time.sec * 1000 + time.nsec / 1000000;
}

/// Until the hook ends (not until its output does: a daemon may hold that) or its time is over.
void watch_hook(HookRun& run) {
  const int64_t deadline = run.args.timeout_ms > 0 ? now_ms() + run.args.timeout_ms : 0;
  for (;;) {
    PollFd waits[3] = {{run.pidfd, kPollIn, 0}, {run.out.fd, kPollIn, 0}, {run.err.fd, kPollIn, 0}};
    const int64_t left = deadline > 0 ? deadline - now_ms() : 0;
    if (deadline > 0 && left <= 0) {
      run.timed_out = true;
      return;
    }
    const Timespec limit = {left / 1000, left % 1000 * 1000000};
    poll_fds(waits, 3, deadline > 0 ? &limit : nullptr);
    if (waits[1].revents != 0) run.out.drain();
    if (waits[2].revents != 0) run.err.drain();
    if (waits[0].revents != 0) break;
  }
  // Its last words are in the pipes by now, at most a pipe full.
  constexpr int kPieces = 64;
  for (int i = 0; i < kPieces && run.out.drain(); ++i) {
  }
  for (int i = 0; i < kPieces && run.err.drain(); ++i) {
  }
}

/// As Go prints the signals that hooks die of; others by number.
void add_signal_words(TextBuilder& message, int signal) {
  switch (signal) {
    case 1:
      message.add("hangup");
      break;
    case 2:
      message.add("interrupt");
      break;
    case 6:
      message.add("aborted");
      break;
    case kSigkill:
      message.add("killed");
      break;
    case 11:
      message.add("segmentation fault");
      break;
    case 13:
      message.add("broken pipe");
      break;
    case 15:
      message.add("terminated");
      break;
    default:
      message.add("signal ").add_number(static_cast<unsigned>(signal));
  }
}

void judge(HookRun& run, int status) {
  if (run.timed_out) {
    Message message("hook ran past specified timeout of ");
    message.add_number(run.args.timeout_ms / 1000).add(".").add_number(run.args.timeout_ms % 1000 / 100).add("s");
    fail_hook(run, message.get());
  }
  if (status == 0) return;
  Text<kStatusMax + 1> message;
  if ((status & 0x7f) != 0) {
    message.add("signal: ");
    add_signal_words(message, status & 0x7f);
  } else {
    message.add("exit status ").add_number(static_cast<unsigned>(status >> 8 & 0xff));
  }
  message.add(", stdout: ").add(run.out.kept.get()).add(", stderr: ").add(run.err.kept.get());
  fail_hook(run, message.get());
}

void run_hook(Context& ctx, const HookArgs& args) {
  HookRun run{ctx, args};
  spawn_hook(run);
  watch_hook(run);
  if (run.timed_out) {
    call(__NR_kill, -run.pid, kSigkill);
    signal_pidfd(run.pidfd, kSigkill);
  }
  const int status = reap(run.pid);
  if (run.out.fd >= 0) close_fd(run.out.fd);
  if (run.err.fd >= 0) close_fd(run.err.fd);
  close_fd(run.pidfd);
  judge(run, status);
}

}  // namespace

void step_start_hooks(Context& ctx, const Step& step) {
  const auto* hooks = blob<HookArgs>(ctx.plan, step.s[0]);
  for (uint64_t i = 0; i < step.n[0]; ++i) run_hook(ctx, hooks[i]);
}

}  // namespace gantry::init
