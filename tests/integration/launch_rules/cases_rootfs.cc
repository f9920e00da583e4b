// The rootfs against hostile images, mounts of all kinds, terminals, exec into a container, joins by path.
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "rig.h"
#include "usual.h"

namespace gantry::rules {
namespace {

void begin_rootfs(Rig& rig, bool with_proc = true) {
  rig.set_namespaces(kUsual);
  rig.step(init::Op::kSetsid);
  rig.step(init::Op::kPropagation).n[0] = MS_SLAVE | MS_REC;
  rig.step(init::Op::kRootfs, "root.path", rig.rootfs());
  if (with_proc) rig.mount("proc", "proc", "/proc", 0, {}, init::kMountRealDirectory);
}

/// Runs `script` in the container and returns its output; it must succeed.
std::string run_script(Rig& rig, const std::string& script) {
  rig.step(init::Op::kReady);
  rig.exec({"/bin/sh", "-c", script});
  rig.launch();
  rig.commit();
  const int status = rig.wait();
  const std::string out = rig.output();
  expect_equal(status, 0, "exit status of the script (" + out + rig.errors() + ")");
  return out;
}

std::string first_error(Rig& rig) {
  rig.ready_and_wait();
  rig.exec({"/bin/true"});
  rig.launch();
  for (;;) {
    Message message = rig.receive();
    if (message.tag() == init::Tag::kBorn || message.tag() == init::Tag::kWarning) continue;
    expect_equal(static_cast<int>(message.tag()), static_cast<int>(init::Tag::kError), "frame");
    return message.text() + (message.frame.err != 0 ? " " + std::string(errno_name(message.frame.err)) : "");
  }
}

/// A directory of the host that no container may change.
struct Canary {
  std::string path = "/tmp/launch-rules-canary-" + std::to_string(::getpid());
  Canary() { ::mkdir(path.c_str(), 0755); }
  ~Canary() { std::filesystem::remove_all(path); }
  bool untouched() const { return std::filesystem::is_empty(path); }
};

void relink(const std::string& target, const std::string& path) {
  std::filesystem::remove_all(path);
  std::filesystem::create_symlink(target, path);
}

}  // namespace

RULE(links_in_the_image_do_not_lead_out) {
  const Canary canary;
  relink(canary.path, rootfs + "/abs");
  relink("../../../../../.." + canary.path, rootfs + "/rel");
  relink("/dangling/deep", rootfs + "/dang");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("tmpfs", "tmpfs", "/abs/a", 0, {});
  rig.mount("tmpfs", "tmpfs", "/rel/b", 0, {});
  rig.mount("tmpfs", "tmpfs", "/dang/c", 0, {});
  rig.bind("/etc/hostname", "/abs/file/x", 0);
  rig.step(init::Op::kMkdir, "mkdir", "/rel/made").n[0] = 0700;
  init::Step& node = rig.step(init::Op::kDevice, "device", "/abs/null");
  node.n[0] = S_IFCHR | 0666;
  node.n[1] = 0x103;
  const init::Ref link = rig.plan.text("/rel/link");
  rig.step(init::Op::kSymlink, "link", "target").s[1] = link;
  rig.step(init::Op::kPivot);
  const std::string inside = canary.path;
  const std::string seen = run_script(rig, "ls " + inside + "; grep -c tmpfs /proc/mounts; ls -d /dangling/deep/c");
  expect(canary.untouched(), "the host's directory is untouched");
  expect_equal(seen, "a\nb\nfile\nlink\nmade\nnull\n3\n/dangling/deep/c\n", "what was made inside");
}

RULE(a_link_that_turns_in_circles_is_an_error) {
  relink("/loop2", rootfs + "/loop1");
  relink("/loop1", rootfs + "/loop2");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("tmpfs", "tmpfs", "/loop1/x", 0, {});
  expect_equal(first_error(rig), "mount point ELOOP", "error");
}

RULE(proc_only_on_a_real_directory) {
  relink("/tmp", rootfs + "/proclink");
  Rig rig(rootfs);
  begin_rootfs(rig, false);
  rig.mount("proc", "proc", "/proclink", 0, {}, init::kMountRealDirectory);
  expect_equal(first_error(rig), "filesystem \"proc\" must be mounted on ordinary directory", "error");
}

RULE(no_mount_reaches_into_proc_by_a_link) {
  relink("/proc/sys", rootfs + "/sneaky");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("tmpfs", "tmpfs", "/sneaky", 0, {});
  expect_equal(first_error(rig), "\"/sneaky\" cannot be mounted because it is inside /proc", "error");
}

RULE(masks_come_from_the_hosts_null_device) {
  std::filesystem::remove_all(rootfs + "/dev/null");
  relink("/etc/passwd", rootfs + "/dev/null");
  write_file(rootfs + "/etc/secret", "secret");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.step(init::Op::kPivot);
  for (const char* path : {"/etc/secret", "/proc/keys", "/etc/secret", "/none"})
    rig.step(init::Op::kMaskedPath, path, path);
  expect_equal(run_script(rig, "stat -c %t:%T /etc/secret /proc/keys"), "1:3\n1:3\n", "what covers the files");
}

RULE(an_existing_node_must_be_the_one_asked_for) {
  write_file(rootfs + "/dev/plain", "");
  ::mknod((rootfs + "/dev/same").c_str(), S_IFCHR | 0600, 0x105);
  for (const auto& [name, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"/dev/same", ""}, {"/dev/plain", "/dev/plain: exists and is not the device that was asked for"}}) {
    Rig rig(rootfs);
    begin_rootfs(rig);
    init::Step& node = rig.step(init::Op::kDevice, "device", name);
    node.n[0] = S_IFCHR | 0666;
    node.n[1] = 0x105;
    rig.step(init::Op::kPivot);
    if (wanted.empty()) {
      run_script(rig, "true");
    } else {
      expect_equal(first_error(rig), wanted, "error");
    }
  }
}

