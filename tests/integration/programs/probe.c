// Runs inside containers, statically linked. Without arguments it prints what it sees as JSON; with a word it does one
// small thing a test needs (idle, syscall, fork, ...).
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

static const char* separator = "";

static void text(const char* value) {
  putchar('"');
  for (const unsigned char* c = (const unsigned char*)value; *c; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 0x20 || *c >= 0x7f)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
  putchar('"');
}

static void key(const char* name) {
  printf("%s\n", separator);
  text(name);
  printf(": ");
  separator = ",";
}

static void list(const char* name, char** values) {
  key(name);
  printf("[");
  for (char** value = values; *value; value++) {
    if (value != values) printf(", ");
    text(*value);
  }
  printf("]");
}

static void status_fields(void) {
  FILE* file = fopen("/proc/self/status", "r");
  char line[4096];
  key("status");
  printf("{");
  const char* comma = "";
  while (file && fgets(line, sizeof line, file)) {
    char* colon = strchr(line, ':');
    if (!colon) continue;
    *colon = 0;
    char* value = colon + 1;
    while (isspace((unsigned char)*value)) value++;
    value[strcspn(value, "\n")] = 0;
    printf("%s", comma);
    text(line);
    printf(": ");
    text(value);
    comma = ", ";
  }
  printf("}");
  if (file) fclose(file);
}

static void descriptors(void) {
  DIR* dir = opendir("/proc/self/fd");
  key("fds");
  printf("{");
  const char* comma = "";
  for (struct dirent* entry; dir && (entry = readdir(dir));) {
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(dir)) continue;
    char path[64], link[4096];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(path, link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    printf("%s\"%d\": ", comma, fd);
    text(link);
    comma = ", ";
  }
  printf("}");
  if (dir) closedir(dir);
}

static void lines(const char* name, const char* path) {
  FILE* file = fopen(path, "r");
  char line[8192];
  key(name);
  printf("[");
  const char* comma = "";
  while (file && fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    printf("%s\n  ", comma);
    text(line);
    comma = ",";
  }
  printf("]");
  if (file) fclose(file);
}

static void limits(void) {
  static const char* const names[] = {"CPU",      "FSIZE",  "DATA",    "STACK", "CORE",  "RSS",
                                      "NPROC",    "NOFILE", "MEMLOCK", "AS",    "LOCKS", "SIGPENDING",
                                      "MSGQUEUE", "NICE",   "RTPRIO",  "RTTIME"};
  key("rlimits");
  printf("{");
  for (int i = 0; i < 16; i++) {
    struct rlimit limit;
    getrlimit(i, &limit);
    printf("%s\"%s\": [%lld, %lld]", i ? ", " : "", names[i], (long long)limit.rlim_cur, (long long)limit.rlim_max);
  }
  printf("}");
}

static void devices(void) {
  DIR* dir = opendir("/dev");
  key("dev");
  printf("{");
  const char* comma = "";
  for (struct dirent* entry; dir && (entry = readdir(dir));) {
    if (entry->d_name[0] == '.') continue;
    char path[512], link[512];
    struct stat st;
    snprintf(path, sizeof path, "/dev/%s", entry->d_name);
    if (lstat(path, &st) < 0) continue;
    ssize_t length = S_ISLNK(st.st_mode) ? readlink(path, link, sizeof link - 1) : 0;
    link[length < 0 ? 0 : length] = 0;
    const char* type = S_ISCHR(st.st_mode)    ? "c"
                       : S_ISBLK(st.st_mode)  ? "b"
                       : S_ISDIR(st.st_mode)  ? "d"
                       : S_ISLNK(st.st_mode)  ? "l"
                       : S_ISFIFO(st.st_mode) ? "p"
                                              : "f";
    printf(
        "%s\n  \"%s\": {\"type\": \"%s\", \"major\": %u, \"minor\": %u, \"mode\": %u, \"uid\": %u, \"gid\": %u, "
        "\"link\": ",
        comma, entry->d_name, type, major(st.st_rdev), minor(st.st_rdev), st.st_mode & 07777, st.st_uid, st.st_gid);
    text(link);
    printf("}");
    comma = ",";
  }
  printf("}");
  if (dir) closedir(dir);
}

