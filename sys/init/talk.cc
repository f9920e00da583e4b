// Frames over SOCK_SEQPACKET: with the engine, and between init and its launcher.
#include "sys/init/context.h"
#include "sys/init/message.h"

namespace gantry::init {
long send_parts(int socket, const void* data, size_t size, const int* fds, unsigned count, int flags) {
  IoVec part{const_cast<void*>(data), size};
  Control<kMostSent> control{{sizeof(ControlHeader) + count * sizeof(int), kSolSocket, kScmRights}, {}};
  for (unsigned i = 0; i < count; ++i) control.fds[i] = fds[i];
  MsgHeader message{nullptr, 0, &part, 1, nullptr, 0, 0};
  if (count > 0) {
    message.control = &control;
    message.control_size = sizeof(ControlHeader) + (count * sizeof(int) + 7) / 8 * 8;
  }
  for (;;) {
    const long sent = call(__NR_sendmsg, socket, &message, kMsgNosignal | flags);
    if (sent != -kEINTR) return sent < 0 ? sent : 0;
  }
}

Frame make_frame(Tag tag, uint32_t step, uint64_t arg) {
  Frame frame;
  frame.magic = kFrameMagic;
  frame.tag = tag;
  frame.text_length = 0;
  frame.err = 0;
  frame.step = step;
  frame.arg = arg;
  return frame;
}

long send_frame(int socket, const Frame& frame, const int* fds, unsigned count) {
  return send_parts(socket, &frame, frame_size(frame), fds, count);
}

long send_with_fd(int socket, const char* bytes, size_t size, int fd) {
  return send_parts(socket, bytes, size, &fd, 1);
}

long receive_frame(int socket, Received& out) {
  IoVec part{&out.frame, sizeof out.frame};
  Control<Received::kMaxFds> control;
  control.head.length = 0;
  MsgHeader message{nullptr, 0, &part, 1, &control, sizeof control, 0};
  long got;
  for (;;) {
    got = call(__NR_recvmsg, socket, &message, kMsgCmsgCloexec);
    if (got == -kEAGAIN) {
      PollFd ready{socket, kPollIn, 0};
      poll_fds(&ready, 1, nullptr);
    } else if (got != -kEINTR) {
      break;
    }
  }
  out.fd_count = 0;
  if (got <= 0) return got;
  out.fd_count = received_fds(message, control);
  for (unsigned i = 0; i < out.fd_count; ++i) out.fds[i] = control.fds[i];
  const bool whole = (message.flags & (kMsgTrunc | kMsgCtrunc)) == 0;
  return whole && check_frame(&out.frame, static_cast<size_t>(got)) == nullptr ? 1 : -kEINVAL;
}

namespace {

/// The launcher leaves right after Born, and no kind of death keeps the kernel from telling.
void await_departure(const Context& ctx) {
  constexpr int kFutexWait = 0;
  while (const int here = __atomic_load_n(&ctx.launcher_here, __ATOMIC_ACQUIRE))
    call(__NR_futex, &ctx.launcher_here, kFutexWait, here, nullptr);
  if (!ctx.born_sent) exit_now(1);
}

}  // namespace

void await_born(Context& ctx) {
  if (!ctx.awaits_born) return;
  ctx.awaits_born = false;
  if (ctx.launcher < 0) return await_departure(ctx);
  Received received;
  if (receive_frame(ctx.launcher, received) != 1) exit_now(1);  // the launcher is gone and has told why
}

void tell(Context& ctx, Tag tag, uint64_t arg) {
  await_born(ctx);
  const long sent = send_frame(ctx.sync, make_frame(tag, ctx.step, arg), nullptr, 0);
  if (sent < 0) exit_now(1);  // nobody listens any more
}

namespace {

void join_cgroups(Context& ctx, const Received& received) {
  for (unsigned i = 0; i < received.fd_count; ++i) {
    must(ctx, write_fd(received.fds[i], "0", 1), "write to the cgroup");
    close_fd(received.fds[i]);
  }
}

}  // namespace

void await(Context& ctx, Tag tag) {
  for (;;) {
    Received received;
    const long got = receive_frame(ctx.sync, received);
    if (got == 0 || got == -104 /* ECONNRESET */) exit_now(1);  // the engine died before Commit: leave nothing behind
    must(ctx, got, "recvmsg");
    if (received.frame.tag == Tag::kCgroup) join_cgroups(ctx, received);
    if (received.frame.tag == tag) return;
    if (received.frame.tag != Tag::kCgroup) die(ctx, 0, "sync protocol: unexpected frame from the engine");
  }
}

int request_mount(Context& ctx, int user_ns) {
  if (ctx.launcher < 0) die(ctx, 0, "mount source wanted from a launcher that does not exist");
  await_born(ctx);
  const Frame question = make_frame(Tag::kMountFdPlease, ctx.step);
  must(ctx, send_frame(ctx.launcher, question, &user_ns, user_ns >= 0 ? 1 : 0), "sendmsg to the launcher");
  // The source may hang for ever (a dead network file system); the engine may not.
  PollFd waits[2] = {{ctx.launcher, kPollIn, 0}, {ctx.sync, 0, 0}};
  while (waits[0].revents == 0) {
    poll_fds(waits, 2, nullptr);
    if ((waits[1].revents & (kPollHup | kPollErr)) != 0) exit_now(1);
  }
  Received answer;
  const long got = receive_frame(ctx.launcher, answer);
  if (got == 0) exit_now(1);
  must(ctx, got, "recvmsg from the launcher");
  if (answer.frame.tag != Tag::kMountFd || answer.fd_count != 1) {
    Message text;
    text.add(answer.frame.text, answer.frame.text_length);
    die(ctx, answer.frame.err, text.get());
  }
  return answer.fds[0];
}

}  // namespace gantry::init
