#include "engine/supervisor/output_device.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <span>
#include <utility>

#include "engine/clock.h"
#include "engine/log.h"
#include "engine/supervisor/copier.h"
#include "engine/supervisor/copy_worker.h"
#include "engine/supervisor/host.h"
#include "io/stream.h"
#include "io/timer.h"
#include "io/watch.h"
#include "sys/proc.h"
#include "sys/text.h"
#include "sys/worker.h"

namespace gantry {
namespace {

constexpr int64_t kLingerMs = 1'000;
constexpr int64_t kFirstPauseMs = 100;
constexpr int64_t kLastPauseMs = 5'000;
constexpr int64_t kSoundNs = 1'000'000'000;  ///< who lives that long is started again at once
constexpr uint32_t kGoSerial = 0;
constexpr uint64_t kNoDevice = uint64_t{1} << 63U;  ///< in the key of one whose device nobody knows any more

int be_copier(void* given) {
  return run_copy_worker(*static_cast<const CopyWorker*>(given));
}

}  // namespace

Result<CopyHands> CopyHands::make() {
  GANTRY_LET(const Copier made, Copier::make());
  const Copier::Descriptors theirs = made.descriptors();
  CopyHands hands;
  for (const auto& [mine, their] :
       {std::pair(&hands.journal, theirs.journal), std::pair(&hands.staging_read, theirs.staging_read),
        std::pair(&hands.staging_write, theirs.staging_write)}) {
    *mine = sys::Fd(::fcntl(their, F_DUPFD_CLOEXEC, 3));
    if (!*mine) return fail_errno(errno, "log copier: fcntl");
  }
  return hands;
}

OutputDevice::OutputDevice(io::Loop& loop, KeeperLink& keeper, Name name, CopyHands hands)
    : loop_(loop), keeper_(keeper), name_(std::move(name)), hands_(std::move(hands)), posted_(loop), unused_(loop) {}

KeptSlot OutputDevice::kept() const {
  KeptSlot kept;
  kept.slot = name_.slot;
  kept.kind = static_cast<uint32_t>(HeldKind::kLogDevice);
  kept.owner = name_.key;
  kept.fds = {hands_.journal.get(), hands_.staging_read.get(), hands_.staging_write.get(), -1};
  return kept;
}

void OutputDevice::leave() {
  --users_;
  if (is_unused()) unused_.set();
}

// -- questions

std::shared_ptr<CopyQuestion> OutputDevice::put(CopyFrame request) {
  auto question = std::make_shared<CopyQuestion>(loop_);
  request.serial = ++serial_;
  questions_.emplace(request.serial, question);
  tell(request);
  question->request = std::move(request);
  return question;
}

void OutputDevice::forget(const std::shared_ptr<CopyQuestion>& question) {
  questions_.erase(question->request.serial);
  if (is_unused()) unused_.set();
}

io::Task<Result<CopyFrame>> OutputDevice::ask(CopyFrame request, io::Deadline deadline) {
  const std::shared_ptr<CopyQuestion> question = put(std::move(request));
  const int64_t begun = monotonic_ns();
  const io::Wake wake = co_await question->answered.wait(deadline);
  forget(question);
  if (wake == io::Wake::kTimeout) {
    const int64_t seconds = (monotonic_ns() - begun + 500'000'000) / 1'000'000'000;
    std::string text = cat(name_.text, " has not answered for ", seconds, " s");
    if (!trouble_.empty()) text = cat(name_.text, ": ", trouble_);
    co_return std::unexpected(Error{std::move(text), ETIMEDOUT});
  }
  if (wake != io::Wake::kReady) co_return io::fail_wake(wake, name_.text);
  CopyFrame& answer = question->answer;
  if (answer.failed) co_return std::unexpected(Error{std::move(answer.text), answer.err});
  co_return std::move(answer);
}

void OutputDevice::tell(CopyFrame frame) {
  // Nobody is there to read it: who comes next is introduced to all that is.
  if (!control_ || dismissed_) return;
  letters_.push_back(std::move(frame));
  posted_.set();
}

// -- the process

/// Before anything depends on them the keeper has journal and pipe.
io::Task<Result<>> OutputDevice::hold() {
  if (held_) co_return Result<>();
  const KeptSlot mine = kept();
  KeeperHold request;
  request.slot = mine.slot;
  request.kind = mine.kind;
  request.owner = mine.owner;
  request.fds = mine.fds;
  Result<> held = co_await keeper_.hold(request);
  // Without a keeper, which may end at any moment, this process holds what it has.
  const int err = held ? 0 : held.error().sys_errno;
  if (err == EPIPE || err == ECONNRESET || keeper_.gone().is_set()) held = Result<>();
  held_ = held.has_value();
  co_return held;
}

Result<> OutputDevice::renew() {
  if (hands_.complete() && !journal_broken_) return {};
  GANTRY_LET(hands_, CopyHands::make());
  journal_broken_ = false;
  held_ = false;
  fresh_ = true;
  return {};
}

Result<sys::Child> OutputDevice::start() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return fail_errno(errno, "socketpair");
  control_ = sys::Fd(pair[0]);
  const sys::Fd theirs(pair[1]);
  CopyWorker given{theirs.get(), hands_.journal.get(), hands_.staging_read.get(), hands_.staging_write.get()};
  const std::array<int, 4> keep{given.control, given.journal, given.staging_read, given.staging_write};
  auto child = sys::fork_worker("gantry-copier", keep, be_copier, &given);
  if (!child) control_.reset();
  return child;
}