RULE(a_device_gets_its_owner) {
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("tmpfs", "tmpfs", "/dev", 0, {"mode=755"});
  init::Step& node = rig.step(init::Op::kDevice, "device", "/dev/deep/er/x");
  node.n[0] = S_IFCHR | 0640;
  node.n[1] = 0x103;
  node.n[2] = 12;
  node.n[3] = 34;
  rig.step(init::Op::kPivot);
  expect_equal(run_script(rig, "stat -c '%a %u %g %F' /dev/deep/er/x"), "640 12 34 character special file\n",
               "the node");
}

RULE(bind_mounts_get_their_attributes) {
  const std::string source = "/tmp/launch-rules-src-" + std::to_string(::getpid());
  std::filesystem::create_directories(source + "/sub");
  write_file(source + "/file", "content\n");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.bind(source, "/data", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID);
  rig.bind(source + "/file", "/new/place/file", 0);
  rig.bind(source, "/mapped", 0, init::kMountIdmap | init::kMountFromLauncher, "0 1000 10\n", "0 2000 10\n");
  rig.step(init::Op::kPivot);
  const std::string seen =
      run_script(rig,
                 "cat /new/place/file; touch /data/x 2>/dev/null || echo ro; grep ' /data ' /proc/mounts | grep -c "
                 "'ro,nosuid'; stat -c '%u %g' /mapped/file");
  std::filesystem::remove_all(source);
  expect_equal(seen, "content\nro\n1\n1000 2000\n", "what the container sees");
}

RULE(a_missing_source_is_named_with_its_call) {
  for (const uint32_t flags : {0u, uint32_t{init::kMountFromLauncher}}) {
    Rig rig(rootfs);
    begin_rootfs(rig);
    rig.bind("/no/such/source", "/data", 0, flags);
    expect_equal(first_error(rig), "open_tree ENOENT", "error");
  }
}

RULE(a_refused_option_has_the_file_systems_words) {
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("tmpfs", "tmpfs", "/tmp", 0, {"nonsense=1"});
  const std::string error = first_error(rig);
  expect(error.starts_with("fsconfig nonsense=1") && error.ends_with("EINVAL"), "error: " + error);
}

