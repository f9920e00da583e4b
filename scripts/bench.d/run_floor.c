// The floor of `run`: the container that the default config describes, made with as few system calls as it takes.
//
// usage: run_floor [-p] HIERARCHIES CGROUP ROOTFS PROGRAM [ARGUMENT...]
//   -p           print the program's pid at once, for the floor of exec
//   HIERARCHIES  directories below /sys/fs/cgroup with v1 hierarchies, separated by colons; empty for cgroup v2
//   CGROUP       path of the cgroup to make, use and remove in each; its parent must exist
#include <linux/bpf.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "common.h"

enum { kBusyRetries = 2000, kBusyPauseUs = 100 };

static const char* const kDeviceRules[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm",   "c 1:7 rwm",
                                           "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 136:* rwm", "c 5:2 rwm"};
static const char* const kReadOnly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
static const char* const kMasked[] = {
    "/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys",    "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void mount_on(const char* source, const char* target, const char* type, unsigned long flags,
                     const char* options) {
  if (mount(source, target, type, flags, options) < 0) die(target);
}

// A new v1 cpuset cannot hold a process before it has cpus and memory nodes.
static void copy_from_parent(const struct cgroup* group, int index, const char* file) {
  char path[kPathMax], up[64], value[256];
  snprintf(up, sizeof up, "../%s", file);
  snprintf(path, sizeof path, "%s", cgroup_file(group, index, up));
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, value, sizeof value - 1);
  if (size < 0) die(path);
  close(fd);
  value[size] = '\0';
  write_text(cgroup_file(group, index, file), value);
}

static void restrict_devices(const struct cgroup* group, int index) {
  write_text(cgroup_file(group, index, "devices.deny"), "a");
  int fd = open(cgroup_file(group, index, "devices.allow"), O_WRONLY | O_CLOEXEC);
  if (fd < 0) die("devices.allow");
  for (size_t i = 0; i < COUNT(kDeviceRules); i++) {
    if (write(fd, kDeviceRules[i], strlen(kDeviceRules[i])) < 0) die(kDeviceRules[i]);
  }
  close(fd);
}

static void make_v1_cgroups(const struct cgroup* group) {
  for (int i = 0; i < group->count; i++) {
    if (mkdir(cgroup_file(group, i, ""), 0755) < 0 && errno != EEXIST) die(cgroup_file(group, i, ""));
    if (strcmp(group->hierarchies[i], "cpuset") == 0) {
      copy_from_parent(group, i, "cpuset.cpus");
      copy_from_parent(group, i, "cpuset.mems");
    }
    if (strcmp(group->hierarchies[i], "devices") == 0) restrict_devices(group, i);
  }
}

// v2 has no device files but a program; the smallest one, which allows all, costs what loading and attaching costs.
static int make_v2_cgroup(const struct cgroup* group) {
  if (mkdir(cgroup_file(group, 0, ""), 0755) < 0 && errno != EEXIST) die(cgroup_file(group, 0, ""));
  int directory = open(cgroup_file(group, 0, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) die("open cgroup");
  const struct bpf_insn allow[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}};
  union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                         .insn_cnt = COUNT(allow),
                         .insns = (uintptr_t)allow,
                         .license = (uintptr_t)"GPL"};
  int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
  if (program < 0) die("BPF_PROG_LOAD");
  union bpf_attr attach = {0};
  attach.target_fd = (uint32_t)directory;
  attach.attach_bpf_fd = (uint32_t)program;
  attach.attach_type = BPF_CGROUP_DEVICE;
  attach.attach_flags = BPF_F_ALLOW_MULTI;
  if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) < 0) die("BPF_PROG_ATTACH");
  close(program);
  return directory;
}

// A cgroup stays busy for a moment after its last process was reaped.
static void remove_cgroups(const struct cgroup* group) {
  for (int i = 0; i < (group->count > 0 ? group->count : 1); i++) {
    for (int tries = 0; rmdir(cgroup_file(group, i, "")) < 0; tries++) {
      if (errno != EBUSY || tries == kBusyRetries) die(cgroup_file(group, i, ""));
      usleep(kBusyPauseUs);
    }
  }
}

static void loopback_up(void) {
  struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0) die("lo");
  close(fd);
}

