// A file system that passes everything through to a directory, and can be told to hang or to fail.
//
// usage: slow_fuse MOUNTPOINT DIRECTORY
//   Reads words from its standard input, a line each, and answers each with "ok":
//   hang  requests stay in the kernel's queue: who waits for one can still be killed
//   take  requests are read and kept: who waits for one cannot be killed before it is answered, or the server is gone
//   fail  requests are answered with EIO
//   go    as at the start; what was kept comes first
// Prints "ready" once the kernel is greeted. Lives until it is killed, or its input ends: all who wait get an error.
// The mount itself stays, for `umount -l`. See <linux/fuse.h>. Nodes are paths; a rename moves no others with it.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { MOST_NODES = 4096, MOST_KEPT = 256, ROOM = (1 << 17) + 8192 };
enum mode { GO, HANG, TAKE, FAIL };

static char* paths[MOST_NODES + 1];  // by node; 0 is none
static unsigned long nodes = FUSE_ROOT_ID;
static char* kept[MOST_KEPT];
static unsigned kept_count;
static char buffer[ROOM], reply[ROOM];
static int fuse;
static enum mode mode = GO;

static void answer(uint64_t unique, int err, const void* data, size_t size) {
  static char out[ROOM + sizeof(struct fuse_out_header)];
  struct fuse_out_header* const head = (struct fuse_out_header*)out;
  if (err != 0) size = 0;
  head->len = (uint32_t)(sizeof *head + size);
  head->error = -err;
  head->unique = unique;
  if (size != 0) memcpy(out + sizeof *head, data, size);
  if (write(fuse, out, head->len) < 0 && errno != ENOENT) perror("slow_fuse: answer");
}

static const char* path_of(uint64_t node) {
  return node <= nodes && paths[node] ? paths[node] : "/nowhere";
}

static const char* child_of(uint64_t node, const char* name) {
  static char path[2][PATH_MAX];
  static unsigned turn;
  turn ^= 1;
  snprintf(path[turn], sizeof path[turn], "%s/%s", path_of(node), name);
  return path[turn];
}

static uint64_t node_of(const char* path) {
  for (unsigned long i = FUSE_ROOT_ID; i <= nodes; ++i)
    if (paths[i] && strcmp(paths[i], path) == 0) return i;
  if (nodes == MOST_NODES) exit(3);
  paths[++nodes] = strdup(path);
  return nodes;
}

static void fill(struct fuse_attr* to, const struct stat* from) {
  memset(to, 0, sizeof *to);
  to->ino = from->st_ino;
  to->size = (uint64_t)from->st_size;
  to->blocks = (uint64_t)from->st_blocks;
  to->atime = (uint64_t)from->st_atim.tv_sec;
  to->mtime = (uint64_t)from->st_mtim.tv_sec;
  to->ctime = (uint64_t)from->st_ctim.tv_sec;
  to->mode = from->st_mode;
  to->nlink = (uint32_t)from->st_nlink;
  to->uid = from->st_uid;
  to->gid = from->st_gid;
  to->blksize = 4096;
}

static int entry(const char* path, struct fuse_entry_out* out) {
  struct stat file;
  memset(out, 0, sizeof *out);
  if (lstat(path, &file) < 0) return errno;
  out->nodeid = node_of(path);
  fill(&out->attr, &file);
  return 0;
}

static int list(const struct fuse_read_in* in, size_t* size) {
  DIR* const dir = (DIR*)in->fh;
  *size = 0;
  seekdir(dir, (long)in->offset);
  for (const struct dirent* one; (one = readdir(dir)) != NULL;) {
    const size_t length = strlen(one->d_name), all = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
    if (*size + all > in->size) break;
    struct fuse_dirent* const to = (struct fuse_dirent*)(reply + *size);
    memset(to, 0, all);
    to->ino = one->d_ino;
    to->off = (uint64_t)telldir(dir);
    to->namelen = (uint32_t)length;
    to->type = one->d_type;
    memcpy(to->name, one->d_name, length);
    *size += all;
  }
  return 0;
}

static int move(uint64_t from_node, uint64_t to_node, const char* names) {
  const char* const from = child_of(from_node, names);
  const char* const to = child_of(to_node, names + strlen(names) + 1);
  if (rename(from, to) < 0) return errno;
  const uint64_t gone = node_of(to), moved = node_of(from);
  free(paths[gone]);
  paths[gone] = NULL;
  free(paths[moved]);
  paths[moved] = strdup(to);
  return 0;
}

