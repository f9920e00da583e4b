#include "engine/dialogue.h"

#include <sys/socket.h>

#include <cstring>
#include <span>

#include "engine/verbs.h"
#include "io/readable.h"
#include "io/stream.h"
#include "sys/init/plan.h"
#include "sys/text.h"

namespace gantry {

Result<Dialogue> Dialogue::open(std::string plan) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return fail_errno(errno, "socketpair");
  return Dialogue(std::move(plan), sys::Fd(pair[0]), sys::Fd(pair[1]));
}

void Dialogue::end_input() {
  (void)::shutdown(ours_.get(), SHUT_RD);
}

io::Task<Result<>> Dialogue::ended(io::Loop& loop, io::Deadline deadline) {
  const io::Wake wake = co_await io::wait_fd(loop, ours_.get(), POLLRDHUP, deadline);
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for the launcher");
  co_return Result<>();
}

io::Task<Result<SyncEvent>> Dialogue::next(io::Loop& loop, io::Deadline deadline) {
  for (;;) {
    init::Frame frame{};
    std::vector<sys::Fd> fds;
    const std::span<std::byte> buffer = std::as_writable_bytes(std::span(&frame, 1));
    Result<size_t> received = co_await io::recv_msg(loop, ours_.get(), buffer, fds, deadline);
    // A child that died with a frame of ours unread resets the socket; the kernel says so once, before what it had
    // sent.
    const bool reset = !received && received.error().sys_errno == ECONNRESET;
    if (reset) received = co_await io::recv_msg(loop, ours_.get(), buffer, fds, deadline);
    if (!received) co_return forward(std::move(received));
    const size_t got = *received;
    unread_ = unread_ || reset;
    // With a Commit that nobody has read, nobody has gone on.
    if (got == 0 && state_ == SyncState::kCommitted && !unread_) {
      SyncEvent end;
      end.finished = true;
      co_return end;
    }
    if (got == 0) co_return std::unexpected(Error{cat("init went away while ", sync_state_name(state_)), ECONNRESET});
    if (const char* wrong = init::check_frame(&frame, got)) co_return fail(cat("sync protocol: ", wrong));
    GANTRY_CO_LET(SyncEvent event, judge(frame));
    if (event.action == SyncAction::kWarn) continue;
    event.fds = std::move(fds);
    co_return event;
  }
}

io::Task<std::optional<sys::Child>> Dialogue::unheard_birth(io::Loop& loop) {
  const io::Deadline now = io::Deadline::in_ms(0);
  for (bool reset = false;;) {
    init::Frame frame{};
    std::vector<sys::Fd> fds;
    const std::span<std::byte> buffer = std::as_writable_bytes(std::span(&frame, 1));
    Result<size_t> received = co_await io::recv_msg(loop, ours_.get(), buffer, fds, now);
    if (!received && received.error().sys_errno == ECONNRESET && !reset) {
      reset = true;
      continue;
    }
    if (!received || *received == 0) co_return std::nullopt;
    const bool born = init::check_frame(&frame, *received) == nullptr && frame.tag == init::Tag::kBorn;
    if (born && fds.size() == 1) co_return sys::Child{static_cast<pid_t>(frame.arg), std::move(fds.front())};
  }
}

Result<SyncEvent> Dialogue::judge(const init::Frame& frame) {
  const SyncState before = state_;
  const SyncStep step = advance(state_, frame.tag);
  state_ = step.next;
  switch (step.action) {
    case SyncAction::kWarn:
      log_warning(describe(frame));
      break;
    case SyncAction::kFail:
      return std::unexpected(Error{describe(frame), frame.err});
    case SyncAction::kIllegal:
      return fail(cat("sync protocol: ", tag_name(frame.tag), " is not legal while ", sync_state_name(before)));
    default:
      break;
  }
  SyncEvent event;
  event.action = step.action;
  event.arg = frame.arg;
  return event;
}

std::string Dialogue::describe(const init::Frame& frame) const {
  std::string out;
  init::PlanView view;
  const bool known = frame.step != init::kNoStep && init::open_plan(plan_.data(), plan_.size(), &view) == nullptr &&
                     frame.step < view.header->step_count;
  const std::string_view text(frame.text, frame.text_length);
  // Without an errno the text is a whole sentence (runc's literal wording): a label would spoil it.
  if (known && frame.err != 0) {
    const uint32_t label = view.steps[frame.step].label;
    if (label != 0) out.append(view.arena + label).append(": ");
  }
  out.append(text);
  if (frame.err != 0) out.append(": ").append(errno_name(frame.err)).append(": ").append(errno_text(frame.err));
  return out;
}

io::Task<Result<>> Dialogue::send(io::Loop& loop, init::Tag tag, uint64_t arg, std::vector<int> fds) {
  init::Frame frame{};
  frame.magic = init::kFrameMagic;
  frame.tag = tag;
  frame.step = init::kNoStep;
  frame.arg = arg;
  const SyncState next = advance_sent(state_, tag);
  if (next == SyncState::kFailed)
    co_return fail(cat("sync protocol: sending ", tag_name(tag), " is not legal while ", sync_state_name(state_)));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&frame, 1)).first(init::frame_size(frame));
  const std::span<const int> numbers(fds);
  const io::Deadline deadline = io::Deadline::in_ms(10'000);
  Result<> sent = co_await io::send_msg(loop, ours_.get(), bytes, numbers, deadline);
  if (!sent) co_return sent;
  state_ = next;
  co_return Result<>();
}

}  // namespace gantry
