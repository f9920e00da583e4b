// What takes time in a cgroup: freezing, killing, removing. Each wait is on the loop.
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <span>

#include "engine/cgroup.h"
#include "io/loop.h"
#include "io/readable.h"
#include "io/timer.h"
#include "sys/cgroup_fs.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {

using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

/// Pauses that grow from 100 microseconds to 10 milliseconds.
class Backoff {
 public:
  io::Task<Result<>> pause(io::Loop& loop, io::Deadline deadline, std::string what) {
    if (deadline.expired()) co_return fail_wake(io::Wake::kTimeout, what);
    const io::Deadline next = io::Deadline::in(pause_).or_sooner(deadline);
    pause_ = std::min(pause_ * 2, microseconds(10'000));
    const io::Wake wake = co_await io::sleep_until(loop, next);
    if (wake == io::Wake::kCancelled) co_return fail_wake(wake, what);
    co_return {};
  }

 private:
  microseconds pause_{100};
};

/// Signals the processes `pids` that are still in the tree at `top`: a pidfd taken before the second look cannot mean a
/// stranger who got the number meanwhile.
Result<> signal_members(const std::string& top, std::span<const pid_t> pids, int signo) {
  std::vector<std::pair<pid_t, sys::Fd>> members;
  for (const pid_t pid : pids) {
    if (auto pidfd = sys::pidfd_open(pid); pidfd && pid != ::getpid()) members.emplace_back(pid, std::move(*pidfd));
  }
  GANTRY_LET(const auto now, sys::cgroup_pids(top));
  for (const auto& [pid, pidfd] : members) {
    if (!std::ranges::binary_search(now, pid)) continue;
    const auto sent = sys::pidfd_signal(pidfd, signo);
    if (!sent && sent.error().sys_errno != ESRCH) return sent;
  }
  return {};
}

/// The same for all of the tree, without more than a few descriptors at a time.
Result<> signal_tree(const std::string& top, int signo) {
  constexpr size_t kBatch = 128;
  GANTRY_LET(const auto pids, sys::cgroup_pids(top));
  for (size_t at = 0; at < pids.size(); at += kBatch) {
    GANTRY_TRY(signal_members(top, std::span(pids).subspan(at, std::min(kBatch, pids.size() - at)), signo));
  }
  return {};
}

/// A container may have frozen cgroups of its own below: kills do not reach them on v1 until they thaw.
void thaw_tree_v1(const std::string& top) {
  (void)sys::write_cgroup(top, "freezer.state", "THAWED");
  (void)sys::walk_cgroups(top, false, [](const sys::Fd& dir) -> Result<> {
    const sys::Fd file(::openat(dir.get(), "freezer.state", O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
    if (file) (void)sys::write_cgroup(file, "freezer.state", "THAWED");
    return {};
  });
}

/// "12 (sleep), 13 (sh)"
std::string name_processes(const std::vector<pid_t>& pids) {
  constexpr size_t kShown = 8;
  std::string text;
  for (size_t i = 0; i < pids.size() && i < kShown; ++i) {
    const auto comm = sys::read_file(cat("/proc/", pids[i], "/comm"), 64);
    text += cat(i == 0 ? "" : ", ", pids[i], " (", comm ? trim(*comm) : "?", ")");
  }
  return pids.size() > kShown ? cat(text, " and ", pids.size() - kShown, " more") : text;
}

/// Waits until `key` in the cgroup's cgroup.events is `value`; a cgroup that is gone has no events to come.
io::Task<Result<>> await_event(io::Loop& loop, std::string dir, const char* key, const char* value,
                               io::Deadline deadline) {
  GANTRY_CO_LET(const sys::Fd file, sys::open_cgroup_file(dir, "cgroup.events", O_RDONLY));
  for (;;) {
    char text[512];
    const ssize_t got = ::pread(file.get(), text, sizeof text, 0);
    if (got < 0) co_return fail_path(errno, "read", dir + "/cgroup.events");
    if (sys::find_key(std::string_view(text, static_cast<size_t>(got)), key) == value) co_return {};
    const io::Wake wake = co_await io::wait_fd(loop, file.get(), POLLPRI, deadline);
    if (wake != io::Wake::kReady) co_return fail_wake(wake, dir);
  }
}

}  // namespace

/// Thaws when it goes out of scope, also because a task is dropped: nothing stays frozen that nobody asked for.
class Cgroup::ThawGuard {
 public:
  ThawGuard(const Cgroup& cgroup, const Dir& dir) : cgroup_(cgroup), dir_(dir) {}
  ThawGuard(const ThawGuard&) = delete;
  ThawGuard& operator=(const ThawGuard&) = delete;
  ~ThawGuard() {
    if (!kept_) (void)cgroup_.set_frozen(dir_, false);
  }
  void keep() { kept_ = true; }

 private:
  const Cgroup& cgroup_;
  const Dir& dir_;
  bool kept_ = false;
};

const Cgroup::Dir* Cgroup::freezer() const {
  const Dir* const v1 = find("freezer");
  return v1 != nullptr ? v1 : unified();
}

Result<> Cgroup::set_frozen(const Dir& dir, bool on) const {
  if (dir.unified()) return sys::write_cgroup(dir.path, "cgroup.freeze", on ? "1" : "0");
  return sys::write_cgroup(dir.path, "freezer.state", on ? "FROZEN" : "THAWED");
}

Result<bool> Cgroup::frozen() const {
  const Dir* const dir = freezer();
  if (dir == nullptr) return false;
  const auto text = sys::read_cgroup_value(dir->path, dir->unified() ? "cgroup.freeze" : "freezer.self_freezing");
  if (!text && !sys::cgroup_gone(text.error().sys_errno)) return std::unexpected(text.error());
  return text && *text == "1";
}

io::Task<Result<>> Cgroup::settle_v1(io::Loop& loop, const std::string& dir, bool on, io::Deadline deadline) {
  // FREEZING may last as long as somebody forks: a thaw in between lets the stragglers through.
  constexpr int kTriesBeforeThaw = 50;
  Backoff backoff;
  const std::string what = cat(on ? "freeze " : "thaw ", dir);
  for (int tries = 1;; ++tries) {
    GANTRY_CO_TRY(sys::write_cgroup(dir, "freezer.state", on ? "FROZEN" : "THAWED"));
    GANTRY_CO_LET(const std::string state, sys::read_cgroup_value(dir, "freezer.state"));
    if (state == (on ? "FROZEN" : "THAWED")) co_return {};
    if (!on) {
      GANTRY_CO_LET(const std::string self, sys::read_cgroup_value(dir, "freezer.self_freezing"));
      if (self == "0") co_return {};  // only an ancestor holds it
    }
    GANTRY_CO_TRY(co_await backoff.pause(loop, deadline, what));
    if (on && tries % kTriesBeforeThaw == 0) GANTRY_CO_TRY(sys::write_cgroup(dir, "freezer.state", "THAWED"));
  }
}

io::Task<Result<>> Cgroup::freeze(io::Loop& loop, io::Deadline deadline) {
  const Dir* const dir = freezer();
  if (dir == nullptr) co_return fail("cannot freeze: the host has no freezer cgroup");
  ThawGuard guard(*this, *dir);
  Result<> done;
  if (dir->unified()) {
    GANTRY_CO_TRY(set_frozen(*dir, true));
    done = co_await await_event(loop, dir->path, "frozen", "1", deadline);
  } else {
    done = co_await settle_v1(loop, dir->path, true, deadline);
  }
  if (done) guard.keep();
  co_return done;
}

io::Task<Result<>> Cgroup::thaw(io::Loop& loop, io::Deadline deadline) {
  const Dir* const dir = freezer();
  if (dir == nullptr) co_return fail("cannot thaw: the host has no freezer cgroup");
  Result<> done;
  if (dir->unified()) {
    // Nothing to wait for: processes run as soon as they are scheduled, whatever an ancestor's state makes of "frozen".
    done = set_frozen(*dir, false);
  } else {
    done = co_await settle_v1(loop, dir->path, false, deadline);
  }
  if (!done && sys::cgroup_gone(done.error().sys_errno)) co_return {};
  co_return done;
}

io::Task<Result<>> Cgroup::signal_frozen(io::Loop& loop, int signo, io::Deadline deadline) {
  constexpr milliseconds kFreezeAtMost{500};
  const std::string top = process_dir().path;
  const Dir* const dir = freezer();
  GANTRY_CO_LET(const bool was_frozen, frozen());
  if (dir == nullptr || was_frozen) co_return signal_tree(top, signo);
  // Frozen processes cannot fork away under the list. If they do not freeze in time, the signal counts more.
  const io::Deadline at_most = io::Deadline::in(kFreezeAtMost).or_sooner(deadline);
  const auto held = co_await freeze(loop, at_most);
  if (!held && io::is_cancelled(held.error())) co_return held;
  ThawGuard guard(*this, *dir);
  co_return signal_tree(top, signo);
}

io::Task<Result<>> Cgroup::kill_all(io::Loop& loop, int signo, io::Deadline deadline) {
  if (dirs_.empty()) co_return {};  // creation was refused, or nothing was claimed
  if (signo != SIGKILL) {
    const auto sent = co_await signal_frozen(loop, signo, deadline);
    co_return sent;
  }
  const Dir* const v1_freezer = find("freezer");
  const Dir* const tree = unified();
  Backoff backoff;
  const std::string what = "kill all processes of the container";
  for (int round = 0;; ++round) {
    // cgroup.kill (5.14) reaches all at once and frozen ones too; on a hybrid host v1 may still hold some frozen.
    const bool at_once = tree != nullptr && sys::write_cgroup(tree->path, "cgroup.kill", "1").has_value();
    if (v1_freezer != nullptr && at_once && round == 0) thaw_tree_v1(v1_freezer->path);
    GANTRY_CO_LET(const auto left, pids_recursive());
    if (left.empty()) co_return {};
    if (mode() != CgroupMode::kV2 && (!at_once || round > 0)) {
      GANTRY_CO_TRY(co_await signal_frozen(loop, signo, deadline));
      if (v1_freezer != nullptr) thaw_tree_v1(v1_freezer->path);
    } else if (!at_once) {
      GANTRY_CO_TRY(signal_tree(process_dir().path, signo));
    }
    const auto waited = co_await backoff.pause(loop, deadline, what);
    if (waited) continue;
    if (io::is_cancelled(waited.error())) co_return waited;
    co_return fail(cat(what, ": still there: ", name_processes(left)));
  }
}

io::Task<Result<>> Cgroup::remove(io::Loop& loop, io::Deadline deadline) {
  // Made before it could be claimed, and so empty; or somebody else's, and then not ours to wait for.
  for (const std::string& path : unclaimed_) ::rmdir(path.c_str());
  std::vector<const Dir*> left;
  left.reserve(dirs_.size());
  for (const Dir& dir : dirs_) {
    if (dir.fresh || !keep_reused_) left.push_back(&dir);
  }
  Result<> trouble;
  Backoff backoff;
  const std::string what = "remove the container's cgroups";
  for (;;) {
    std::erase_if(left, [&trouble](const Dir* dir) {
      auto removed = sys::remove_cgroup(dir->path);
      if (!removed && removed.error().sys_errno == EBUSY) return false;
      if (!removed && trouble) trouble = std::move(removed);
      return true;
    });
    if (left.empty()) co_return trouble;
    const auto waited = co_await backoff.pause(loop, deadline, what);
    if (waited) continue;
    if (io::is_cancelled(waited.error())) co_return waited;
    const auto pids = sys::cgroup_pids(left.front()->path);
    const std::string who = pids && !pids->empty() ? cat(" (processes: ", name_processes(*pids), ")") : "";
    co_return std::unexpected(Error{cat("remove ", left.front()->path, ": device or resource busy", who), EBUSY});
  }
}

Result<> Cgroup::delegate(uid_t uid) const {
  if (mode() != CgroupMode::kV2) return {};
  constexpr gid_t kSameGroup = static_cast<gid_t>(-1);
  const std::string& dir = dirs_.front().path;
  if (::chown(dir.c_str(), uid, kSameGroup) < 0) return fail_path(errno, "chown", dir);
  const auto list = sys::read_file("/sys/kernel/cgroup/delegate", 4096);
  const std::string names = list ? *list : "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
  for (const std::string_view name : split(names, '\n')) {
    if (name.empty() || name.find('/') != std::string_view::npos) continue;
    const std::string path = cat(dir, '/', name);
    if (::lchown(path.c_str(), uid, kSameGroup) < 0 && errno != ENOENT) return fail_path(errno, "chown", path);
  }
  return {};
}

}  // namespace gantry