/// The first letters to a new copier.
void OutputDevice::introduce() {
  letters_.clear();
  dismissed_ = false;
  for (const auto& [slot, run] : runs_) {
    CopyFrame frame;
    frame.tag = CopyTag::kResume;
    frame.slot = slot;
    frame.flag = fresh_;
    frame.text = run.log;
    tell(std::move(frame));
  }
  CopyFrame go;
  go.tag = CopyTag::kGo;
  go.serial = kGoSerial;
  tell(std::move(go));
  for (const auto& [serial, question] : questions_) tell(question->request);
}

io::Task<Result<>> OutputDevice::live() {
  int64_t pause_ms = 0;
  for (;;) {
    Result<> ready = renew();
    if (ready) ready = co_await hold();
    const int64_t begun = monotonic_ns();
    Result<sys::Child> child = ready ? start() : forward(std::move(ready));
    if (child) {
      introduce();
      const io::Wake wake = co_await converse(*child);
      control_.reset();
      if (wake == io::Wake::kCancelled) {
        (void)sys::pidfd_signal(child->pidfd, SIGKILL);
        co_return io::fail_wake(wake, name_.text);
      }
      reap(*child);
    } else if (!std::exchange(told_, true)) {
      trouble_ = child.error().text;
      log_warning(cat("logs on ", name_.text, ": ", trouble_));
    }
    if (is_unused()) co_return Result<>();
    if (dismissed_ || (child && monotonic_ns() - begun > kSoundNs)) pause_ms = 0;
    const io::Wake wake = co_await io::sleep_for(loop_, std::chrono::milliseconds(pause_ms));
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, name_.text);
    // SIGKILL comes from outside and says nothing about what would happen next.
    pause_ms = std::clamp(pause_ms * 2, kFirstPauseMs, killed_ ? kFirstPauseMs : kLastPauseMs);
  }
}

/// Until the process has ended, or we are cancelled.
io::Task<io::Wake> OutputDevice::converse(const sys::Child& child) {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope talk(loop_, inherited);
  talk.spawn(pump());
  talk.spawn(listen());
  talk.spawn(dismiss());
  const io::Deadline never = io::Deadline::never();
  const io::Wake wake = co_await io::wait_pidfd(loop_, child.pidfd.get(), never);
  (void)co_await talk.cancel_and_join();
  hear_last_words();
  co_return wake;
}

