// What the floor programs share. They do with raw system calls what a runtime must do, and nothing else: no JSON, no
// state, no error recovery. What a runtime takes beyond them is what it costs.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kPathMax = 512, kHierarchiesMax = 16, kFailed = 125 };

/// Ends the program with the failed step and errno on stderr.
static inline _Noreturn void die(const char* step) {
  fprintf(stderr, "floor: %s: %s\n", step, strerror(errno));
  _exit(kFailed);
}

static inline void write_text(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) die(path);
  close(fd);
}

/// The cgroup to use: hierarchies (names of directories below /sys/fs/cgroup; none means v2) and the path in each.
struct cgroup {
  const char* hierarchies[kHierarchiesMax];
  int count;
  const char* path;
};

/// Splits "cpu:memory:..." in place; a colon, because v1 directories may have commas in their names. "" means v2.
static inline struct cgroup parse_cgroup(char* hierarchies, const char* path) {
  struct cgroup group = {.path = path};
  for (char* name = strtok(hierarchies, ":"); name && group.count < kHierarchiesMax; name = strtok(NULL, ":")) {
    group.hierarchies[group.count++] = name;
  }
  return group;
}

/// The path of `file` ("" for the directory) of the cgroup in hierarchy `index`; in a static buffer.
static inline const char* cgroup_file(const struct cgroup* group, int index, const char* file) {
  static char path[kPathMax];
  const char* hierarchy = group->count > 0 ? group->hierarchies[index] : "";
  snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s/%s", hierarchy, group->path, file);
  return path;
}

static inline long clone3(uint64_t flags, int cgroup_fd) {
  struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
  if (cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = (__u64)cgroup_fd;
  }
  long pid = syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) die("clone3");
  return pid;
}

/// What the default config's process section asks for: 1024 files, three capabilities, root, no new privileges.
static inline void limit_process(void) {
  const uint64_t kept = (1ULL << CAP_AUDIT_WRITE) | (1ULL << CAP_KILL) | (1ULL << CAP_NET_BIND_SERVICE);
  struct rlimit files = {1024, 1024};
  setrlimit(RLIMIT_NOFILE, &files);
  for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
    if (!((kept >> cap) & 1)) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
  }
  setgroups(0, NULL);
  if (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) die("setresuid");
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2] = {{.effective = (uint32_t)kept, .permitted = (uint32_t)kept}, {0}};
  if (syscall(SYS_capset, &header, sets) < 0) die("capset");
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static inline _Noreturn void run_program(char** argv) {
  char* const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
  execve(argv[0], argv, environment);
  die(argv[0]);
}

/// Waits for the program and returns its exit status as a shell would.
static inline int wait_for(pid_t pid) {
  int status;
  if (waitpid(pid, &status, 0) < 0) die("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
