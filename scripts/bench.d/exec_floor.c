// The floor of `exec`: one more process with the default config's limits in a running container.
//
// usage: exec_floor HIERARCHIES CGROUP PID PROGRAM [ARGUMENT...]     (the first two as in run_floor.c)
#include "common.h"

static int open_v1(const struct cgroup* group, int* tasks) {
  for (int i = 0; i < group->count; i++) {
    tasks[i] = open(cgroup_file(group, i, "tasks"), O_WRONLY | O_CLOEXEC);
    if (tasks[i] < 0) die(cgroup_file(group, i, "tasks"));
  }
  return -1;
}

static int open_v2(const struct cgroup* group) {
  int directory = open(cgroup_file(group, 0, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) die(cgroup_file(group, 0, ""));
  return directory;
}

static void enter(int pidfd, int namespaces) {
  if (syscall(SYS_setns, pidfd, namespaces) < 0) die("setns");
}

int main(int argc, char** argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: exec_floor HIERARCHIES CGROUP PID PROGRAM [ARGUMENT...]\n");
    return kFailed;
  }
  struct cgroup group = parse_cgroup(argv[1], argv[2]);
  int tasks[kHierarchiesMax];
  int directory = group.count > 0 ? open_v1(&group, tasks) : open_v2(&group);
  int pidfd = (int)syscall(SYS_pidfd_open, atoi(argv[3]), 0);
  if (pidfd < 0) die("pidfd_open");
  // The pid namespace is for the child only; the mount namespace last, as the cgroup files are out of reach after it.
  enter(pidfd, CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWPID);
  pid_t pid = (pid_t)clone3(0, directory);
  if (pid == 0) {
    for (int i = 0; i < group.count; i++) {
      if (write(tasks[i], "0", 1) < 0) die("join cgroup");
    }
    enter(pidfd, group.count > 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWCGROUP);
    setsid();
    limit_process();
    run_program(argv + 4);
  }
  return wait_for(pid);
}
