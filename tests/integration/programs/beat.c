// Says that it is alive: writes "NUMBER NANOSECONDS" (CLOCK_MONOTONIC) to PATH every few milliseconds, for ever.
// usage: beat PATH [MILLISECONDS]     PATH is a FIFO whose reader is there already
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const long period = (argc > 2 ? atol(argv[2]) : 10) * 1000000;
  const int out = open(argv[1], O_WRONLY | O_CLOEXEC);
  if (out < 0) {
    perror(argv[1]);
    return 1;
  }
  for (unsigned long number = 0;; number++) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char line[64];
    const int length = snprintf(line, sizeof line, "%lu %lld\n", number, now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(out, line, (size_t)length) != length) return 1;
    const struct timespec pause = {0, period};
    nanosleep(&pause, NULL);
  }
}
