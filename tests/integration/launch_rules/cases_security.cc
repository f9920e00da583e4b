// Seccomp, identity, hooks and what is said when the program cannot run.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#include "rig.h"
#include "usual.h"

namespace gantry::rules {
namespace {

constexpr uint64_t kCaps = 1ull << CAP_KILL | 1ull << CAP_NET_BIND_SERVICE;

/// All calls are allowed but these, which give `action`.
std::vector<sock_filter> filter_on(const std::vector<int>& numbers, uint32_t action) {
  std::vector<sock_filter> filter;
  filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0));
  for (const int number : numbers) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, action));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return filter;
}

init::Step& add_filter(Rig& rig, const std::vector<sock_filter>& filter) {
  const init::Ref blob = rig.plan.bytes(filter.data(), filter.size() * sizeof(sock_filter));
  init::Step& step = rig.step(init::Op::kSeccomp, "linux.seccomp");
  step.s[0] = blob;
  return step;
}

const std::vector<int> kNotNeededForExec = {
    SYS_sendmsg, SYS_recvmsg, SYS_sendto, SYS_write, SYS_close,  SYS_dup3,        SYS_dup2,      SYS_openat,
    SYS_openat2, SYS_fcntl,   SYS_ppoll,  SYS_prctl, SYS_futex,  SYS_close_range, SYS_seccomp,   SYS_setresuid,
    SYS_fstat,   SYS_mmap,    SYS_ioctl,  SYS_umask, SYS_getcwd, SYS_chdir,       SYS_newfstatat};

}  // namespace

RULE(after_the_filter_only_what_exec_needs_is_called) {
  for (const bool new_privs : {false, true}) {
    Rig rig(rootfs);
    usual_start(rig);
    rig.default_rootfs();
    if (!new_privs) rig.step(init::Op::kNoNewPrivs);
    rig.identity(0, 0, kCaps, new_privs ? uint32_t{init::kIdentityKeepSysAdmin} : 0u);
    Pipe kept;
    rig.add_slot(std::move(kept.write));
    rig.step(init::Op::kReady);
    add_filter(rig, filter_on(kNotNeededForExec, SECCOMP_RET_KILL_PROCESS));
    if (new_privs) rig.step(init::Op::kFinalCaps);
    init::Step& place = rig.step(init::Op::kPlaceFds);
    place.n[0] = 0;
    place.n[1] = 1;
    rig.exec({"/bin/fdexit"});
    rig.launch();
    rig.commit();
    expect_equal(rig.wait(), 3, "a program that only exits runs under a filter that kills nearly everything");
  }
}

RULE(a_kept_capability_is_gone_when_the_program_runs) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.identity(1000, 1000, kCaps, init::kIdentityKeepSysAdmin);
  rig.step(init::Op::kReady);
  add_filter(rig, filter_on({SYS_swapon}, SECCOMP_RET_KILL_PROCESS));
  rig.step(init::Op::kFinalCaps);
  rig.exec({"/bin/cat", "/proc/self/status"});
  rig.launch();
  rig.commit();
  expect_equal(rig.wait(), 0, "exit status");
  const std::string seen = rig.output();
  for (const char* field : {"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000420",
                            "NoNewPrivs:\t0", "Seccomp:\t2", "Uid:\t1000\t1000\t1000\t1000"})
    expect(seen.find(field) != std::string::npos, std::string("program's status has ") + field + " in " + seen);
}