static void link_of(const char* name, const char* path) {
  char link[4096];
  ssize_t length = readlink(path, link, sizeof link - 1);
  link[length < 0 ? 0 : length] = 0;
  key(name);
  text(link);
}

static void file_of(const char* name, const char* path) {
  char buffer[4096] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? 0 : read(fd, buffer, sizeof buffer - 1);
  buffer[length < 0 ? 0 : length] = 0;
  buffer[strcspn(buffer, "\n")] = 0;
  if (fd >= 0) close(fd);
  key(name);
  text(buffer);
}

static void namespaces(void) {
  static const char* const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  key("ns");
  printf("{");
  for (int i = 0; i < 8; i++) {
    char path[64], link[256];
    snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
    ssize_t length = readlink(path, link, sizeof link - 1);
    link[length < 0 ? 0 : length] = 0;
    printf("%s\"%s\": ", i ? ", " : "", names[i]);
    text(link);
  }
  printf("}");
}

static int print_all(int argc, char** argv) {
  (void)argc;
  printf("{");
  descriptors();  // first: the files opened below must not appear
  key("pid"), printf("%d", getpid());
  key("ppid"), printf("%d", getppid());
  key("sid"), printf("%d", getsid(0));
  key("pgid"), printf("%d", getpgid(0));
  uid_t r, e, s;
  getresuid(&r, &e, &s);
  key("uids"), printf("[%u, %u, %u]", r, e, s);
  gid_t rg, eg, sg;
  getresgid(&rg, &eg, &sg);
  key("gids"), printf("[%u, %u, %u]", rg, eg, sg);
  gid_t groups[65536 / 64];
  int count = getgroups(sizeof groups / sizeof *groups, groups);
  key("groups"), printf("[");
  for (int i = 0; i < count; i++) printf("%s%u", i ? ", " : "", groups[i]);
  printf("]");
  mode_t mask = umask(0);
  umask(mask);
  key("umask"), printf("%u", mask);
  char cwd[4096] = "";
  long length = syscall(SYS_getcwd, cwd, sizeof cwd);
  key("cwd"), text(length < 0 ? strerror(errno) : cwd);
  // A directory of another mount tree has a name here, too; it is ours when the name leads back to it.
  struct stat here, named;
  key("cwd_is_inside"), printf(stat(".", &here) == 0 && stat(cwd, &named) == 0 && here.st_dev == named.st_dev &&
                                       here.st_ino == named.st_ino
                                   ? "true"
                                   : "false");
  struct utsname uts;
  uname(&uts);
  key("hostname"), text(uts.nodename);
  key("domainname"), text(uts.domainname);
  key("machine"), text(uts.machine);
  key("dumpable"), printf("%d", prctl(PR_GET_DUMPABLE));
  key("pdeathsig");
  int signo = 0;
  prctl(PR_GET_PDEATHSIG, &signo);
  printf("%d", signo);
  key("subreaper");
  int subreaper = 0;
  prctl(PR_GET_CHILD_SUBREAPER, &subreaper);
  printf("%d", subreaper);
  key("nice"), printf("%d", getpriority(PRIO_PROCESS, 0));
  key("scheduler"), printf("%d", sched_getscheduler(0));
  key("ioprio"), printf("%ld", syscall(SYS_ioprio_get, 1, 0));
  key("personality"), printf("%d", personality(0xffffffff));
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  sched_getaffinity(0, sizeof cpus, &cpus);
  key("cpus"), printf("%d", CPU_COUNT(&cpus));
  list("args", argv);
  list("env", environ);
  limits();
  status_fields();
  link_of("exe", "/proc/self/exe");
  link_of("init_exe", "/proc/1/exe");
  file_of("oom_score_adj", "/proc/self/oom_score_adj");
  lines("cgroup", "/proc/self/cgroup");
  lines("mounts", "/proc/self/mountinfo");
  char keyring[256] = "";
  syscall(SYS_keyctl, 6 /* KEYCTL_DESCRIBE */, -3 /* KEY_SPEC_SESSION_KEYRING */, keyring, sizeof keyring);
  key("keyring"), text(keyring);
  devices();
  namespaces();
  printf("\n}\n");
  return 0;
}

