// A file system that never answers: it greets the kernel and then leaves every request open.
//
// usage: hung_fuse MOUNTPOINT ASKED pending|taken
//   pending  requests stay in the kernel's queue: who waits for one can still be killed
//   taken    requests are read and dropped: who waits for one cannot be killed before the connection is aborted
// Prints "ready" once the kernel is greeted and makes the file ASKED at the first request. Lives until it is killed,
// which closes /dev/fuse and aborts the connection: all who wait get an error. The mount itself stays, for its maker's
// mount namespace or `umount -l`. See Linux Documentation/filesystems/fuse.rst and <linux/fuse.h>.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static char buffer[1 << 17];

static void greet(int fuse) {
  if (read(fuse, buffer, sizeof buffer) < (ssize_t)sizeof(struct fuse_in_header)) {
    perror("hung_fuse: FUSE_INIT");
    _exit(1);
  }
  const struct fuse_in_header* const request = (const struct fuse_in_header*)buffer;
  struct {
    struct fuse_out_header head;
    struct fuse_init_out body;
  } answer;
  memset(&answer, 0, sizeof answer);
  answer.head.len = sizeof answer;
  answer.head.unique = request->unique;
  answer.body.major = FUSE_KERNEL_VERSION;
  answer.body.minor = FUSE_KERNEL_MINOR_VERSION;
  answer.body.max_write = 4096;
  if (request->opcode != FUSE_INIT || write(fuse, &answer, sizeof answer) != sizeof answer) {
    perror("hung_fuse: answer to FUSE_INIT");
    _exit(1);
  }
}

static void never_answer(int fuse, const char* asked, int take) {
  struct pollfd polled = {fuse, POLLIN, 0};
  if (poll(&polled, 1, -1) < 0) _exit(1);
  const int file = open(asked, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) perror(asked);
  close(file);
  while (take && read(fuse, buffer, sizeof buffer) >= 0) {
  }
  for (;;) pause();
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: hung_fuse MOUNTPOINT ASKED pending|taken\n");
    return 2;
  }
  const int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  char options[128];
  snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fuse);
  if (fuse < 0 || mount("hung", argv[1], "fuse.hung", MS_NOSUID | MS_NODEV, options) < 0) {
    perror("hung_fuse: mount");
    return 1;
  }
  greet(fuse);
  printf("ready\n");
  fflush(stdout);
  never_answer(fuse, argv[2], strcmp(argv[3], "taken") == 0);
}