RULE(the_seccomp_listener_appears_where_it_was_announced) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.step(init::Op::kNoNewPrivs);
  rig.step(init::Op::kSeccompAnnounce).n[0] = init::kSyncFd;
  // execve closes the listener, so init must wait between the two.
  rig.ready_and_wait_after([&] {
    init::Step& load = add_filter(rig, filter_on({SYS_mkdir, SYS_mkdirat, SYS_sendmsg}, SECCOMP_RET_USER_NOTIF));
    load.flags = init::kStepListener;
    load.n[0] = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  });
  rig.exec({"/bin/mkdir", "/tmp/made"});
  rig.launch();
  const Message announced = rig.until(init::Tag::kSeccompFd);
  const auto number = static_cast<int>(announced.frame.arg);
  const auto fetch = [&] {
    return sys::Fd(static_cast<int>(::syscall(SYS_pidfd_getfd, rig.pidfd().get(), number, 0)));
  };
  expect(!fetch() && errno == EBADF, "nothing is there before the filter is loaded");
  rig.until(init::Tag::kReady);
  expect(!fetch() && errno == EBADF, "nothing is there before Commit");
  rig.send(init::Tag::kCommit);
  sys::Fd listener;
  for (int tries = 0; tries < 2000 && !listener; ++tries) {
    listener = fetch();
    if (!listener) ::usleep(500);
  }
  expect(listener.valid(), "the listener can be fetched");
  rig.start();
  seccomp_notif request{};
  expect(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &request) == 0, "the first notification is the program's");
  expect(request.data.nr == SYS_mkdir || request.data.nr == SYS_mkdirat, "it is about mkdir");
  seccomp_notif_resp answer{};
  answer.id = request.id;
  answer.error = -ENOTUNIQ;
  expect(::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer) == 0, "the answer is taken");
  expect_equal(rig.wait(), 1, "exit status of mkdir");
  expect(rig.errors().find("Name not unique") != std::string::npos, "the agent's errno");
}

RULE(a_listener_leaves_room_for_the_programs_fds) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.step(init::Op::kNoNewPrivs);
  Pipe one, two;
  rig.add_slot(std::move(one.write));
  rig.add_slot(std::move(two.write));
  rig.step(init::Op::kSeccompAnnounce).n[0] = init::kSyncFd;
  rig.ready_and_wait_after([&] {
    init::Step& load = add_filter(rig, filter_on({SYS_swapon}, SECCOMP_RET_USER_NOTIF));
    load.flags = init::kStepListener;
  });
  init::Step& place = rig.step(init::Op::kPlaceFds);
  place.n[1] = 2;
  rig.exec({"/bin/sh", "-c", "echo 3 >&3; echo 4 >&4; ls /proc/self/fd | wc -l"});
  rig.launch();
  const Message announced = rig.until(init::Tag::kSeccompFd);
  expect(announced.frame.arg >= 5, "the number lies above the program's fds");
  rig.until(init::Tag::kReady);
  rig.send(init::Tag::kCommit);
  sys::Fd listener;
  for (int tries = 0; tries < 2000 && !listener; ++tries) {
    listener = sys::Fd(static_cast<int>(::syscall(SYS_pidfd_getfd, rig.pidfd().get(), announced.frame.arg, 0)));
    if (!listener) ::usleep(500);
  }
  const std::string link = read_link("/proc/self/fd/" + std::to_string(listener.get()));
  expect_equal(link, "anon_inode:seccomp notify", "what was fetched");
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  expect_equal(one.drain() + two.drain() + rig.output(), "3\n4\n6\n", "fds of the program");
}

RULE(a_filter_that_cannot_be_loaded_stops_the_program) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.identity(0, 0, kCaps);  // neither no_new_privs nor CAP_SYS_ADMIN
  rig.step(init::Op::kReady);
  add_filter(rig, filter_on({SYS_swapon}, SECCOMP_RET_KILL_PROCESS));
  rig.exec({"/bin/true"});
  rig.launch();
  rig.commit();
  expect_equal(rig.wait(), 255, "exit status");
  expect_equal(rig.errors(), "linux.seccomp: seccomp: permission denied\n", "stderr");
}

// -- what is said
// ----------------------------------------------------------------------------------------------------------

namespace {

std::string lookup_error(const std::string& rootfs, const std::string& name) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({name});
  rig.launch();
  for (;;) {
    Message message = rig.receive();
    if (message.tag() == init::Tag::kBorn) continue;
    expect_equal(static_cast<int>(message.tag()), static_cast<int>(init::Tag::kError), "frame");
    expect_equal(message.frame.err, 0, "a whole sentence carries no errno");
    return message.text();
  }
}

}  // namespace

