// Terminals, exec and hooks that enter a container, namespaces joined by path.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "rig.h"
#include "usual.h"

namespace gantry::rules {
namespace {

struct Console {
  sys::Fd ours, theirs;
  Console() {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) failed("socketpair");
    ours = sys::Fd(pair[0]);
    theirs = sys::Fd(pair[1]);
  }
  /// The one message: its text and fd.
  std::pair<std::string, sys::Fd> receive() {
    char text[128];
    iovec part{text, sizeof text};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(ours.get(), &header, MSG_CMSG_CLOEXEC);
    expect(got > 0 && CMSG_FIRSTHDR(&header) != nullptr, "a message with an fd");
    int fd;
    std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof fd);
    return {std::string(text, static_cast<size_t>(got)), sys::Fd(fd)};
  }
};

void add_console(Rig& rig, Console& console, uint32_t uid, uint16_t flags) {
  const uint64_t slot = rig.add_slot(std::move(console.theirs));
  init::Step& step = rig.step(init::Op::kConsole, "process.terminal");
  step.n[0] = slot;
  step.n[1] = 10;
  step.n[2] = 110;
  step.n[3] = uid;
  step.flags = flags;
}

}  // namespace

RULE(the_terminal_is_the_containers_own) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  Console console;
  add_console(rig, console, 1000, init::kStepBind);
  rig.identity(1000, 1000, 0);
  rig.ready_and_wait();
  rig.exec({"/bin/sh", "-c", "tty; stat -c '%u %t:%T' /dev/console; stty size; echo x > /dev/tty"});
  rig.launch();
  rig.commit();
  auto [text, master] = console.receive();
  expect_equal(text, "/dev/ptmx", "payload");
  rig.start();
  std::string seen;
  char piece[512];
  for (ssize_t got; (got = ::read(master.get(), piece, sizeof piece)) > 0;)
    seen.append(piece, static_cast<size_t>(got));
  expect_equal(rig.wait(), 0, "exit status (" + seen + ")");
  expect_equal(seen, "/dev/pts/0\r\n1000 88:0\r\n10 110\r\nx\r\n", "what the program sees");
}

RULE(a_fake_terminal_is_refused) {
  {
    Rig rig(rootfs);
    begin_rootfs(rig);
    rig.mount("tmpfs", "tmpfs", "/dev/pts", 0, {});
    rig.step(init::Op::kPivot);
    Console console;
    add_console(rig, console, 0, 0);
    expect_equal(first_error(rig), "/dev/pts of the container is not a devpts: a terminal needs one in mounts",
                 "error");
  }
  std::filesystem::remove(rootfs + "/dev/console");
  relink("/etc/made-by-console", rootfs + "/dev/console");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("devpts", "devpts", "/dev/pts", 0, {"newinstance", "ptmxmode=0666"});
  rig.step(init::Op::kPivot);
  Console console;
  add_console(rig, console, 0, init::kStepBind);
  expect_equal(first_error(rig), "/dev/console of the container is a link", "error");
  std::filesystem::remove(rootfs + "/dev/console");
}

RULE(the_pidfd_socket_gets_our_pidfd) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  Console console;
  const uint64_t slot = rig.add_slot(std::move(console.theirs));
  rig.step(init::Op::kPidfdSocket, "pidfd", "standard").n[0] = slot;
  rig.finish({"/bin/true"});
  rig.launch();
  rig.commit();
  auto [text, pidfd] = console.receive();
  expect_equal(text, "standard", "payload");
  ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  expect_equal(rig.wait(), 128 + SIGKILL, "end of init");
}

namespace {

/// exec of `argv` into the container of `rig`.
std::string exec_into(const Rig& rig, uint64_t flags, const std::vector<std::string>& argv) {
  Rig inner(rig.rootfs());
  inner.plan.header().kind = init::Kind::kExec;
  inner.plan.header().target_slot = static_cast<int32_t>(inner.add_slot(rig.pidfd().duplicate()));
  inner.plan.header().target_flags = flags;
  inner.step(init::Op::kSetsid);
  inner.finish(argv, false);
  inner.launch();
  inner.commit();
  const int status = inner.wait();
  expect_equal(status, 0, "exit status of the exec'd process (" + inner.errors() + ")");
  return inner.output();
}

}  // namespace

RULE(exec_enters_a_created_and_a_running_container) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.default_rootfs();
  rig.step(init::Op::kHostname, "hostname", "inside");
  rig.finish({"sleep", "100"});
  rig.launch();
  rig.commit();
  expect_equal(exec_into(rig, kUsual, {"cat", "/proc/sys/kernel/hostname"}), "inside\n", "hostname, created");
  rig.start();
  const std::string seen = exec_into(rig, kUsual, {"sh", "-c", "cat /proc/1/comm; echo $$; ls /proc/self/fd | wc -l"});
  expect(seen.starts_with("sleep\n") && seen.ends_with("\n4\n"), "pid namespace and fds: " + seen);
}

RULE(exec_enters_a_user_namespace) {
  Rig rig(rootfs);
  rig.set_namespaces(kUsual | CLONE_NEWUSER | CLONE_NEWCGROUP);
  rig.plan.header().flags |= init::kHeaderKeepDumpable;
  rig.step(init::Op::kMaps);
  rig.default_rootfs_in_user_namespace();
  rig.finish({"sleep", "100"});
  rig.launch();
  rig.until(init::Tag::kMapsPlease);
  for (const char* file : {"/uid_map", "/gid_map"})
    write_file("/proc/" + std::to_string(rig.pid()) + file, "0 100000 65536\n");
  rig.send(init::Tag::kGo);
  rig.commit();
  const std::string created = exec_into(rig, kUsual | CLONE_NEWUSER | CLONE_NEWCGROUP, {"id"});
  expect(created.starts_with("uid=0"), "id: " + created);
  rig.start();
  const std::string running = exec_into(rig, kUsual | CLONE_NEWUSER | CLONE_NEWCGROUP, {"cat", "/proc/self/uid_map"});
  expect(running.find("100000") != std::string::npos, "maps: " + running);
}

