// The host's side of kMount: sources that init may not see or idmap are opened by the launcher (or, when that joins a
// user or mount namespace itself, by a child it forked before).
#include "sys/init/context.h"

namespace gantry::init {
namespace {

struct Failure {
  long err = 0;
  const char* text = nullptr;
};

/// `result`, remembered as the first failure when it is one.
long note(Failure& failure, long result, const char* what) {
  if (result < 0 && failure.text == nullptr) failure = {-result, what};
  return result;
}

void write_map(Failure& failure, long pid, const char* file, const char* lines) {
  Text<64> path("/proc/");
  path.add_number(static_cast<uint64_t>(pid)).add(file);
  const long fd = note(failure, open_at(kAtFdcwd, path.get(), kOWronly), "open a map");
  if (fd < 0) return;
  note(failure, write_fd(static_cast<int>(fd), lines, length_of(lines)), "write id mapping");
  close_fd(fd);
}

/// A user namespace that exists only for its maps; a child holds it until we have a descriptor.
long throwaway_namespace(Failure& failure, const char* uid_map, const char* gid_map) {
  constexpr int kPrSetPdeathsig = 1;
  int pidfd = -1;
  const long pid = note(failure, fork_child(kCloneNewUser, &pidfd), "clone3 for an id mapping");
  if (pid < 0) return pid;
  if (pid == 0) {
    prctl(kPrSetPdeathsig, kSigkill);
    for (;;) poll_fds(nullptr, 0, nullptr);
  }
  write_map(failure, pid, "/uid_map", uid_map);
  write_map(failure, pid, "/gid_map", gid_map);
  Text<64> path("/proc/");
  path.add_number(static_cast<uint64_t>(pid)).add("/ns/user");
  const long fd = note(failure, open_at(kAtFdcwd, path.get(), kORdonly), "open ns/user");
  signal_pidfd(pidfd, kSigkill);
  reap(pid);
  close_fd(pidfd);
  return fd;
}

void map_ids(Context& ctx, Failure& failure, const MountArgs& args, const Received& question, int mount) {
  const char* uid_map = text(ctx.plan, args.uid_map);
  const char* gid_map = text(ctx.plan, args.gid_map);
  const bool own = uid_map != nullptr && gid_map != nullptr;
  if (!own && question.fd_count != 1) {
    failure = {0, "id-mapped mounts must have both uid and gid mappings specified"};
    return;
  }
  const long user_ns = own ? throwaway_namespace(failure, uid_map, gid_map) : question.fds[0];
  if (user_ns < 0 || failure.text != nullptr) return;
  struct mount_attr attr = {MOUNT_ATTR_IDMAP, 0, 0, static_cast<uint64_t>(user_ns)};
  const unsigned recursive = (args.flags & kMountIdmapRecursive) != 0 ? unsigned{kAtRecursive} : 0;
  note(failure, mount_setattr(mount, recursive, &attr), "mount_setattr MOUNT_ATTR_IDMAP");
  if (own) close_fd(user_ns);
}

long open_source(Context& ctx, Failure& failure, const Step& step, const Received& question) {
  const auto& args = *blob<MountArgs>(ctx.plan, step.s[2]);
  const unsigned recursive = (args.flags & kMountRecursive) != 0 ? unsigned{kAtRecursive} : 0;
  const char* source = text(ctx.plan, step.s[0]);
  const long mount = note(failure, open_tree(kAtFdcwd, source, OPEN_TREE_CLONE | recursive), "open_tree");
  if (mount >= 0 && (args.flags & kMountIdmap) != 0) map_ids(ctx, failure, args, question, static_cast<int>(mount));
  return mount;
}

void answer(Context& ctx, int socket, const Received& question) {
  Failure failure;
  long mount = -1;
  const uint32_t index = question.frame.step;
  const bool known = question.frame.tag == Tag::kMountFdPlease && index < ctx.plan.header->step_count &&
                     ctx.plan.steps[index].op == Op::kMount &&
                     blob<MountArgs>(ctx.plan, ctx.plan.steps[index].s[2])->kind == MountKind::kBind;
  if (known) {
    mount = open_source(ctx, failure, ctx.plan.steps[index], question);
  } else {
    failure = {0, "sync protocol: init asked the launcher for something else than a mount"};
  }
  Frame frame = make_frame(failure.text == nullptr ? Tag::kMountFd : Tag::kError, index);
  frame.err = static_cast<int32_t>(failure.err);
  if (failure.text != nullptr) {
    frame.text_length = static_cast<uint16_t>(length_of(failure.text));
    __builtin_memcpy(frame.text, failure.text, frame.text_length);
  }
  const int fd = static_cast<int>(mount);
  send_frame(socket, frame, &fd, failure.text == nullptr ? 1 : 0);
  if (mount >= 0) close_fd(mount);
}

}  // namespace

void serve_init(Context& ctx, int socket, int init_pidfd, bool answers) {
  for (;;) {
    PollFd waits[2] = {{ctx.sync, 0, 0}, {socket, static_cast<short>(answers ? kPollIn : 0), 0}};
    poll_fds(waits, 2, nullptr);
    if ((waits[0].revents & (kPollHup | kPollErr)) != 0) {
      // The engine died before Commit.
      if (init_pidfd >= 0) signal_pidfd(init_pidfd, kSigkill);
      return;
    }
    if (answers && (waits[1].revents & kPollIn) != 0) {
      Received question;
      if (receive_frame(socket, question) != 1) return;
      answer(ctx, socket, question);
      for (unsigned i = 0; i < question.fd_count; ++i) close_fd(question.fds[i]);
    } else if (waits[1].revents != 0) {
      return;
    }
  }
}

}  // namespace gantry::init
