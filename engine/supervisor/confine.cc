#include "engine/supervisor/confine.h"

#include <sched.h>

#include <cerrno>
#include <csignal>

#include "engine/seccomp_cache.h"
#include "sys/seccomp.h"

namespace gantry {
namespace {

Seccomp profile() {
  Seccomp made;
  made.default_action = SeccompAction::kAllow;
  made.flags.emplace();
  SeccompRule& rule = made.rules.emplace_back();
  rule.action = SeccompAction::kErrno;
  rule.errno_ret = EPERM;
  rule.names = {
      // Starting something: the keeper's part.
      "execve", "execveat", "fork", "vfork", "clone3", "unshare", "setns",
      // Mounts: the launcher's and init's.
      "mount", "umount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree",
      "move_mount", "mount_setattr", "swapon", "swapoff",
      // Other processes' memory. (pidfd_getfd is how a seccomp listener is fetched.)
      "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "userfaultfd", "perf_event_open",
      // The machine.
      "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "settimeofday",
      "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "syslog", "acct", "quotactl",
      "quotactl_fd", "iopl", "ioperm", "lookup_dcookie", "nfsservctl", "vhangup", "open_by_handle_at",
      "name_to_handle_at", "fanotify_init", "add_key", "request_key", "keyctl", "io_uring_setup", "io_uring_enter",
      "io_uring_register", "personality", "uselib", "ustat", "sysfs", "_sysctl", "modify_ldt", "setuid", "setgid",
      "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset"};
  // But for what fork(3) does: a log copier (sys/worker.h) is as confined as we are.
  SeccompRule& clones = made.rules.emplace_back();
  clones.action = SeccompAction::kErrno;
  clones.errno_ret = EPERM;
  clones.names = {"clone"};
  SeccompArg& flags = clones.args.emplace_back();
  flags.value = CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD;
  flags.op = SeccompOp::kNotEqual;
  return made;
}

}  // namespace

Result<> confine_supervisor() {
  GANTRY_LET(const CompiledSeccomp filter, cached_seccomp(profile()));
  return sys::load_seccomp_filter(filter.bpf);
}

}  // namespace gantry