RULE(namespaces_are_joined_by_path) {
  Rig owner(rootfs);
  owner.set_namespaces(kUsual | CLONE_NEWUSER);
  owner.plan.header().flags |= init::kHeaderKeepDumpable;
  owner.step(init::Op::kMaps);
  owner.step(init::Op::kHostname, "hostname", "shared");
  owner.default_rootfs_in_user_namespace();
  owner.finish({"sleep", "100"});
  owner.launch();
  owner.until(init::Tag::kMapsPlease);
  for (const char* file : {"/uid_map", "/gid_map"})
    write_file("/proc/" + std::to_string(owner.pid()) + file, "0 100000 65536\n");
  owner.send(init::Tag::kGo);
  owner.commit();

  const std::string source = "/tmp/launch-rules-src-" + std::to_string(::getpid());
  std::filesystem::create_directories(source);
  write_file(source + "/file", "brokered\n");
  ::chmod(source.c_str(), 0700);
  if (::chown(source.c_str(), 0, 0) < 0) failed("chown");
  std::filesystem::create_directories(rootfs + "/tmp/shared");  // not ours to make in the other user namespace
  const std::string ns = "/proc/" + std::to_string(owner.pid()) + "/ns/";
  Rig rig(rootfs);
  rig.set_namespaces(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC);
  rig.plan.join(CLONE_NEWNET, "net", ns + "net");
  rig.plan.join(CLONE_NEWUTS, "uts", ns + "uts");
  rig.plan.join(CLONE_NEWUSER, "user", ns + "user");
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  rig.step(init::Op::kRootfs, "root", rootfs);
  rig.mount("proc", "proc", "/proc", 0, {});
  rig.bind(source, "/tmp/shared", 0, init::kMountFromLauncher | init::kMountIdmap);
  rig.step(init::Op::kPivot);
  const std::string seen =
      run_script(rig, "cat /proc/sys/kernel/hostname /tmp/shared/file; id -u; readlink /proc/self/ns/net");
  std::filesystem::remove_all(source);
  expect_equal(seen, "shared\nbrokered\n0\n" + read_link(ns + "net") + "\n", "what the container sees");
}

RULE(a_namespace_of_the_wrong_type_is_refused) {
  Rig rig(rootfs);
  rig.set_namespaces(kUsual);
  rig.plan.join(CLONE_NEWNET, "linux.namespaces network", "/proc/self/ns/uts");
  rig.finish({"/bin/true"});
  rig.launch();
  const Message error = rig.receive();
  expect_equal(error.text(), "linux.namespaces network: setns", "error");
  expect_equal(error.frame.err, EINVAL, "errno");
}

RULE(a_hook_runs_in_the_launcher_itself) {
  Rig rig(rootfs);
  rig.plan.header().kind = init::Kind::kHook;
  rig.plan.header().flags |= init::kHeaderNoClone;
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kChdir, "cwd", "/tmp");
  rig.exec({"/bin/sh", "-c", "pwd; ls /proc/$$/fd; exit 4"});
  rig.launch();
  expect(rig.at_end(), "executed");
  const std::optional<int> status = ended(rig.launcher().pidfd, 3000);
  expect(status == 4, "exit status of the hook");
  expect_equal(rig.output(), "/tmp\n0\n1\n2\n", "cwd and fds");

  Rig missing(rootfs);
  missing.plan.header().kind = init::Kind::kHook;
  missing.plan.header().flags |= init::kHeaderNoClone;
  missing.exec({"/no/such/hook"});
  missing.launch();
  const Message error = missing.receive();
  expect_equal(error.text(), "execve", "error");
  expect_equal(error.frame.err, ENOENT, "errno");
}

RULE(a_hook_enters_a_container_before_its_pivot) {
  Rig rig(rootfs);
  usual_start(rig);
  rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  rig.step(init::Op::kRootfs, "root", rootfs);
  rig.mount("tmpfs", "tmpfs", "/tmp", 0, {});
  rig.step(init::Op::kHooks).n[0] = 1;
  rig.step(init::Op::kPivot);
  rig.ready_and_wait();
  rig.exec({"/bin/cat", "/tmp/hook"});
  rig.launch();
  rig.until(init::Tag::kHooksPlease);
  for (const char* program : {"/bin/sh", "/no/such/hook"}) {
    Rig hook(rootfs);
    hook.plan.header().kind = init::Kind::kHook;
    hook.plan.header().target_slot = static_cast<int32_t>(hook.add_slot(rig.pidfd().duplicate()));
    hook.plan.header().target_flags = kUsual;
    hook.step(init::Op::kSetsid);
    hook.step(init::Op::kReady);
    hook.exec({program, "-c", "echo $$ > " + rootfs + "/tmp/hook"});
    hook.launch();
    hook.until(init::Tag::kReady);
    hook.send(init::Tag::kCommit);
    if (std::string(program) == "/bin/sh") {
      expect(hook.at_end(), "executed");
      expect_equal(hook.wait(), 0, "exit status of the hook");
    } else {
      const Message error = hook.receive();
      expect(error.text() == "execve" && error.frame.err == ENOENT, "a hook that is missing is an error after Commit");
    }
  }
  rig.send(init::Tag::kGo);
  rig.commit();
  rig.start();
  expect_equal(rig.wait(), 0, "exit status");
  expect(rig.output().size() >= 2, "the hook wrote into the container's tmpfs its pid there");
}

}  // namespace gantry::rules
