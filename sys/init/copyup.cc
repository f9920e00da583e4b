// tmpcopyup: what a new tmpfs would hide is copied into it first, by descriptors only.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr int kMaxDepth = 64;

long copy_level(int from, int to, int depth);

long copy_bytes(int from, int to) {
  for (;;) {
    const long moved = call(__NR_sendfile, to, from, nullptr, 1 << 20);
    if (moved <= 0) return moved;
  }
}

/// Extended attributes are copied where both file systems take them; tmpfs may refuse some name spaces.
void copy_xattrs(int from, int to) {
  char names[4096], value[4096];
  const long size = call(__NR_flistxattr, from, names, sizeof names);
  for (long at = 0; at < size; at += static_cast<long>(length_of(names + at)) + 1) {
    const long length = call(__NR_fgetxattr, from, names + at, value, sizeof value);
    if (length >= 0) call(__NR_fsetxattr, to, names + at, value, length, 0);
  }
}

long set_owner_and_mode(int from, int to, const Stat& object) {
  if (const long owned = call(__NR_fchown, to, object.st_uid, object.st_gid); owned < 0) return owned;
  copy_xattrs(from, to);
  return call(__NR_fchmod, to, object.st_mode & 07777);
}

long copy_file(int from_dir, int to_dir, const char* name, const Stat& object) {
  const long from = open_at(from_dir, name, kORdonly | kONofollow | kONonblock);
  if (from < 0) return from;
  const long to = open_at(to_dir, name, kOWronly | kOCreat | kOExcl | kONofollow, 0600);
  long result = to;
  if (to >= 0) {
    result = copy_bytes(static_cast<int>(from), static_cast<int>(to));
    if (result >= 0) result = set_owner_and_mode(static_cast<int>(from), static_cast<int>(to), object);
    close_fd(to);
  }
  close_fd(from);
  return result;
}

long copy_directory(int from_dir, int to_dir, const char* name, const Stat& object, int depth) {
  if (depth == kMaxDepth) return -kELOOP;
  const long from = open_at(from_dir, name, kORdonly | kODirectory | kONofollow);
  if (from < 0) return from;
  long result = call(__NR_mkdirat, to_dir, name, 0700);
  const long to = result < 0 ? result : open_at(to_dir, name, kORdonly | kODirectory | kONofollow);
  result = to;
  if (to >= 0) {
    result = copy_level(static_cast<int>(from), static_cast<int>(to), depth + 1);
    if (result >= 0) result = set_owner_and_mode(static_cast<int>(from), static_cast<int>(to), object);
    close_fd(to);
  }
  close_fd(from);
  return result;
}

long copy_link(int from_dir, int to_dir, const char* name, const Stat& object) {
  char target[kPathMax];
  const long size = call(__NR_readlinkat, from_dir, name, target, sizeof target - 1);
  if (size < 0) return size;
  target[size] = '\0';
  if (const long made = call(__NR_symlinkat, target, to_dir, name); made < 0) return made;
  return call(__NR_fchownat, to_dir, name, object.st_uid, object.st_gid, kAtSymlinkNofollow);
}

long copy_node(int to_dir, const char* name, const Stat& object) {
  if (const long made = call(__NR_mknodat, to_dir, name, object.st_mode, object.st_rdev); made < 0) return made;
  return call(__NR_fchownat, to_dir, name, object.st_uid, object.st_gid, kAtSymlinkNofollow);
}

long copy_entry(int from_dir, int to_dir, const char* name, int depth) {
  Stat object;
  if (const long there = stat_at(from_dir, name, &object, kAtSymlinkNofollow); there < 0) return there;
  switch (object.st_mode & kSIfmt) {
    case kSIfreg:
      return copy_file(from_dir, to_dir, name, object);
    case kSIfdir:
      return copy_directory(from_dir, to_dir, name, object, depth);
    case kSIflnk:
      return copy_link(from_dir, to_dir, name, object);
    case kSIfifo:
    case kSIfchr:
    case kSIfblk:
      return copy_node(to_dir, name, object);
    default:
      return 0;  // a socket: bound to a process that is not here
  }
}

long copy_level(int from, int to, int depth) {
  alignas(Dirent64) char entries[8192];
  for (;;) {
    const long size = call(__NR_getdents64, from, entries, sizeof entries);
    if (size <= 0) return size;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const Dirent64*>(entries + at);
      at += entry->reclen;
      if (same_text(entry->name, ".") || same_text(entry->name, "..")) continue;
      if (const long copied = copy_entry(from, to, entry->name, depth); copied < 0) return copied;
    }
  }
}

}  // namespace

long copy_tree(int from, int to) {
  const long directory = open_at(from, ".", kORdonly | kODirectory);
  if (directory < 0) return directory;
  const int source = static_cast<int>(directory);
  Stat object;
  long result = stat_fd(source, &object);
  const long root = open_at(to, ".", kORdonly | kODirectory);
  if (result >= 0) result = root;
  if (result >= 0) result = copy_level(source, static_cast<int>(root), 0);
  if (result >= 0) result = set_owner_and_mode(source, static_cast<int>(root), object);
  if (root >= 0) close_fd(root);
  close_fd(source);
  return result;
}

}  // namespace gantry::init
