// What one run of gantry-init knows, and how it speaks: to the engine by frames, to itself by dying with a reason.
//
// There is no recovery here: a failed step ends the process, and the engine undoes what was made.
#pragma once

#include "sys/init/plan.h"
#include "sys/init/syscalls.h"
#include "sys/init/text.h"
#include "sys/init/wire.h"

namespace gantry::init {

/// A text of an error or warning.
using Message = Text<kFrameText + 1>;

struct Capabilities {
  uint64_t effective, permitted, inheritable;
};

/// The state of one process, filled by the launcher and inherited by the init that it clones.
struct Context {
  PlanView plan;
  uint32_t step;     ///< index of the running step, kNoStep outside
  int sync;          ///< to the engine; -1 after Commit
  int launcher;      ///< to the launcher; -1 when there is none (any more)
  bool awaits_born;  ///< the launcher has not yet told that Born was sent
  // Where init shares the launcher's memory instead of a socket with it (kHeaderCommitAhead):
  int launcher_here;  ///< the kernel writes 0, and wakes who waits on it, when the launcher is no more
  bool born_sent;
  bool in_user_ns;  ///< in a user namespace other than the launcher's first
  int start_fifo;   ///< exec.fifo; -1 when the Plan does not wait
  int status;       ///< status fifo for what goes wrong after Commit; -1 when there is none

  int root;                    ///< O_PATH of the container's root; -1 until kRootfs
  unsigned long propagation;   ///< what kPropagation gave "/"
  int proc;                    ///< private procfs, see proc_handle()
  int null_mount;              ///< /dev/null of the host as a mount, for masks
  int empty_mount;             ///< empty read-only tmpfs, for masks
  bool null_used, empty_used;  ///< the mount is attached somewhere: later masks are copies
  int kept[kMaxKept];          ///< mounts kept for kSetAttr, -1 = none

  int parent_fd;  ///< directory of the device or link made last, -1 = none
  Text<kPathMax> parent_path;

  unsigned inherited_umask;
  bool umask_given;
  bool in_cwd;  ///< the early kChdir has succeeded
  bool needs_final_caps;
  Capabilities final_caps;
  Text<kPathMax> executable;  ///< what kLookPath found
  Text<kPathMax> home;        ///< HOME=... of the program

