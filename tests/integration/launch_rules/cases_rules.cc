// Each rule of the launch that once cost somebody a bug.
#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "rig.h"
#include "sys/proc.h"
#include "usual.h"

namespace gantry::rules {
namespace {

constexpr const char* kMap = "0 100000 65536\n";

void write_maps(pid_t pid) {
  const std::string proc = "/proc/" + std::to_string(pid);
  write_file(proc + "/uid_map", kMap);
  write_file(proc + "/gid_map", kMap);
}

/// What a process with root's uid and the capabilities `caps` alone may learn about `pid`: errno of reading its exe
/// link.
int peek(pid_t pid, uint32_t caps) {
  const pid_t child = ::fork();
  if (child == 0) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    data[0].effective = data[0].permitted = caps;
    ::syscall(SYS_capset, &header, data);
    char target[100];
    const ssize_t got = ::readlink(("/proc/" + std::to_string(pid) + "/exe").c_str(), target, sizeof target);
    ::_exit(got < 0 ? errno : 0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

/// A cgroup of every v1 hierarchy of this host below /gantry-test, removed again.
class Cgroups {
 public:
  Cgroups() {
    name_ = "/gantry-test/launch-rules-" + std::to_string(::getpid());
    for (const char* controller :
         {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"}) {
      const std::string top = std::string("/sys/fs/cgroup/") + controller;
      if (::access((top + "/tasks").c_str(), F_OK) == 0) tops_.push_back(top);
    }
    for (const std::string& top : tops_) {
      for (const std::string& made : {top + "/gantry-test", top + name_}) {
        if (::mkdir(made.c_str(), 0755) < 0 && errno != EEXIST) failed("mkdir " + made);
        if (!top.ends_with("cpuset")) continue;
        for (const char* file : {"/cpuset.cpus", "/cpuset.mems"}) write_file(made + file, read_file(top + file));
      }
      tasks_.emplace_back(::open((top + name_ + "/tasks").c_str(), O_WRONLY | O_CLOEXEC));
    }
  }
  ~Cgroups() {
    tasks_.clear();
    for (const std::string& top : tops_)
      for (int tries = 0; tries < 200 && ::rmdir((top + name_).c_str()) < 0 && errno == EBUSY; ++tries) ::usleep(5000);
  }
  std::vector<int> fds() const {
    std::vector<int> all;
    for (const sys::Fd& fd : tasks_) all.push_back(fd.get());
    return all;
  }
  bool any() const { return !tops_.empty(); }

 private:
  std::string name_;
  std::vector<std::string> tops_;
  std::vector<sys::Fd> tasks_;
};

void wait_gone(Rig& rig, const std::string& when) {
  const std::optional<int> launcher = ended(rig.launcher().pidfd, 2000);
  expect(launcher.has_value(), when + ": the launcher leaves");
  if (rig.pidfd().valid()) rig.wait(2000);
}

}  // namespace

RULE(time_offsets_are_written_before_the_namespace_is_entered) {
  for (const bool user_ns : {false, true}) {
    Rig rig(rootfs);
    rig.set_namespaces(kUsual | (user_ns ? static_cast<uint64_t>(CLONE_NEWUSER) : 0));
    if (user_ns) {
      rig.plan.header().flags |= init::kHeaderKeepDumpable;
      rig.step(init::Op::kMaps);
    }
    rig.step(init::Op::kTimeOffsets, "linux.timeOffsets", "monotonic 864000 0\nboottime 86400000 0\n");
    rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
    rig.step(init::Op::kRootfs, "root", rootfs);
    rig.mount("proc", "proc", "/proc", 0, {});
    rig.step(init::Op::kPivot);
    rig.finish({"sh", "-c", "cat /proc/self/timens_offsets /proc/uptime"});
    rig.launch();
    if (user_ns) {
      rig.until(init::Tag::kMapsPlease);
      write_maps(rig.pid());
      rig.send(init::Tag::kGo);
    }
    rig.commit();
    rig.start();
    expect_equal(rig.wait(), 0, "exit status");
    const std::string seen = rig.output();
    expect(seen.find("864000") != std::string::npos, "offsets: " + seen);
    const std::string uptime = seen.substr(seen.find('\n', seen.find("boottime")) + 1);
    expect(std::stod(uptime) > 86400000, "uptime has the offset: " + uptime);
  }
}

RULE(cgroup_namespace_is_rooted_at_the_joined_cgroup) {
  Cgroups groups;
  if (!groups.any()) throw Skipped{"no v1 hierarchies"};
  Rig rig(rootfs);
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kJoinCgroups, "cgroup");
  rig.step(init::Op::kUnshare, "cgroup namespace").n[0] = CLONE_NEWCGROUP;
  rig.step(init::Op::kSetsid);
  rig.default_rootfs();
  rig.finish({"cat", "/proc/self/cgroup"});
  rig.launch();
  rig.expect_tag(init::Tag::kBorn);
  rig.send(init::Tag::kCgroup, groups.fds().size(), groups.fds());
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  const std::string seen = rig.output();
  expect(seen.find(":memory:/\n") != std::string::npos && seen.find(":pids:/\n") != std::string::npos,
         "roots of the cgroup namespace: " + seen);
  expect(seen.find("gantry-test") == std::string::npos, "the host's path is not seen: " + seen);
}

RULE(a_cgroup_frame_is_obeyed_while_waiting_for_something_else) {
  Cgroups groups;
  if (!groups.any()) throw Skipped{"no v1 hierarchies"};
  Rig rig(rootfs);
  usual_start(rig);
  rig.step(init::Op::kHooks).n[0] = 0;
  rig.default_rootfs();
  rig.finish({"cat", "/proc/self/cgroup"});
  rig.launch();
  rig.until(init::Tag::kHooksPlease);
  rig.send(init::Tag::kCgroup, groups.fds().size(), groups.fds());
  rig.send(init::Tag::kGo);
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  const std::string seen = rig.output();
  expect(seen.find(":memory:/gantry-test/launch-rules-") != std::string::npos, "the host's path is seen: " + seen);
}

RULE(a_new_user_namespace_stays_dumpable_until_the_maps_are_written) {
  Rig rig(rootfs);
  rig.set_namespaces(kUsual | CLONE_NEWUSER);
  rig.plan.header().flags |= init::kHeaderKeepDumpable;
  rig.step(init::Op::kMaps);
  rig.default_rootfs_in_user_namespace();
  rig.finish({"cat", "/proc/self/uid_map"});
  rig.launch();
  rig.until(init::Tag::kMapsPlease);
  expect_equal(peek(rig.pid(), 0), 0, "before the maps: errno of an unprivileged look");
  write_maps(rig.pid());
  rig.send(init::Tag::kGo);
  rig.until(init::Tag::kReady);
  expect_equal(peek(rig.pid(), 0), EACCES, "after the maps: errno of an unprivileged look");
  rig.send(init::Tag::kCommit);
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  expect(rig.output().find("100000") != std::string::npos, "the maps");
}

RULE(without_a_user_namespace_nothing_is_ever_dumpable) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.step(init::Op::kHooks).n[0] = 0;
  rig.default_rootfs();
  rig.finish({"/bin/true"});
  rig.launch();
  rig.until(init::Tag::kHooksPlease);
  // All capabilities but the one that overrides.
  constexpr uint32_t kAllButPtrace = ~(1u << CAP_SYS_PTRACE) & ~(1u << CAP_SYS_RESOURCE);
  expect_equal(peek(rig.pid(), kAllButPtrace), EACCES, "while setting up");
  rig.send(init::Tag::kGo);
  rig.commit();
  expect_equal(peek(rig.pid(), kAllButPtrace), EACCES, "created");
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
}

RULE(the_end_of_the_dialogue_before_commit_kills) {
  for (const int phase : {0, 1, 2, 3}) {
    Rig rig(rootfs);
    rig.set_namespaces(kUsual);
    if (phase == 1) rig.step(init::Op::kJoinCgroups);
    rig.step(init::Op::kHooks).n[0] = 0;
    rig.default_rootfs();
    rig.finish({"/bin/true"});
    rig.launch();
    if (phase >= 1) rig.until(init::Tag::kBorn);
    if (phase >= 2) rig.until(init::Tag::kHooksPlease);
    if (phase == 3) {
      rig.send(init::Tag::kGo);
      rig.until(init::Tag::kReady);
    }
    rig.hang_up();
    wait_gone(rig, "phase " + std::to_string(phase));
  }
}

RULE(a_launcher_that_waits_for_a_source_leaves_with_the_engine) {
  // A FIFO as init's peer cannot hang open_tree, so the place to hang is init itself, waiting for hooks after a mount.
  Rig rig(rootfs);
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  rig.step(init::Op::kRootfs, "root", rootfs);
  rig.bind("/etc", "/tmp/etc", MOUNT_ATTR_RDONLY, init::kMountFromLauncher);
  rig.step(init::Op::kHooks).n[0] = 0;
  rig.finish({"/bin/true"});
  rig.launch();
  rig.until(init::Tag::kHooksPlease);
  expect(!ended(rig.launcher().pidfd, 50), "the launcher stays until init is ready");
  rig.hang_up();
  wait_gone(rig, "after a mount");
}

namespace {

constexpr int kCannot = 77;

/// In a pid namespace of its own, where memfds may not be executed.
void run_without_memfds(const std::string& rootfs) {
  ::mount(nullptr, "/", nullptr, MS_PRIVATE | MS_REC, nullptr);
  if (::mount("proc", "/proc", "proc", 0, nullptr) < 0) ::_exit(kCannot);
  if (::access("/proc/sys/vm/memfd_noexec", F_OK) < 0) ::_exit(kCannot);
  write_file("/proc/sys/vm/memfd_noexec", "2");
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"/bin/true"});
  rig.launch();
  rig.commit();
  const std::string exe = "/proc/" + std::to_string(rig.pid()) + "/exe";
  expect_equal(read_link(exe), "/gantry-init", "/proc/PID/exe");
  expect(::chmod(exe.c_str(), 0777) < 0 && errno == EROFS, "the private tmpfs is read-only");
  expect(sys::runs_init_image(rig.pid()), "known as gantry-init");
  expect(!sys::runs_init_image(::getpid()), "nobody else is");
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
}

int forked(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      work();
    } catch (const Failed& failure) {
      ::dprintf(2, "%s\n", failure.text.c_str());
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

}  // namespace

RULE(where_memfds_may_not_be_executed_a_private_tmpfs_is_used) {
  // vm.memfd_noexec belongs to the pid namespace, so a new one makes it safe to change.
  const int status = forked([&] {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) ::_exit(kCannot);
    ::_exit(forked([&] { run_without_memfds(rootfs); }));
  });
  if (status == kCannot) throw Skipped{"no pid namespace of our own, or no vm.memfd_noexec"};
  expect_equal(status, 0, "the case in its own pid namespace");
}

