// Runs the contestants in turn and measures each: wall time, CPU time of the whole process tree, peak memory.
//
// usage: driver ROUNDS < plan > samples
//   plan     lines "contestant NAME", each followed by its steps: "run ARG<TAB>ARG..." starts a program and waits for
//            it; "drain" waits until no child is left (a container's process that became ours when `create` ended)
//   samples  one line per round and contestant: NAME, wall ns, CPU us, peak resident KiB, separated by tabs
//
// Round 0 warms up and is not printed. A step that fails ends the program. It is small and static on purpose: a program
// started by vfork begins with its parent's peak memory.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kContestantsMax = 16, kStepsMax = 8, kWordsMax = 64, kPlanMax = 1 << 16, kDeadlineSeconds = 60 };

struct step {
  char* words[kWordsMax];  // none: drain
};

struct contestant {
  const char* name;
  struct step steps[kStepsMax];
  int count;
};

struct sample {
  uint64_t wall_ns, cpu_us;
  long peak_kib;
};

static struct contestant contestants[kContestantsMax];
static int contestant_count;
static char* environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};

static _Noreturn void fail(const char* who, const char* what, int value) {
  fprintf(stderr, "driver: %s: %s %d\n", who, what, value);
  exit(1);
}

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t microseconds(struct timeval time) {
  return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_usec;
}

static void add_usage(struct sample* sample, const struct rusage* usage) {
  sample->cpu_us += microseconds(usage->ru_utime) + microseconds(usage->ru_stime);
  if (usage->ru_maxrss > sample->peak_kib) sample->peak_kib = usage->ru_maxrss;
}

static void parse_line(char* line) {
  if (strncmp(line, "contestant ", 11) == 0) {
    if (contestant_count == kContestantsMax) fail(line, "contestants, at most", kContestantsMax);
    contestants[contestant_count++].name = line + 11;
    return;
  }
  if (contestant_count == 0) fail(line, "stands before the first contestant", 0);
  struct contestant* owner = &contestants[contestant_count - 1];
  if (owner->count == kStepsMax) fail(owner->name, "steps, at most", kStepsMax);
  struct step* step = &owner->steps[owner->count++];
  if (strcmp(line, "drain") == 0) return;
  if (strncmp(line, "run ", 4) != 0) fail(line, "is no step", 0);
  char* rest = line + 4;
  for (int i = 0; rest != NULL; i++) {
    if (i == kWordsMax - 1) fail(owner->name, "words, at most", kWordsMax - 1);
    step->words[i] = strsep(&rest, "\t");
  }
}

static void parse_plan(void) {
  static char plan[kPlanMax];
  size_t size = fread(plan, 1, sizeof plan - 1, stdin);
  plan[size] = '\0';
  char* rest = plan;
  for (char* line; (line = strsep(&rest, "\n")) != NULL;) {
    if (*line != '\0') parse_line(line);
  }
}

static void run_step(const char* name, struct step* step, struct sample* sample) {
  pid_t pid = vfork();
  if (pid == 0) {
    execve(step->words[0], step->words, environment);
    _exit(126);
  }
  if (pid < 0) fail(name, "vfork, errno", errno);
  int status;
  struct rusage usage;
  // Not wait(-1): with create, the container's process may end first and is drained later.
  while (wait4(pid, &status, 0, &usage) < 0) {
    if (errno != EINTR) fail(name, "wait4, errno", errno);
  }
  add_usage(sample, &usage);
  if (status != 0) fail(name, step->words[0], WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static void drain(struct sample* sample) {
  struct rusage usage;
  int status;
  while (wait4(-1, &status, 0, &usage) > 0) add_usage(sample, &usage);
}

static struct sample measure(struct contestant* contestant) {
  struct sample sample = {0};
  alarm(kDeadlineSeconds);
  uint64_t start = now_ns();
  for (int i = 0; i < contestant->count; i++) {
    struct step* step = &contestant->steps[i];
    if (step->words[0] == NULL) {
      drain(&sample);
    } else {
      run_step(contestant->name, step, &sample);
    }
  }
  sample.wall_ns = now_ns() - start;
  drain(&sample);
  alarm(0);
  return sample;
}

int main(int argc, char** argv) {
  int rounds = argc == 2 ? atoi(argv[1]) : 0;
  if (rounds < 1) fail("usage", "driver ROUNDS < plan, not", rounds);
  parse_plan();
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  // The programs get /dev/null, and the samples an fd that they do not inherit.
  FILE* samples = fdopen(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), "w");
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (samples == NULL || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) fail("stdio", "errno", errno);
  for (int round = 0; round <= rounds; round++) {
    for (int i = 0; i < contestant_count; i++) {
      struct sample sample = measure(&contestants[i]);
      if (round == 0) continue;
      fprintf(samples, "%s\t%llu\t%llu\t%ld\n", contestants[i].name, (unsigned long long)sample.wall_ns,
              (unsigned long long)sample.cpu_us, sample.peak_kib);
    }
  }
  return fclose(samples) == 0 ? 0 : 1;
}
