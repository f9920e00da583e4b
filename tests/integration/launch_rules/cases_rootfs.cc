// The rootfs against hostile images; mounts and devices of all kinds; sysctls.
#include <linux/mount.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "rig.h"
#include "usual.h"

namespace gantry::rules {
namespace {

/// A directory of the host that no container may change.
struct Canary {
  std::string path = "/tmp/launch-rules-canary-" + std::to_string(::getpid());
  Canary() { ::mkdir(path.c_str(), 0755); }
  ~Canary() { std::filesystem::remove_all(path); }
  bool untouched() const { return std::filesystem::is_empty(path); }
};

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

RULE(options_longer_than_fsconfig_takes_are_mounted) {
  const std::string base = rootfs + "/" + std::string(200, 'o');
  for (const char* name : {"/lower", "/upper", "/work"})
    std::filesystem::create_directories(base + name + std::string(60, 'x'));
  write_file(base + "/lower" + std::string(60, 'x') + "/file", "below\n");
  Rig rig(rootfs);
  begin_rootfs(rig);
  const std::string tail(60, 'x');
  rig.mount(
      "overlay", "overlay", "/merged", MOUNT_ATTR_NOSUID | MOUNT_ATTR_RDONLY,
      {"lowerdir=" + base + "/lower" + tail, "upperdir=" + base + "/upper" + tail, "workdir=" + base + "/work" + tail});
  rig.step(init::Op::kPivot);
  const std::string seen = run_script(
      rig, "cat /merged/file; grep ' /merged ' /proc/mounts | grep -c ' ro,nosuid,'; grep -c merged /proc/mounts");
  std::filesystem::remove_all(base);
  expect_equal(seen, "below\n1\n1\n", "the overlay");
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
  begin_rootfs(rig, false);  // the container has no /proc of the kernel, only a directory of the image
  const auto sysctl = [&](const char* key, const char* value) {
    const init::Ref text = rig.plan.text(value);
    rig.step(init::Op::kSysctl, key, key).s[1] = text;
  };
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

}  // namespace gantry::rules
