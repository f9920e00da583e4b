#include "engine/supervisor/copy_worker.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "engine/supervisor/copy_stream.h"
#include "engine/supervisor/copy_wire.h"
#include "io/stream.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr int64_t kDrainMs = 500;

/// Where the last word goes; a process has one worker.
int control_socket = -1;

[[noreturn]] void end_with(int status, const Error& why) {
  CopyFrame frame;
  frame.tag = CopyTag::kTrouble;
  frame.text = why.text;
  const std::string bytes = encode_copy_frame(frame);
  (void)::send(control_socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  ::_exit(status);
}

[[noreturn]] void end_for_next(const Error& why) {
  end_with(kCopyAgain, why);
}

/// POSIX locks belong to a process, not to a descriptor: the keeper, who has the same one, does not get in the way.
Result<> lock_journal(int journal) {
  struct flock lock{};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  while (::fcntl(journal, F_SETLKW, &lock) < 0)
    if (errno != EINTR) return fail_errno(errno, "log copier: fcntl");
  return {};
}

/// What is known of one container.
struct Box {
  Box(io::Loop& loop, LogOptions options) : log(std::move(options)), scope(loop) {}
  LogFile log;
  std::array<sys::Fd, 2> sources;
  io::Scope scope;
  std::array<std::optional<StreamCopy>, 2> copies;
  bool found = true;  ///< there were files of the log before
};

class Worker {
 public:
  Worker(io::Loop& loop, Copier copier, int control) : loop_(loop), copier_(std::move(copier)), control_(control) {}

  io::Task<> serve() {
    std::vector<std::byte> room(kMaxCopyFrame);
    for (;;) {
      std::vector<sys::Fd> fds;
      const std::span<std::byte> into(room);
      const io::Deadline never = io::Deadline::never();
      const Result<size_t> got = co_await io::recv_msg(loop_, control_, into, fds, never);
      if (!got) end_for_next(got.error());
      if (*got == 0) ::_exit(0);
      Result<CopyFrame> frame = decode_copy_frame({reinterpret_cast<const char*>(room.data()), *got});
      if (!frame) end_for_next(frame.error());
      co_await handle(std::move(*frame), std::move(fds));
    }
  }

 private:
  io::Task<> handle(CopyFrame frame, std::vector<sys::Fd> fds) {
    const auto known = boxes_.find(frame.slot);
    Box* const box = known == boxes_.end() ? nullptr : known->second.get();
    std::optional<CopyFrame> reply;
    switch (frame.tag) {
      case CopyTag::kResume:
        resume(frame, std::move(fds));
        break;
      case CopyTag::kGo:
        go();
        reply = reply_to(frame, true);
        break;
      case CopyTag::kPlace:
        reply = find_place(frame);
        break;
      case CopyTag::kRemove:
        reply = reply_to(frame, remove_log(frame.text));
        break;
      case CopyTag::kPrepare:
        co_await close(frame.slot);
        reply = prepare(frame);
        break;
      case CopyTag::kUndo:
        if (box != nullptr && !box->found) (void)box->log.remove_all();
        co_await close(frame.slot);
        break;
      case CopyTag::kStart:
        // A kResume that waited for its turn may have brought them already.
        if (box != nullptr && !box->sources[0]) start(*box, frame, std::move(fds));
        break;
      case CopyTag::kDrain:
        if (box == nullptr) reply = reply_to(frame, true);
        if (box != nullptr) box->scope.spawn(drain(*box, std::move(frame)));
        break;
      case CopyTag::kFinish:
        if (box != nullptr) co_await stop(*box);
        reply = reply_to(frame, box == nullptr || finish_lines(*box, frame.slot));
        break;
      case CopyTag::kReopen:
        if (box != nullptr) box->log.release();
        break;
      case CopyTag::kClose:
        co_await close(frame.slot);
        break;
      default:
        end_for_next(Error{"log copier: a frame with a wrong tag", 0});
    }
    if (reply) co_await send(std::move(*reply));
  }

  Box* make_box(const CopyFrame& frame, Result<LogOptions> options) {
    std::unique_ptr<Box>& box = boxes_[frame.slot];
    box = std::make_unique<Box>(loop_, std::move(*options));
    return box.get();
  }

  void take_sources(Box& box, const CopyFrame& frame, std::vector<sys::Fd> fds) {
    size_t next = 0;
    for (size_t stream = 0; stream < 2; ++stream)
      if ((frame.streams >> stream & 1U) != 0 && next < fds.size()) box.sources[stream] = std::move(fds[next++]);
  }

  void begin_copies(Box& box, uint16_t slot) {
    for (uint8_t stream = 0; stream < 2; ++stream) {
      if (!box.sources[stream]) continue;
      std::optional<StreamCopy>& copy = box.copies[stream];
      copy.emplace(box.scope, copier_, StreamId{slot, stream}, box.sources[stream].get(), box.log, end_for_next);
      if (copier_.stalled(slot)) {
        copy->copy_now();
      } else {
        copy->start();
      }
    }
    box.log.release();
  }

  void resume(const CopyFrame& frame, std::vector<sys::Fd> fds) {
    Result<LogOptions> options = parse_log_options(frame.text);
    if (!options) end_for_next(options.error());
    Box* const box = make_box(frame, std::move(options));
    take_sources(*box, frame, std::move(fds));
    if (!frame.flag) return;
    if (const Result<> opened = copier_.open_slot(frame.slot); !opened) end_for_next(opened.error());
  }

  void go() {
    const Result<> recovered = copier_.recover([this](unsigned slot) {
      const auto known = boxes_.find(static_cast<uint16_t>(slot));
      return known == boxes_.end() ? nullptr : &known->second->log;
    });
    if (!recovered) end_with(kCopyJournalBroken, recovered.error());
    for (const auto& [slot, box] : boxes_) begin_copies(*box, slot);
  }

  void start(Box& box, const CopyFrame& frame, std::vector<sys::Fd> fds) {
    take_sources(box, frame, std::move(fds));
    begin_copies(box, frame.slot);
  }

  static Result<std::string> encoded_place(const std::string& text) {
    GANTRY_LET(const LogOptions options, parse_log_options(text));
    GANTRY_LET(const FoundLogPlace found, find_log_place(options));
    return encode_place(found);
  }

  static CopyFrame find_place(const CopyFrame& frame) {
    Result<std::string> place = encoded_place(frame.text);
    if (!place) return reply_to(frame, forward(std::move(place)));
    CopyFrame reply = reply_to(frame, true);
    reply.text = std::move(*place);
    return reply;
  }

  static Result<bool> remove_log(const std::string& text) {
    GANTRY_LET(LogOptions options, parse_log_options(text));
    GANTRY_TRY(LogFile(std::move(options)).remove_all());
    return true;
  }

  Result<> open_log(Box& box, uint16_t slot) {
    box.found = box.log.has_files();
    GANTRY_TRY(box.log.prepare());
    box.log.release();
    return copier_.open_slot(slot);
  }

  CopyFrame prepare(const CopyFrame& frame) {
    Result<LogOptions> options = parse_log_options(frame.text);
    if (!options) return reply_to(frame, forward(std::move(options)));
    Box* const box = make_box(frame, std::move(options));
    Result<> opened = open_log(*box, frame.slot);
    CopyFrame reply = opened ? reply_to(frame, true) : reply_to(frame, forward(Result<>(opened)));
    reply.flag = box->found;
    if (!opened && !box->found) (void)box->log.remove_all();
    if (!opened) boxes_.erase(frame.slot);
    return reply;
  }

  io::Task<> drain(Box& box, CopyFrame frame) {
    bool all = true;
    for (uint8_t stream = 0; stream < 2; ++stream) {
      const int source = box.sources[stream].get();
      if (source < 0) continue;
      const StreamId id{frame.slot, stream};
      const io::Deadline deadline = io::Deadline::in_ms(kDrainMs);
      const Result<bool> done = co_await drain_stream(loop_, copier_, id, source, box.log, deadline);
      if (!done && !io::is_cancelled(done.error())) end_for_next(done.error());
      all = all && done && *done;
    }
    io::Task<> telling = send(reply_to(frame, all));
    co_await io::shield(std::move(telling));
  }

  static io::Task<> stop(Box& box) {
    for (std::optional<StreamCopy>& copy : box.copies)
      if (copy) copy->stop();
    (void)co_await box.scope.cancel_and_join();
  }

  bool finish_lines(Box& box, uint16_t slot) {
    for (uint8_t stream = 0; stream < 2; ++stream) {
      const Result<Copier::Moved> moved = copier_.finish_stream({slot, stream}, box.log);
      if (!moved) end_for_next(moved.error());
      if (*moved == Copier::Moved::kStalled) return false;
    }
    return true;
  }

  io::Task<> close(uint16_t slot) {
    const auto known = boxes_.find(slot);
    if (known == boxes_.end()) co_return;
    co_await stop(*known->second);
    copier_.close_slot(slot);
    boxes_.erase(known);
  }

  static CopyFrame reply_to(const CopyFrame& question, Result<bool> outcome) {
    CopyFrame reply;
    reply.tag = CopyTag::kAnswer;
    reply.serial = question.serial;
    reply.flag = outcome && *outcome;
    reply.failed = !outcome;
    if (outcome) return reply;
    reply.err = outcome.error().sys_errno;
    reply.text = std::move(outcome).error().text;
    return reply;
  }

  io::Task<> send(CopyFrame frame) {
    const std::string bytes = encode_copy_frame(frame);
    const std::span<const std::byte> data = std::as_bytes(std::span(bytes));
    const std::span<const int> none;
    const io::Deadline never = io::Deadline::never();
    // Whoever does not listen any more closes its end, too.
    (void)co_await io::send_msg(loop_, control_, data, none, never);
  }

  io::Loop& loop_;
  Copier copier_;
  int control_;
  std::map<uint16_t, std::unique_ptr<Box>> boxes_;
};

}  // namespace

int run_copy_worker(const CopyWorker& given) {
  control_socket = given.control;
  if (const Result<> locked = lock_journal(given.journal); !locked) end_for_next(locked.error());
  Result<Copier> copier =
      Copier::adopt(sys::Fd(given.journal), sys::Fd(given.staging_read), sys::Fd(given.staging_write));
  if (!copier) end_with(kCopyJournalBroken, copier.error());
  io::Loop loop;
  Worker worker(loop, std::move(*copier), given.control);
  loop.run(worker.serve());
  return 0;
}

}  // namespace gantry