// Without a cgroup namespace a container sees of each v1 hierarchy its own directory, by a bind mount.
static void mount_cgroups(const struct cgroup* group) {
  if (group->count == 0) {
    mount_on("cgroup", "sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL);
    return;
  }
  mount_on("tmpfs", "sys/fs/cgroup", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=755");
  for (int i = 0; i < group->count; i++) {
    char target[kPathMax];
    snprintf(target, sizeof target, "sys/fs/cgroup/%s", group->hierarchies[i]);
    if (mkdir(target, 0755) < 0) die(target);
    mount_on(cgroup_file(group, i, ""), target, NULL, MS_BIND, NULL);
  }
  struct mount_attr attributes = {.attr_set =
                                      MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC};
  if (syscall(SYS_mount_setattr, AT_FDCWD, "sys/fs/cgroup", AT_RECURSIVE, &attributes, sizeof attributes) < 0) {
    die("mount_setattr sys/fs/cgroup");
  }
}

static void mount_all(const struct cgroup* group, const char* rootfs) {
  const unsigned long no_programs = MS_NOSUID | MS_NOEXEC;
  mount_on(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
  mount_on(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL);
  if (chdir(rootfs) < 0) die(rootfs);
  mount_on("proc", "proc", "proc", 0, NULL);
  mount_on("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
  if (mkdir("dev/pts", 0755) < 0 || mkdir("dev/shm", 0755) < 0 || mkdir("dev/mqueue", 0755) < 0) die("mkdir dev");
  mount_on("devpts", "dev/pts", "devpts", no_programs, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  mount_on("shm", "dev/shm", "tmpfs", no_programs | MS_NODEV, "mode=1777,size=65536k");
  mount_on("mqueue", "dev/mqueue", "mqueue", no_programs | MS_NODEV, NULL);
  mount_on("sysfs", "sys", "sysfs", no_programs | MS_NODEV | MS_RDONLY, NULL);
  mount_cgroups(group);
}

static void make_devices(void) {
  static const struct {
    const char* path;
    unsigned major, minor;
  } kNodes[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5},   {"dev/full", 1, 7},
                {"dev/tty", 5, 0},  {"dev/random", 1, 8}, {"dev/urandom", 1, 9}};
  static const char* const kLinks[][2] = {{"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"},
                                          {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
                                          {"pts/ptmx", "dev/ptmx"},          {"/proc/kcore", "dev/core"}};
  mode_t old = umask(0);
  for (size_t i = 0; i < COUNT(kNodes); i++) {
    if (mknod(kNodes[i].path, S_IFCHR | 0666, makedev(kNodes[i].major, kNodes[i].minor)) < 0) die(kNodes[i].path);
  }
  umask(old);
  for (size_t i = 0; i < COUNT(kLinks); i++) {
    if (symlink(kLinks[i][0], kLinks[i][1]) < 0) die(kLinks[i][1]);
  }
}

static void enter_root(void) {
  if (syscall(SYS_pivot_root, ".", ".") < 0) die("pivot_root");
  if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) die("leave the old root");
  mount_on(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
}

static void guard_paths(void) {
  for (size_t i = 0; i < COUNT(kReadOnly); i++) {
    if (mount(kReadOnly[i], kReadOnly[i], NULL, MS_BIND | MS_REC, NULL) == 0) {
      mount_on(NULL, kReadOnly[i], NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL);
    } else if (errno != ENOENT) {
      die(kReadOnly[i]);
    }
  }
  for (size_t i = 0; i < COUNT(kMasked); i++) {
    if (mount("/dev/null", kMasked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT) continue;
    if (errno != ENOTDIR) die(kMasked[i]);
    mount_on("tmpfs", kMasked[i], "tmpfs", MS_RDONLY, NULL);
  }
}

static _Noreturn void be_container(const struct cgroup* group, const char* rootfs, char** argv) {
  // The child joins by itself: a parent that writes a pid to cgroup.procs waits for an RCU grace period each time.
  for (int i = 0; i < group->count; i++) write_text(cgroup_file(group, i, "tasks"), "0");
  setsid();
  loopback_up();
  mount_all(group, rootfs);
  make_devices();
  enter_root();
  if (sethostname("runc", 4) < 0) die("sethostname");
  guard_paths();
  limit_process();
  run_program(argv);
}

int main(int argc, char** argv) {
  int print_pid = argc > 1 && strcmp(argv[1], "-p") == 0;
  char** words = argv + 1 + print_pid;
  if (argc - print_pid < 5) {
    fprintf(stderr, "usage: run_floor [-p] HIERARCHIES CGROUP ROOTFS PROGRAM [ARGUMENT...]\n");
    return kFailed;
  }
  struct cgroup group = parse_cgroup(words[0], words[1]);
  uint64_t namespaces = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;
  int directory = -1;
  if (group.count > 0) {
    make_v1_cgroups(&group);
  } else {
    directory = make_v2_cgroup(&group);
    namespaces |= CLONE_NEWCGROUP;
  }
  pid_t pid = (pid_t)clone3(namespaces, directory);
  if (pid == 0) be_container(&group, words[2], words + 3);
  if (print_pid) dprintf(STDOUT_FILENO, "%d\n", pid);
  int status = wait_for(pid);
  remove_cgroups(&group);
  return status;
}