/// What a copier has said before its end was seen.
void OutputDevice::hear_last_words() {
  std::vector<char> room(kMaxCopyFrame);
  for (;;) {
    const ssize_t got = ::recv(control_.get(), room.data(), room.size(), MSG_DONTWAIT);
    if (got <= 0) return;
    Result<CopyFrame> frame = decode_copy_frame({room.data(), static_cast<size_t>(got)});
    if (frame) take(std::move(*frame));
  }
}

/// Copies that the run's end does not take away. Waits while there are no descriptors to be had.
io::Task<Result<std::vector<sys::Fd>>> OutputDevice::copy_streams(CopyFrame& frame) {
  for (;;) {
    std::vector<sys::Fd> fds;
    frame.streams = 0;
    const auto found = runs_.find(frame.slot);
    const bool wanted = frame.tag == CopyTag::kResume || frame.tag == CopyTag::kStart;
    if (!wanted || found == runs_.end()) co_return std::move(fds);
    bool all = true;
    for (const auto& [bit, fd] : {std::pair(kCopyOut, found->second.out), std::pair(kCopyErr, found->second.err)}) {
      if (fd < 0) continue;
      sys::Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
      all = all && copy;
      frame.streams |= bit;
      fds.push_back(std::move(copy));
    }
    if (all) co_return std::move(fds);
    const io::Wake wake = co_await io::sleep_for(loop_, std::chrono::milliseconds(kFirstPauseMs));
    if (wake == io::Wake::kCancelled) co_return io::fail_wake(wake, name_.text);
  }
}

io::Task<> OutputDevice::pump() {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    while (!letters_.empty()) {
      CopyFrame letter = std::move(letters_.front());
      letters_.pop_front();
      const Result<std::vector<sys::Fd>> fds = co_await copy_streams(letter);
      if (!fds) co_return;
      std::vector<int> numbers;
      for (const sys::Fd& fd : *fds) numbers.push_back(fd.get());
      const std::string bytes = encode_copy_frame(letter);
      const std::span<const std::byte> data = std::as_bytes(std::span(bytes));
      const std::span<const int> all(numbers);
      const Result<> sent = co_await io::send_msg(loop_, control_.get(), data, all, never);
      if (!sent) co_return;  // its end is seen elsewhere
    }
    if (is_unused()) unused_.set();
    posted_.reset();
    const io::Wake wake = co_await posted_.wait(never);
    if (wake != io::Wake::kReady) co_return;
  }
}

io::Task<> OutputDevice::listen() {
  std::vector<std::byte> room(kMaxCopyFrame);
  const std::span<std::byte> into(room);
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    std::vector<sys::Fd> fds;
    const Result<size_t> got = co_await io::recv_msg(loop_, control_.get(), into, fds, never);
    if (!got || *got == 0) co_return;
    Result<CopyFrame> frame = decode_copy_frame({reinterpret_cast<const char*>(room.data()), *got});
    if (frame) take(std::move(*frame));
    if (!frame) log_warning(frame.error().text);
  }
}

void OutputDevice::take(CopyFrame frame) {
  if (frame.tag == CopyTag::kTrouble) trouble_ = std::move(frame.text);
  if (frame.tag != CopyTag::kAnswer) return;
  if (frame.serial == kGoSerial) {
    fresh_ = told_ = false;
    trouble_.clear();
    return;
  }
  const auto found = questions_.find(frame.serial);
  if (found == questions_.end()) return;
  const std::shared_ptr<CopyQuestion> question = std::move(found->second);
  questions_.erase(found);
  question->answer = std::move(frame);
  question->answered.set();
  if (is_unused()) unused_.set();
}