RULE(a_missing_program_has_gos_words) {
  const std::string plain = rootfs + "/tmp/plain";
  write_file(plain, "x");
  expect_equal(lookup_error(rootfs, "nothing"), "exec: \"nothing\": executable file not found in $PATH", "in PATH");
  expect_equal(lookup_error(rootfs, "/nothing"), "exec: \"/nothing\": stat /nothing: no such file or directory",
               "absent");
  expect_equal(lookup_error(rootfs, "/tmp/plain"), "exec: \"/tmp/plain\": permission denied", "not executable");
  expect_equal(lookup_error(rootfs, "/tmp"), "exec: \"/tmp\": is a directory", "directory");
}

RULE(a_late_execve_failure_reaches_start_and_stderr) {
  const std::string script = rootfs + "/bin/badscript";
  write_file(script, "#!/no/such/interpreter\n");
  ::chmod(script.c_str(), 0755);
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.finish({"badscript"});
  rig.launch();
  rig.commit();
  rig.start();
  expect_equal(rig.status_text(), "exec /bin/badscript: no such file or directory", "status fifo");
  expect_equal(rig.wait(), 255, "exit status");
  expect_equal(rig.errors(), "exec /bin/badscript: no such file or directory\n", "stderr");
}

namespace {

void add_hook(Rig& rig, std::vector<init::HookArgs>& all, const std::vector<std::string>& argv, uint32_t timeout_ms) {
  init::HookArgs args = {};
  args.path = rig.plan.text(argv[0]);
  args.argv = rig.plan.list(argv);
  args.argc = static_cast<uint32_t>(argv.size());
  args.env = rig.plan.list(std::vector<std::string>{"PATH=/bin"});
  args.envc = 1;
  args.state = rig.plan.text("{\"id\":\"x\"}");
  args.timeout_ms = timeout_ms;
  args.index = static_cast<uint32_t>(all.size());
  all.push_back(args);
}

struct HookResult {
  int status;
  std::string out, fifo;
};

HookResult run_hooks(const std::string& rootfs, const std::vector<std::vector<std::string>>& hooks,
                     uint32_t timeout_ms) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.ready_and_wait();
  std::vector<init::HookArgs> all;
  for (const auto& argv : hooks) add_hook(rig, all, argv, timeout_ms);
  const init::Ref blob = rig.plan.bytes(all.data(), all.size() * sizeof(init::HookArgs));
  init::Step& step = rig.step(init::Op::kStartHooks);
  step.s[0] = blob;
  step.n[0] = all.size();
  rig.exec({"/bin/cat", "/tmp/hook"});
  rig.launch();
  rig.commit();
  rig.start();
  HookResult result;
  result.fifo = rig.status_text();
  result.status = rig.wait();
  result.out = rig.output();
  return result;
}

}  // namespace

RULE(start_hooks_run_in_order_with_the_state_on_stdin) {
  const HookResult result = run_hooks(
      rootfs, {{"/bin/sh", "-c", "cat > /tmp/hook"}, {"/bin/sh", "-c", "echo two >> /tmp/hook; echo noise"}}, 5000);
  expect_equal(result.status, 0, "exit status");
  expect_equal(result.out, "{\"id\":\"x\"}two\n", "what the hooks left");
  expect_equal(result.fifo, "", "status");
}

RULE(a_failing_start_hook_stops_the_program) {
  const HookResult failing = run_hooks(rootfs, {{"/bin/true"}, {"/bin/sh", "-c", "echo out; echo err >&2; exit 3"}}, 0);
  expect_equal(failing.status, 255, "exit status");
  expect_equal(failing.fifo, "error running startContainer hook #1: exit status 3, stdout: out\n, stderr: err\n",
               "text");
  const HookResult missing = run_hooks(rootfs, {{"/no/hook"}}, 0);
  expect_equal(missing.fifo, "error running startContainer hook #0: fork/exec /no/hook: no such file or directory",
               "text");
  const HookResult killed = run_hooks(rootfs, {{"/bin/sh", "-c", "kill -9 $$"}}, 0);
  expect_equal(killed.fifo, "error running startContainer hook #0: signal: killed, stdout: , stderr: ", "text");
}