static void on_signal(int signo) {
  char line[32];
  int length = snprintf(line, sizeof line, "signal %d\n", signo);
  if (write(1, line, (size_t)length) < 0) _exit(99);
  if (signo == SIGTERM) _exit(15);
}

/// Says "ready", then reports every signal; TERM ends with 15.
static int idle(void) {
  static const int signals[] = {SIGHUP,  SIGINT,   SIGQUIT, SIGUSR1, SIGUSR2,
                                SIGTERM, SIGWINCH, SIGCONT, SIGPIPE, SIGALRM};
  for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], on_signal);
  if (write(1, "ready\n", 6) < 0) return 98;
  for (;;) {
    pause();
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
  }
}

static int raw_syscall(int argc, char** argv) {
  long words[7] = {0};
  for (int i = 0; i < argc && i < 7; i++) words[i] = strtol(argv[i], NULL, 0);
  errno = 0;
  long result = syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
  printf("%ld %s\n", result, result < 0 ? strerrorname_np(errno) : "OK");
  return 0;
}

/// Tries to open each path for writing and says how it went.
static int write_paths(char** paths) {
  for (; *paths; paths++) {
    int fd = open(*paths, O_WRONLY | O_CLOEXEC);
    printf("%s %s\n", *paths, fd < 0 ? strerrorname_np(errno) : "OK");
    if (fd >= 0) close(fd);
  }
  return 0;
}

static int read_paths(char** paths) {
  for (; *paths; paths++) {
    char byte;
    int fd = open(*paths, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t count = fd < 0 ? -1 : read(fd, &byte, 1);
    printf("%s %s\n", *paths, count < 0 ? strerrorname_np(errno) : count ? "DATA" : "EMPTY");
    if (fd >= 0) close(fd);
  }
  return 0;
}

/// Forks up to `limit` idle children, prints how many the kernel granted.
static int fork_many(int limit) {
  int made = 0;
  for (; made < limit; made++) {
    pid_t pid = fork();
    if (pid < 0) break;
    if (pid == 0) {
      pause();
      _exit(0);
    }
  }
  printf("%d\n", made);
  fflush(stdout);
  kill(0, SIGTERM);
  return 0;
}

static int allocate(long megabytes) {
  for (long i = 0; i < megabytes; i++) {
    char* block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return 1;
    memset(block, 1, 1 << 20);
  }
  puts("allocated");
  return 0;
}

static int clocks(void) {
  struct timespec monotonic, boot;
  clock_gettime(CLOCK_MONOTONIC, &monotonic);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  printf("%ld %ld\n", (long)monotonic.tv_sec, (long)boot.tv_sec);
  return 0;
}

/// Sends each word as a datagram to $NOTIFY_SOCKET.
static int notify(char** words) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char* path = getenv("NOTIFY_SOCKET");
  if (!path) return 1;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  for (; *words; words++) {
    if (sendto(fd, *words, strlen(*words), 0, (struct sockaddr*)&address, sizeof address) < 0) return 2;
  }
  return 0;
}

/// Pushes a character into the controlling terminal's input, as an attacker would.
static int push_input(void) {
  char c = '#';
  int failed = 0;
  for (int fd = 0; fd < 3; fd++) failed += ioctl(fd, TIOCSTI, &c) < 0;
  printf("%d %s\n", 3 - failed, strerrorname_np(errno));
  return 0;
}

/// A daemon in the background that outlives its parent and ignores polite signals.
static int background(void) {
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    for (;;) pause();
  }
  printf("%d\n", pid);
  return 0;
}