RULE(a_tmpfs_inherits_mode_and_content) {
  std::filesystem::create_directories(rootfs + "/up/sub");
  write_file(rootfs + "/up/sub/file", "old\n");
  ::chmod((rootfs + "/up").c_str(), 01751);
  ::chmod((rootfs + "/up/sub/file").c_str(), 0604);
  if (::lchown((rootfs + "/up/sub/file").c_str(), 5, 6) < 0) failed("lchown");
  std::filesystem::create_symlink("sub/file", rootfs + "/up/link");
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.mount("tmpfs", "tmpfs", "/up", MOUNT_ATTR_RDONLY, {}, init::kMountTmpCopyUp | init::kMountInheritMode);
  rig.step(init::Op::kPivot);
  const std::string seen =
      run_script(rig, "stat -c '%a %u %g' /up /up/sub/file; cat /up/link; touch /up/x 2>/dev/null || echo ro");
  std::filesystem::remove_all(rootfs + "/up");
  expect_equal(seen, "1751 0 0\n604 5 6\nold\nro\n", "the copied tree");
}

RULE(a_kept_mount_is_made_readonly_at_the_end) {
  Rig rig(rootfs);
  begin_rootfs(rig);
  init::MountArgs args = {};
  args.kind = init::MountKind::kFilesystem;
  args.fstype = rig.plan.text("tmpfs");
  args.keep = 1;
  const init::Ref to = rig.plan.text("/tmp"), blob = rig.plan.blob(args);
  init::Step& made = rig.step(init::Op::kMount, "mounts");
  made.s[1] = to;
  made.s[2] = blob;
  rig.step(init::Op::kMkdir, "mkdir", "/tmp/inside").n[0] = 0755;
  rig.step(init::Op::kPivot);
  init::Step& kept = rig.step(init::Op::kSetAttr);
  kept.n[0] = MOUNT_ATTR_RDONLY;
  kept.n[2] = 0;
  init::Step& root = rig.step(init::Op::kSetAttr);
  root.n[0] = MOUNT_ATTR_RDONLY;
  root.n[2] = ~uint64_t{0};
  expect_equal(run_script(rig, "ls /tmp; touch /tmp/x 2>/dev/null || echo ro; touch /x 2>/dev/null || echo root-ro"),
               "inside\nro\nroot-ro\n", "read-only mounts");
}

RULE(without_pivot_the_hosts_proc_is_not_left_below) {
  Rig rig(rootfs);
  begin_rootfs(rig);
  rig.step(init::Op::kPivot).flags = init::kStepNoPivot;
  const std::string seen = run_script(rig, "grep -c ' proc ' /proc/self/mountinfo; ls /; cat /proc/self/mountinfo");
  expect(seen.starts_with("0\n") || seen.find("bin\n") != std::string::npos, "root is the container's: " + seen);
}

RULE(sysctls_go_through_a_private_procfs) {
  Rig rig(rootfs);
  begin_rootfs(rig, false);  // the container has no /proc at all
  const auto sysctl = [&](const char* key, const char* value) {
    const init::Ref text = rig.plan.text(value);
    rig.step(init::Op::kSysctl, key, key).s[1] = text;
  };
  rig.mount("tmpfs", "tmpfs", "/proc", 0, {});
  rig.step(init::Op::kMkdir, "mkdir", "/proc/sys/net/ipv4").n[0] = 0755;
  rig.step(init::Op::kPivot);
  sysctl("net/ipv4/ip_forward", "1");
  sysctl("kernel/shmmni", "99");
  const std::string seen =
      run_script(rig,
                 "ls -A /proc/sys/net/ipv4; mount -t proc p /root && cat /root/sys/net/ipv4/ip_forward "
                 "/root/sys/kernel/shmmni");
  expect_equal(seen, "1\n99\n", "values in the container's namespaces");
}

RULE(a_sysctl_path_cannot_leave_proc_sys) {
  Rig rig(rootfs);
  begin_rootfs(rig);
  const init::Ref text = rig.plan.text("h");
  rig.step(init::Op::kSysctl, "sysctl", "kernel/../../../sysrq-trigger").s[1] = text;
  expect_equal(first_error(rig), "open EXDEV", "error");
}

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