RULE(a_slow_start_hook_is_killed_with_its_group) {
  const HookResult result = run_hooks(rootfs, {{"/bin/sh", "-c", "sleep 30 & sleep 30"}}, 300);
  expect_equal(result.fifo, "error running startContainer hook #0: hook ran past specified timeout of 0.3s", "text");
  expect_equal(result.status, 255, "exit status");
}

RULE(a_hook_that_leaves_a_daemon_does_not_hold_up_the_start) {
  const HookResult result = run_hooks(rootfs, {{"/bin/sh", "-c", "sleep 2 & echo hi > /tmp/hook"}}, 0);
  expect_equal(result.out, "hi\n", "the program ran");
}

RULE(home_comes_from_the_containers_passwd) {
  write_file(rootfs + "/etc/passwd", "bad\nroot:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n");
  for (const auto& [uid, home] :
       std::vector<std::pair<uint32_t, std::string>>{{0, "/root"}, {1000, "/home/u"}, {7, "/"}}) {
    Rig rig(rootfs);
    usual_start(rig);
    rig.default_rootfs();
    rig.identity(uid, uid, 0);
    rig.step(init::Op::kReady);
    const init::Ref argv = rig.plan.list(std::vector<std::string>{"/bin/env"});
    const init::Ref env = rig.plan.list(std::vector<std::string>{"A=b", "HOME="});
    init::Step& exec = rig.step(init::Op::kExec);
    exec.s[0] = argv;
    exec.n[0] = 1;
    exec.s[1] = env;
    exec.n[1] = 2;
    exec.n[2] = uid;
    exec.flags = init::kStepNeedHome;
    rig.launch();
    rig.commit();
    expect_equal(rig.wait(), 0, "exit status");
    expect_equal(rig.output(), "A=b\nHOME=" + home + "\n", "environment");
  }
}

RULE(a_cwd_outside_of_the_root_is_refused) {
  Rig rig(rootfs);
  const sys::Fd host(::open("/", O_RDONLY | O_DIRECTORY));
  rig.set_namespaces(kUsual);
  const uint64_t slot = rig.add_slot(host.duplicate());
  rig.default_rootfs();
  rig.step(init::Op::kChdir, "cwd", "/proc/self/fd/" + std::to_string(init::kFirstSlot + slot));
  rig.ready_and_wait();
  rig.exec({"/bin/true"});
  rig.launch();
  rig.expect_tag(init::Tag::kBorn);
  const Message error = rig.receive();
  expect_equal(error.text(),
               "current working directory is outside of container mount namespace root -- possible container breakout "
               "detected",
               "error");
}

RULE(a_missing_cwd_is_named) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.step(init::Op::kChdir, "cwd", "/none").flags |= init::kStepChdirEarly;
  rig.ready_and_wait();
  rig.exec({"/bin/true"});
  rig.launch();
  rig.expect_tag(init::Tag::kBorn);
  expect_equal(rig.receive().text(), "chdir to cwd (\"/none\") set in config.json failed: no such file or directory",
               "error");
}

RULE(an_unmapped_uid_is_named) {
  Rig rig(rootfs);
  rig.set_namespaces(kUsual | CLONE_NEWUSER);
  rig.plan.header().flags |= init::kHeaderKeepDumpable;
  rig.step(init::Op::kMaps);
  rig.identity(5000000, 0, 0);
  rig.ready_and_wait();
  rig.exec({"/bin/true"});
  rig.launch();
  rig.until(init::Tag::kMapsPlease);
  for (const char* file : {"/uid_map", "/gid_map"})
    write_file("/proc/" + std::to_string(rig.pid()) + file, "0 100000 65536\n");
  rig.send(init::Tag::kGo);
  expect_equal(rig.receive().text(), "cannot setuid to unmapped uid 5000000 in user namespace", "error");
}

}  // namespace gantry::rules