  bool placed;            ///< place_fds() ran
  unsigned placed_count;  ///< fds 3, 4, ... that the program gets
  int listener;           ///< number at which the seccomp listener will appear
  const char** argv;
  const char** envp;
  const char* places[128];  ///< for string_array(): a page fault less than memory of its own
  size_t places_left;
};

/// Starts a context with the fds of plan.h.
void reset_context(Context& ctx);

// -- report.cc
// ---------------------------------------------------------------------------------------------------------

/// Ends the process with an error at the current step: to the engine before Commit, later to the status fifo and
/// stderr. `err` is a positive errno, or 0 when `text` is a whole sentence.
[[noreturn]] void die(Context& ctx, long err, const char* text);

/// Tells the engine something and goes on; after Commit it is dropped.
void warn(Context& ctx, long err, const char* text);

/// `result` when it is not an errno, else dies. `name` names the failing call.
long must(Context& ctx, long result, const char* name);

/// Writes a whole message after Commit and exits with 255, runc's status for a program that never ran.
[[noreturn]] void give_up(Context& ctx, const char* text);

/// The wording that callers of runc know: "no such file or directory".
const char* errno_words(long err);

// -- talk.cc
// -----------------------------------------------------------------------------------------------------------

/// A frame as received, with its descriptors.
struct Received {
  static constexpr unsigned kMaxFds = 64;
  Frame frame;
  int fds[kMaxFds];
  unsigned fd_count;
};

/// Sends one frame with `count` fds on `socket`. Returns a negative errno on failure.
long send_frame(int socket, const Frame& frame, const int* fds, unsigned count);

/// Receives one frame. 0: end of the dialogue; 1: a valid frame; negative errno, kEINVAL for an illegal one.
long receive_frame(int socket, Received& out);

/// Sends `bytes` with one fd, as console and pidfd receivers expect it.
long send_with_fd(int socket, const char* bytes, size_t size, int fd);

Frame make_frame(Tag tag, uint32_t step, uint64_t arg = 0);

/// Sends to the engine, after the launcher has announced us.
void tell(Context& ctx, Tag tag, uint64_t arg);

/// Waits for `tag` from the engine. The end of the dialogue ends the process; Cgroup frames are obeyed at any time.
void await(Context& ctx, Tag tag);

/// Waits until the launcher has sent Born, so that nothing of ours overtakes it. Ends the process if it never will.
void await_born(Context& ctx);

/// The first step with this operation, or null.
const Step* find_step(const Context& ctx, Op op);

/// Asks the launcher for the source of the current kMount step; `user_ns` (or -1) goes with the question.
int request_mount(Context& ctx, int user_ns);

// -- paths.cc
// ----------------------------------------------------------------------------------------------------------

/// The root fd; without a rootfs of our own (exec) the process' root.
int root_fd(Context& ctx);

/// openat2 below `dir` with `resolve`; EAGAIN (somebody renames under us) is tried again a bounded number of times.
long open_resolved(int dir, const char* path, int flags, uint64_t resolve);

/// Opens a path inside the rootfs, following links inside only.
long open_in_root(Context& ctx, const char* path, int flags, uint64_t more_resolve = 0);

enum class Make { kDirectory, kFile };

/// Opens the object, or makes it with all its parents (0755) component by component; dangling links are followed inside
/// the root. `created` may be null.
long make_in_root(Context& ctx, const char* path, Make what, unsigned mode, bool* created);

/// The directory in which the last component of `path` lies, made when missing; `name` points into `path`. Kept open
/// for the next call with the same directory: the caller does not close it.
int parent_in_root(Context& ctx, const char* path, const char** name);

/// A mount may have covered the kept directory.
void forget_parent(Context& ctx);

// -- procfs.cc
// ---------------------------------------------------------------------------------------------------------

/// A procfs that nobody else can reach (or, where none may be mounted, the verified one at /proc).
int proc_handle(Context& ctx);

/// Opens a file below the private procfs for writing: no links but self, no other mounts.
long open_proc_file(Context& ctx, const char* path);

// -- rootfs.cc
// ---------------------------------------------------------------------------------------------------------

/// chroot(2) into a directory, and chdir: the end of what a process may see by path, as far as a chroot is one.
void change_root(Context& ctx, int directory);

// -- start.cc
// ------------------------------------------------------------------------------------------------------------

/// Builds argv and envp of the kExec step to come, places the program's fds and marks all others close-on-exec: after a
/// seccomp filter none of these calls may be possible. Does nothing the second time.
void prepare_exec(Context& ctx);

/// Strings of a list as a null-terminated array with `spare` empty places in front of the null.
const char** string_array(Context& ctx, Ref list, uint64_t count, unsigned spare);

// -- namespaces.cc
// -------------------------------------------------------------------------------------------------------

/// The maps are written or we joined: becomes root of the user namespace, without supplementary groups where possible.
void become_namespace_root(Context& ctx);

// -- the jobs
// ----------------------------------------------------------------------------------------------------------

/// Runs the steps of the Plan in order and does not come back.
[[noreturn]] void run_steps(Context& ctx);

/// Job "launch".
[[noreturn]] void run_launcher(Context& ctx);

/// Job "keeper" (keeper.h).
[[noreturn]] void run_keeper();

/// Stays until init hangs up on `socket`, and `answers` its requests for mounts; when the engine hangs up first, init
/// (unless `init_pidfd` is -1) is killed.
void serve_init(Context& ctx, int socket, int init_pidfd, bool answers);

/// What a call answers that an outer seccomp filter forbids; also the kernel's own EPERM.
inline bool is_hidden(long result) {
  return result == -kENOSYS || result == -kEPERM;
}

/// clone3, or clone(2) where that is hidden. It has no CLONE_INTO_CGROUP: clone3's answer is given back then.
long clone_process(const CloneArgs& args);
/// The same for a child that shares our memory and runs child(argument) on the stack of `args`.
long clone_on_stack(const CloneArgs& args, BorrowedChild child, void* argument);

/// close_range(first, ~0, flags), or by the host's /proc/self/fd where that is hidden.
long close_all_from(unsigned first, unsigned flags);

/// close_range(first, ~0, CLOSE_RANGE_CLOEXEC) for processes in which all but placed descriptors are so already.
long close_all_on_exec(unsigned first);

/// A child process of our own (no namespaces), to be reaped with reap().
long fork_child(uint64_t flags, int* pidfd);
int reap(long pid);

template <class T>
const T* blob(const PlanView& plan, Ref ref) {
  return reinterpret_cast<const T*>(plan.arena + ref.offset);
}

/// The next string of a list.
inline const char* next_text(const char* text) {
  return text + length_of(text) + 1;
}

}  // namespace gantry::init