namespace {

/// A cgroup of the unified hierarchy below /gantry-test.
struct UnifiedCgroup {
  std::string path;
  sys::Fd directory;
  UnifiedCgroup() {
    const std::string top = "/sys/fs/cgroup/unified/gantry-test";
    path = top + "/launch-rules-" + std::to_string(::getpid());
    if (::access("/sys/fs/cgroup/unified/cgroup.procs", F_OK) < 0) throw Skipped{"no unified hierarchy"};
    ::mkdir(top.c_str(), 0755);
    if (::mkdir(path.c_str(), 0755) < 0) failed("mkdir " + path);
    directory = sys::Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~UnifiedCgroup() {
    for (int tries = 0; tries < 200 && ::rmdir(path.c_str()) < 0 && errno == EBUSY; ++tries) ::usleep(5000);
  }
};

}  // namespace

RULE(init_is_born_in_its_cgroup) {
  const UnifiedCgroup group;
  Rig rig(rootfs);
  rig.set_namespaces(kUsual | CLONE_NEWCGROUP);
  rig.plan.header().cgroup_slot = static_cast<int32_t>(rig.add_slot(group.directory.duplicate()));
  rig.default_rootfs();
  rig.finish({"cat", "/proc/self/cgroup"});
  rig.launch();
  rig.commit();
  const std::string host = read_file("/proc/" + std::to_string(rig.pid()) + "/cgroup");
  expect(host.find("0::/gantry-test/launch-rules-") != std::string::npos, "cgroup seen from the host: " + host);

  // An exec enters the same cgroup at birth and its namespace after it.
  Rig inner(rootfs);
  inner.plan.header().kind = init::Kind::kExec;
  inner.plan.header().target_slot = static_cast<int32_t>(inner.add_slot(rig.pidfd().duplicate()));
  inner.plan.header().target_flags = kUsual | CLONE_NEWCGROUP;
  inner.plan.header().cgroup_slot = static_cast<int32_t>(inner.add_slot(group.directory.duplicate()));
  inner.finish({"cat", "/proc/self/cgroup"}, false);
  inner.launch();
  inner.commit();
  expect_equal(inner.wait(), 0, "exit status of the exec'd process");
  const std::string seen = inner.output();
  expect(seen.find("0::/\n") != std::string::npos, "cgroup seen from inside: " + seen);
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
}

RULE(the_session_keyring_is_the_containers) {
  Rig rig(rootfs);
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kKeyring, "session keyring", "_ses.launch-rules");
  rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  rig.step(init::Op::kRootfs, "root", rootfs);
  rig.mount("proc", "proc", "/proc", 0, {});
  rig.step(init::Op::kPivot);
  rig.finish({"cat", "/proc/keys"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  const std::string keys = rig.output();
  expect(keys.find("_ses.launch-rules") != std::string::npos || !rig.warnings().empty(), "the keyring: " + keys);
  const size_t line = keys.rfind('\n', keys.find("_ses.launch-rules")) + 1;
  expect(keys.substr(line).find(" 3f1b0000 ") != std::string::npos, "its permissions: " + keys.substr(line));
}

RULE(a_profile_without_apparmor_is_an_error) {
  if (::access("/sys/kernel/security/apparmor", F_OK) == 0) throw Skipped{"this host has AppArmor"};
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.step(init::Op::kApparmor, "process.apparmorProfile", "no-such-profile");
  rig.finish({"/bin/true"});
  rig.launch();
  rig.expect_tag(init::Tag::kBorn);
  const Message error = rig.receive();
  expect(error.tag() == init::Tag::kError && error.text().starts_with("apparmor failed to apply profile"),
         "error: " + error.text());
}

RULE(the_oom_score_is_the_launchers_to_write) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.plan.header().flags |= init::kHeaderOomScore;
  rig.plan.header().oom_score_adj = 321;
  rig.default_rootfs();
  rig.finish({"cat", "/proc/self/oom_score_adj"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  expect_equal(rig.output(), "321\n", "score of the program");
}

RULE(what_the_kernel_does_not_grant_is_a_warning) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.plan.header().flags |= init::kHeaderOomScore;
  rig.plan.header().oom_score_adj = -500;  // needs CAP_SYS_RESOURCE
  ::prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2]{};
  ::syscall(SYS_capget, &header, data);
  data[0].effective &= ~(1u << CAP_SYS_RESOURCE);
  data[0].permitted &= ~(1u << CAP_SYS_RESOURCE);
  ::syscall(SYS_capset, &header, data);
  rig.default_rootfs();
  rig.step(init::Op::kUmask).n[0] = 022;
  init::IdentityArgs args = {};
  args.flags = init::kIdentitySetGroups;
  args.bounding = args.effective = args.permitted = 1ull << CAP_KILL | 1ull << CAP_SYS_RESOURCE;
  args.ambient = 1ull << CAP_KILL;
  const init::Ref blob = rig.plan.blob(args);
  rig.step(init::Op::kIdentity).s[0] = blob;
  rig.ready_and_wait();
  rig.exec({"/bin/cat", "/proc/self/status"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  expect_equal(rig.warnings().size(), size_t{3}, "number of warnings");
  expect_equal(rig.warnings()[0], "process.oomScoreAdj -500", "oom score");
  expect_equal(rig.warnings()[1], "ignoring unknown or unavailable capabilities: [CAP_SYS_RESOURCE]", "capability");
  expect_equal(rig.warnings()[2], "can't raise ambient capability CAP_KILL: operation not permitted", "ambient");
  expect(rig.output().find("CapEff:\t0000000000000020") != std::string::npos, "what is left");
}

}  // namespace gantry::rules