static int drop(const char* path, int status) {
  if (status < 0) return errno;
  const uint64_t node = node_of(path);
  free(paths[node]);
  paths[node] = NULL;
  return 0;
}

static int set(uint64_t node, const struct fuse_setattr_in* in) {
  if ((in->valid & FATTR_SIZE) == 0) return 0;
  const int status =
      in->valid & FATTR_FH ? ftruncate((int)in->fh, (off_t)in->size) : truncate(path_of(node), (off_t)in->size);
  return status < 0 ? errno : 0;
}

static int attributes(uint64_t node, int fd, struct fuse_attr_out* out) {
  struct stat file;
  memset(out, 0, sizeof *out);
  if ((fd >= 0 ? fstat(fd, &file) : lstat(path_of(node), &file)) < 0) return errno;
  fill(&out->attr, &file);
  return 0;
}

static int open_file(const char* path, int flags, mode_t bits, struct fuse_open_out* out) {
  // The kernel says where to write.
  const int fd = open(path, (flags & ~O_APPEND) | O_CLOEXEC, bits);
  memset(out, 0, sizeof *out);
  out->fh = (uint64_t)fd;
  return fd < 0 ? errno : 0;
}

static void serve(const char* request) {
  const struct fuse_in_header* const head = (const struct fuse_in_header*)request;
  const char* const body = request + sizeof *head;
  const void* const in = body;
  struct fuse_entry_out* const found = (struct fuse_entry_out*)reply;
  size_t size = 0;
  int err = 0;
  const char* path;
  if (head->opcode == FUSE_FORGET || head->opcode == FUSE_BATCH_FORGET || head->opcode == FUSE_INTERRUPT) return;
  if (mode == FAIL) return answer(head->unique, EIO, NULL, 0);
  switch (head->opcode) {
    case FUSE_LOOKUP:
      err = entry(child_of(head->nodeid, body), found);
      size = sizeof *found;
      break;
    case FUSE_SETATTR:
      err = set(head->nodeid, in);
      // fall through
    case FUSE_GETATTR: {
      const struct fuse_getattr_in* const get = in;
      const int by_fd = head->opcode == FUSE_GETATTR && (get->getattr_flags & FUSE_GETATTR_FH) != 0;
      if (err == 0) err = attributes(head->nodeid, by_fd ? (int)get->fh : -1, (struct fuse_attr_out*)reply);
      size = sizeof(struct fuse_attr_out);
      break;
    }
    case FUSE_MKDIR: {
      const struct fuse_mkdir_in* const make = in;
      path = child_of(head->nodeid, body + sizeof *make);
      err = mkdir(path, make->mode) < 0 ? errno : entry(path, found);
      size = sizeof *found;
      break;
    }
    case FUSE_CREATE: {
      const struct fuse_create_in* const make = in;
      path = child_of(head->nodeid, body + sizeof *make);
      err = open_file(path, (int)make->flags | O_CREAT, make->mode, (struct fuse_open_out*)(found + 1));
      if (err == 0) err = entry(path, found);
      size = sizeof *found + sizeof(struct fuse_open_out);
      break;
    }
    case FUSE_OPEN: {
      const struct fuse_open_in* const open_in = in;
      err = open_file(path_of(head->nodeid), (int)open_in->flags, 0, (struct fuse_open_out*)reply);
      size = sizeof(struct fuse_open_out);
      break;
    }
    case FUSE_READ: {
      const struct fuse_read_in* const read_in = in;
      const ssize_t got = pread((int)read_in->fh, reply, read_in->size, (off_t)read_in->offset);
      err = got < 0 ? errno : 0;
      size = got < 0 ? 0 : (size_t)got;
      break;
    }
    case FUSE_WRITE: {
      const struct fuse_write_in* const write_in = in;
      struct fuse_write_out* const out = (struct fuse_write_out*)reply;
      const ssize_t got = pwrite((int)write_in->fh, body + sizeof *write_in, write_in->size, (off_t)write_in->offset);
      err = got < 0 ? errno : 0;
      memset(out, 0, sizeof *out);
      out->size = (uint32_t)got;
      size = sizeof *out;
      break;
    }
    case FUSE_RELEASE:
      close((int)((const struct fuse_release_in*)in)->fh);
      break;
    case FUSE_UNLINK:
      path = child_of(head->nodeid, body);
      err = drop(path, unlink(path));
      break;
    case FUSE_RMDIR:
      path = child_of(head->nodeid, body);
      err = drop(path, rmdir(path));
      break;
    case FUSE_RENAME:
      err = move(head->nodeid, ((const struct fuse_rename_in*)in)->newdir, body + sizeof(struct fuse_rename_in));
      break;
    case FUSE_RENAME2:
      err = move(head->nodeid, ((const struct fuse_rename2_in*)in)->newdir, body + sizeof(struct fuse_rename2_in));
      break;
    case FUSE_OPENDIR: {
      struct fuse_open_out* const out = (struct fuse_open_out*)reply;
      memset(out, 0, sizeof *out);
      DIR* const dir = opendir(path_of(head->nodeid));
      err = dir ? 0 : errno;
      out->fh = (uint64_t)dir;
      size = sizeof *out;
      break;
    }
    case FUSE_READDIR:
      err = list(in, &size);
      break;
    case FUSE_RELEASEDIR:
      closedir((DIR*)((const struct fuse_release_in*)in)->fh);
      break;
    case FUSE_STATFS:
      memset(reply, 0, sizeof(struct fuse_statfs_out));
      size = sizeof(struct fuse_statfs_out);
      break;
    case FUSE_FLUSH:
    case FUSE_FSYNC:
      break;
    default:
      err = ENOSYS;
  }
  answer(head->unique, err, reply, size);
}

