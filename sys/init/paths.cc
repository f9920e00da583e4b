// Paths inside the rootfs: only by openat2 from the root fd, and what is missing is made by fd, one component at a
// time.
#include "sys/init/context.h"

namespace gantry::init {
namespace {

constexpr int kMaxRetries = 128;  // a racer can starve us, but not for ever
constexpr int kMaxLinks = 40;     // as the kernel
constexpr long kStartAgain = 1L << 40;

/// One step of making a path.
struct Walk {
  Context& ctx;
  Text<kPathMax>& path;
  Make what;
  unsigned mode;
  size_t begin = 0, end = 0;  ///< the component
  int parent = -1;            ///< the directory it is in, -1 = the root

  bool last() const {
    size_t i = end;
    while (path.get()[i] == '/') ++i;
    return path.get()[i] == '\0';
  }
  int parent_fd() const { return parent < 0 ? root_fd(ctx) : parent; }
};

long make_in(int parent, const char* name, Make what, unsigned mode) {
  if (what == Make::kFile) return open_at(parent, name, kORdonly | kOCreat | kOExcl | kONofollow, mode);
  if (const long made = call(__NR_mkdirat, parent, name, mode); made < 0) return made;
  return open_at(parent, name, kOPath | kODirectory | kONofollow);
}

/// The component is there and yet not: a dangling link. Its target replaces it in the path.
long follow_link(const Walk& walk, const char* name) {
  char target[kPathMax];
  const long size = call(__NR_readlinkat, walk.parent_fd(), name, target, sizeof target);
  if (size == -kEINVAL) return -kEAGAIN;  // something else was put there meanwhile
  if (size < 0) return size;
  Text<kPathMax> spliced;
  if (size > 0 && target[0] != '/') spliced.add(walk.path.get(), walk.begin);
  spliced.add(target, static_cast<size_t>(size)).add(walk.path.get() + walk.end);
  if (spliced.cut()) return -kENAMETOOLONG;
  walk.path.assign(spliced);
  return kStartAgain;
}

long one_component(const Walk& walk) {
  Text<kPathMax> prefix, name;
  prefix.add(walk.path.get(), walk.end);
  name.add(walk.path.get() + walk.begin, walk.end - walk.begin);
  const bool file = walk.last() && walk.what == Make::kFile;
  long fd = open_in_root(walk.ctx, prefix.get(), file ? kOPath : kOPath | kODirectory);
  if (fd == -kENOENT)
    fd = make_in(walk.parent_fd(), name.get(), file ? Make::kFile : Make::kDirectory, walk.last() ? walk.mode : 0755);
  if (fd == -kEEXIST) fd = follow_link(walk, name.get());
  return fd;
}

long make_path(Context& ctx, Text<kPathMax>& path, Make what, unsigned mode) {
  Walk walk{ctx, path, what, mode};
  for (;;) {
    walk.begin = walk.end;
    while (path.get()[walk.begin] == '/') ++walk.begin;
    if (path.get()[walk.begin] == '\0') return walk.parent >= 0 ? walk.parent : open_in_root(ctx, "/", kOPath);
    walk.end = walk.begin;
    while (path.get()[walk.end] != '/' && path.get()[walk.end] != '\0') ++walk.end;
    const long fd = one_component(walk);
    if (walk.parent >= 0) close_fd(walk.parent);
    if (fd < 0 || fd == kStartAgain) return fd;
    walk.parent = static_cast<int>(fd);
  }
}

/// The usual case: only the last component is missing. Anything else is -ENOENT or -EEXIST, and the long way's.
long make_last(Context& ctx, const char* path, Make what, unsigned mode) {
  size_t split = length_of(path);
  while (split > 0 && path[split - 1] != '/') --split;
  const char* name = path + split;
  if (split == 0 || *name == '\0' || same_text(name, ".") || same_text(name, "..")) return -kENOENT;
  Text<kPathMax> directory;
  directory.add(path, split);
  const long parent = open_in_root(ctx, directory.get(), kOPath | kODirectory);
  if (parent < 0) return parent;
  const long fd = make_in(static_cast<int>(parent), name, what, mode);
  close_fd(parent);
  return fd;
}

}  // namespace

int root_fd(Context& ctx) {
  if (ctx.root < 0)
    ctx.root = static_cast<int>(must(ctx, open_at(kAtFdcwd, "/", kOPath | kODirectory), "open the root"));
  return ctx.root;
}

long open_resolved(int dir, const char* path, int flags, uint64_t resolve) {
  struct open_how how = {};
  how.flags = static_cast<uint64_t>(flags | kOCloexec);
  how.resolve = resolve;
  long fd = -kEAGAIN;
  for (int i = 0; i < kMaxRetries && (fd == -kEAGAIN || fd == -kEINTR); ++i)
    fd = call(__NR_openat2, dir, path, &how, sizeof how);
  return fd;
}

long open_in_root(Context& ctx, const char* path, int flags, uint64_t more_resolve) {
  const long fd = open_resolved(root_fd(ctx), path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | more_resolve);
  // Nothing else keeps a path inside.
  if (fd == -kENOSYS) die(ctx, kENOSYS, "openat2");
  return fd;
}

long make_in_root(Context& ctx, const char* path, Make what, unsigned mode, bool* created) {
  if (created != nullptr) *created = false;
  const int flags = what == Make::kDirectory ? kOPath | kODirectory : kOPath;
  const long there = open_in_root(ctx, path, flags);
  if (there != -kENOENT) return there;
  if (created != nullptr) *created = true;
  const long made = make_last(ctx, path, what, mode);
  if (made != -kENOENT && made != -kEEXIST) return made;
  Text<kPathMax> work(path);
  if (work.cut()) return -kENAMETOOLONG;
  for (int links = 0; links < kMaxLinks; ++links) {
    const long fd = make_path(ctx, work, what, mode);
    if (fd != kStartAgain && fd != -kEAGAIN) return fd;
  }
  return -kELOOP;
}

void forget_parent(Context& ctx) {
  if (ctx.parent_fd >= 0) close_fd(ctx.parent_fd);
  ctx.parent_fd = -1;
}

int parent_in_root(Context& ctx, const char* path, const char** name) {
  size_t split = length_of(path);
  while (split > 0 && path[split - 1] != '/') --split;
  *name = path + split;
  if (**name == '\0' || same_text(*name, ".") || same_text(*name, "..")) die(ctx, 0, "the path does not end in a name");
  Text<kPathMax> directory;
  directory.add(path, split);
  if (directory.cut()) die(ctx, kENAMETOOLONG, "path");
  if (ctx.parent_fd >= 0 && same_text(directory.get(), ctx.parent_path.get())) return ctx.parent_fd;
  forget_parent(ctx);
  const char* wanted = split > 0 ? directory.get() : "/";
  ctx.parent_fd = static_cast<int>(must(ctx, make_in_root(ctx, wanted, Make::kDirectory, 0755, nullptr), "mkdirat"));
  ctx.parent_path.assign(directory);
  return ctx.parent_fd;
}

}  // namespace gantry::init