/// Watches /proc from inside as a hostile pid 1: every other process's fds, exe, cwd and root are tried. Prints what
/// could be reached for processes whose exe is not /bin/probe.
static int watch(int milliseconds) {
  struct timespec start, now;
  clock_gettime(CLOCK_MONOTONIC, &start);
  if (write(1, "ready\n", 6) < 0) return 98;
  for (;;) {
    DIR* dir = opendir("/proc");
    for (struct dirent* entry; dir && (entry = readdir(dir));) {
      int pid = atoi(entry->d_name);
      if (pid <= 1) continue;
      static const char* const names[] = {"exe",  "cwd",  "root", "fd/0", "fd/3", "fd/4",
                                          "fd/5", "fd/6", "fd/7", "fd/8", "mem"};
      char exe[4096] = "", path[128], link[4096];
      snprintf(path, sizeof path, "/proc/%d/exe", pid);
      ssize_t length = readlink(path, exe, sizeof exe - 1);
      if (length > 0) exe[length] = 0;
      if (length > 0 && (!strcmp(exe, "/bin/busybox") || !strcmp(exe, "/bin/probe"))) continue;
      for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        int fd = open(path, (strcmp(names[i], "mem") ? O_PATH : O_RDWR) | O_CLOEXEC);
        if (fd < 0) continue;
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        length = readlink(path, link, sizeof link - 1);
        link[length < 0 ? 0 : length] = 0;
        // The program may have been execed between the two looks; only what is still foreign counts.
        char again[4096] = "";
        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        ssize_t second = readlink(path, again, sizeof again - 1);
        if (second > 0) again[second] = 0;
        struct stat seen, mine;
        int own_root =
            fstat(fd, &seen) == 0 && stat("/", &mine) == 0 && seen.st_dev == mine.st_dev && seen.st_ino == mine.st_ino;
        if (again[0] && strcmp(again, "/bin/busybox") && strcmp(again, "/bin/probe"))
          printf("reached %s of %s: %s\n", names[i], again, own_root ? "own root" : link);
        close(fd);
      }
    }
    if (dir) closedir(dir);
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000 > milliseconds) break;
  }
  puts("done");
  return 0;
}

/// Tries to open for writing the exe of the process that becomes visible as pid `argv[0]`.
static int overwrite_exe(const char* pid) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%s/exe", pid);
  int look = open(path, O_PATH | O_CLOEXEC);
  printf("path %s\n", look < 0 ? strerrorname_np(errno) : "OK");
  for (int i = 0; i < 20000; i++) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
      ssize_t count = write(fd, "#!", 2);
      printf("write %s\n", count < 0 ? strerrorname_np(errno) : "OK");
      return 0;
    }
    if (errno != ETXTBSY) break;
  }
  printf("open %s\n", strerrorname_np(errno));
  return 0;
}

/// mount(2): source, target, type.
static int mount_call(char** argv) {
  int result = mount(argv[0], argv[1], argv[2], 0, NULL);
  printf("%s\n", result < 0 ? strerrorname_np(errno) : "OK");
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 2) return print_all(argc, argv);
  const char* word = argv[1];
  if (!strcmp(word, "idle")) return idle();
  if (!strcmp(word, "exit") && argc > 2) return atoi(argv[2]);
  if (!strcmp(word, "syscall")) return raw_syscall(argc - 2, argv + 2);
  if (!strcmp(word, "write")) return write_paths(argv + 2);
  if (!strcmp(word, "read")) return read_paths(argv + 2);
  if (!strcmp(word, "fork") && argc > 2) return fork_many(atoi(argv[2]));
  if (!strcmp(word, "allocate") && argc > 2) return allocate(atol(argv[2]));
  if (!strcmp(word, "clocks")) return clocks();
  if (!strcmp(word, "notify")) return notify(argv + 2);
  if (!strcmp(word, "tiocsti")) return push_input();
  if (!strcmp(word, "background")) return background();
  if (!strcmp(word, "watch") && argc > 2) return watch(atoi(argv[2]));
  if (!strcmp(word, "overwrite-exe") && argc > 2) return overwrite_exe(argv[2]);
  if (!strcmp(word, "mount") && argc > 4) return mount_call(argv + 2);
  if (!strcmp(word, "signal") && argc > 2) {
    signal(atoi(argv[2]), SIG_DFL);
    kill(getpid(), atoi(argv[2]));
    pause();
  }
  return print_all(argc, argv);
}
