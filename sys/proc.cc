#include "sys/proc.h"

#include <linux/magic.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "sys/file.h"
#include "sys/text.h"

namespace gantry::sys {

Result<ProcStat> proc_stat(pid_t pid) {
  GANTRY_LET(const std::string stat, read_file(cat("/proc/", pid, "/stat"), 4096));
  // The command name may hold spaces and parentheses: fields are counted from the last one.
  const auto close_paren = stat.rfind(')');
  if (close_paren == std::string::npos || close_paren + 2 >= stat.size()) return fail_errno(ESRCH, "proc stat");
  const auto fields = split(std::string_view(stat).substr(close_paren + 2), ' ');
  if (fields.size() < 20) return fail(cat("/proc/", pid, "/stat: too few fields"));
  const auto start = parse_number<uint64_t>(fields[19]);
  if (!start || fields[0].empty()) return fail(cat("/proc/", pid, "/stat: field 22 is not a number"));
  return ProcStat{fields[0][0], *start};
}

Result<Fd> pidfd_open(pid_t pid) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return fail_errno(errno, "pidfd_open");
  return fd;
}

Result<Fd> pidfd_open_checked(pid_t pid, uint64_t start_time) {
  if (pid <= 0) return fail_errno(ESRCH, "pidfd_open");
  GANTRY_LET(Fd fd, pidfd_open(pid));
  // Read after the pidfd pins the process: a recycled pid shows another start time.
  auto stat = proc_stat(pid);
  if (!stat && is_shortage(stat.error())) return forward(std::move(stat));
  if (!stat || stat->start_time != start_time || stat->state == 'Z' || stat->state == 'X')
    return fail_errno(ESRCH, "pidfd_open");
  return fd;
}

Result<> pidfd_signal(const Fd& pidfd, int signo) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signo, nullptr, 0) < 0)
    return fail_errno(errno, "pidfd_send_signal");
  return {};
}

Result<Fd> pidfd_getfd(const Fd& pidfd, int number) {
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)));
  if (!fd) return fail_errno(errno, "pidfd_getfd");
  return fd;
}

std::optional<PidfdExit> pidfd_exit(int pidfd) {
  // struct pidfd_info of Linux 6.15; the headers of Debian 12 do not have it.
  struct Info {
    uint64_t mask, cgroup;
    uint32_t ids[11];
    int32_t exit_code;
  };
  static_assert(sizeof(Info) == 64);
  constexpr uint64_t kExit = 1u << 3;
  Info info{};
  info.mask = kExit;
  if (::ioctl(pidfd, _IOWR(0xFF, 11, Info), &info) < 0 || (info.mask & kExit) == 0) return std::nullopt;
  if (WIFSIGNALED(info.exit_code)) return PidfdExit{0, WTERMSIG(info.exit_code)};
  return PidfdExit{WEXITSTATUS(info.exit_code), 0};
}

bool pidfd_ended(int pidfd) {
  pollfd polled{pidfd, POLLIN, 0};
  return ::poll(&polled, 1, 0) == 1 && (polled.revents & POLLNVAL) == 0;
}

bool pidfd_reaped(int pidfd) {
  // A zombie can be signalled. (POLLHUP would tell, too, from Linux 6.9 on.)
  return ::syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0) < 0 && errno == ESRCH;
}

bool runs_init_image(pid_t pid) {
  constexpr std::string_view kMemfd = "/memfd:gantry-init", kTmpfsFile = "/gantry-init";
  const std::string path = cat("/proc/", pid, "/exe");
  std::array<char, 64> target{};
  const auto length = ::readlink(path.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  const std::string_view shown(target.data(), static_cast<size_t>(length));
  if (shown.starts_with(kMemfd)) return true;
  // A container may have a file of that name; ours is on a tmpfs that nothing is mounted from.
  struct statfs system{};
  struct stat file{}, theirs{};
  if (shown != kTmpfsFile || ::statfs(path.c_str(), &system) < 0 || ::stat(path.c_str(), &file) < 0) return false;
  if (system.f_type != TMPFS_MAGIC || (system.f_flags & ST_RDONLY) == 0) return false;
  if (::lstat(cat("/proc/", pid, "/root", kTmpfsFile).c_str(), &theirs) < 0) return true;
  return theirs.st_dev != file.st_dev || theirs.st_ino != file.st_ino;
}

Result<> write_id_maps(pid_t pid, std::string_view uid_lines, std::string_view gid_lines, bool deny_setgroups) {
  if (deny_setgroups) GANTRY_TRY(write_file(cat("/proc/", pid, "/setgroups"), "deny"));
  GANTRY_TRY(write_file(cat("/proc/", pid, "/uid_map"), uid_lines));
  return write_file(cat("/proc/", pid, "/gid_map"), gid_lines);
}

Result<std::string> boot_id() {
  static std::string known;
  if (known.empty()) {
    GANTRY_LET(const std::string text, read_file("/proc/sys/kernel/random/boot_id", 64));
    known = trim(text);
  }
  return known;
}

bool adopts_orphans() {
  int subreaper = 0;
  return (::prctl(PR_GET_CHILD_SUBREAPER, &subreaper, 0, 0, 0) == 0 && subreaper != 0) || ::getpid() == 1;
}

Result<> become_subreaper() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) return fail_errno(errno, "prctl PR_SET_CHILD_SUBREAPER");
  return {};
}

}  // namespace gantry::sys