/// Lets it end when it has not been needed for a while: by the end of the conversation, so that it does before what it
/// was told. Whoever comes meanwhile waits for the next one, and nothing overtakes anything.
io::Task<> OutputDevice::dismiss() {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    io::Wake wake = co_await unused_.wait(never);
    if (wake != io::Wake::kReady) co_return;
    unused_.reset();
    if (!is_unused()) continue;
    wake = co_await io::sleep_for(loop_, std::chrono::milliseconds(kLingerMs));
    if (wake == io::Wake::kCancelled) co_return;
    if (!is_unused() || !letters_.empty()) continue;
    dismissed_ = true;
    (void)::shutdown(control_.get(), SHUT_WR);
    co_return;
  }
}

void OutputDevice::reap(const sys::Child& child) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED | WNOHANG) < 0) return;
  const bool exited = info.si_code == CLD_EXITED;
  killed_ = !exited && info.si_status == SIGKILL;
  if (exited && info.si_status == 0 && dismissed_) return;
  journal_broken_ = exited && info.si_status == kCopyJournalBroken;
  if (journal_broken_) {
    log_error(cat("what was on its way into logs on ", name_.text, " is lost: ", trouble_));
  } else if (!std::exchange(told_, true)) {
    const std::string why = trouble_.empty() ? "" : cat(": ", trouble_);
    log_warning(cat("the copier of logs on ", name_.text, " has ended (",
                    std::string_view(exited ? "status " : "signal "), info.si_status, ")", why,
                    "; another one goes on"));
  }
}

// -- all of them

std::string OutputDevices::text_of(const sys::SlowPlace& place) {
  return cat(place.fs_type, " at ", place.where);
}

Result<std::shared_ptr<OutputDevice>> OutputDevices::at(const sys::SlowPlace& place) {
  const uint64_t key = key_of(place);
  std::string text = text_of(place);
  if (const auto found = devices_.find(key); found != devices_.end()) {
    found->second->rename(std::move(text));
    return found->second;
  }
  GANTRY_LET(const uint32_t slot, slots_.take());
  OutputDevice::Name name{key, slot, std::move(text)};
  auto device = std::make_shared<OutputDevice>(loop_, keeper_, std::move(name), CopyHands());
  devices_.emplace(key, device);
  scope_.spawn(live(device));
  return device;
}

void OutputDevices::adopt(uint32_t slot, uint64_t key, CopyHands hands) {
  OutputDevice::Name name{key, slot, cat("device ", key >> 32U, ":", key & 0xffffffffU)};
  devices_.emplace(key, std::make_shared<OutputDevice>(loop_, keeper_, std::move(name), std::move(hands)));
}

std::shared_ptr<OutputDevice> OutputDevices::adopted(uint32_t slot) {
  for (const auto& [key, device] : devices_)
    if (device->name().slot == slot) return device;
  // What the copier had in hand is lost.
  slots_.mark(slot);
  const uint64_t key = kNoDevice | slot;
  adopt(slot, key, CopyHands());
  return devices_.at(key);
}

void OutputDevices::begin() {
  for (const auto& [key, device] : devices_) scope_.spawn(live(device));
}

io::Task<> OutputDevices::live(std::shared_ptr<OutputDevice> device) {
  const Result<> over = co_await device->live();
  if (!over) co_return;
  const OutputDevice::Name& name = device->name();
  devices_.erase(name.key);
  const Result<> released = co_await keeper_.release(name.slot);
  if (released || keeper_.gone().is_set()) slots_.give_back(name.slot);
}

io::Task<> OutputDevices::end() {
  (void)co_await scope_.cancel_and_join();
  // What no run depends on needs nobody who holds it.
  for (auto device = devices_.begin(); device != devices_.end();) {
    const uint32_t slot = device->second->name().slot;
    const bool needed = device->second->needed_later();
    device = needed ? std::next(device) : devices_.erase(device);
    if (!needed) (void)co_await keeper_.release(slot);
  }
}

std::vector<KeptSlot> OutputDevices::kept() const {
  std::vector<KeptSlot> all;
  for (const auto& [key, device] : devices_) all.push_back(device->kept());
  return all;
}

}  // namespace gantry