static void greet(void) {
  if (read(fuse, buffer, sizeof buffer) < (ssize_t)sizeof(struct fuse_in_header)) exit(1);
  const struct fuse_in_header* const request = (const struct fuse_in_header*)buffer;
  struct fuse_init_out out;
  memset(&out, 0, sizeof out);
  out.major = FUSE_KERNEL_VERSION;
  out.minor = FUSE_KERNEL_MINOR_VERSION;
  out.max_write = 1 << 17;
  out.max_readahead = 1 << 17;
  out.flags = FUSE_BIG_WRITES | FUSE_ATOMIC_O_TRUNC;
  if (request->opcode != FUSE_INIT) exit(1);
  answer(request->unique, 0, &out, sizeof out);
}

static void take_request(void) {
  const ssize_t got = read(fuse, buffer, sizeof buffer);
  if (got < 0 && (errno == ENODEV || errno == EBADF)) exit(0);
  if (got < 0) return;
  if (mode != TAKE) return serve(buffer);
  if (kept_count == MOST_KEPT) exit(3);
  kept[kept_count] = malloc((size_t)got + 1);
  memcpy(kept[kept_count], buffer, (size_t)got);
  kept[kept_count++][got] = '\0';
}

static void take_word(void) {
  char word[16];
  if (!fgets(word, sizeof word, stdin)) exit(0);
  mode = word[0] == 'h' ? HANG : word[0] == 't' ? TAKE : word[0] == 'f' ? FAIL : GO;
  if (mode == GO || mode == FAIL) {
    for (unsigned i = 0; i < kept_count; ++i) {
      serve(kept[i]);
      free(kept[i]);
    }
    kept_count = 0;
  }
  printf("ok\n");
  fflush(stdout);
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: slow_fuse MOUNTPOINT DIRECTORY\n");
    return 2;
  }
  umask(0);
  setvbuf(stdin, NULL, _IONBF, 0);
  fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  char options[128];
  snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fuse);
  if (fuse < 0 || mount("slow", argv[1], "fuse.slow", MS_NOSUID | MS_NODEV, options) < 0) {
    perror("slow_fuse: mount");
    return 1;
  }
  paths[FUSE_ROOT_ID] = argv[2];
  greet();
  printf("ready\n");
  fflush(stdout);
  for (;;) {
    struct pollfd polled[2] = {{STDIN_FILENO, POLLIN, 0}, {mode == HANG ? -1 : fuse, POLLIN, 0}};
    if (poll(polled, 2, -1) < 0) return 1;
    if (polled[0].revents)
      take_word();
    else if (polled[1].revents)
      take_request();
  }
}
