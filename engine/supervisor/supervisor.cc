#include "engine/supervisor/supervisor.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <utility>

#include "engine/log.h"
#include "engine/supervisor/confine.h"
#include "engine/supervisor/parts.h"
#include "io/timer.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr unsigned kExitGraceSeconds = 10;
constexpr int64_t kCalmMs = 200;
constexpr int64_t kHooksMs = 10'000;

}  // namespace

void SlotNumbers::mark(uint32_t slot) {
  if (!taken_[slot]) ++count_;
  taken_[slot] = true;
}

void SlotNumbers::give_back(uint32_t slot) {
  if (taken_[slot]) --count_;
  taken_[slot] = false;
  lowest_ = std::min(lowest_, slot);
}

Result<uint32_t> SlotNumbers::take() {
  for (uint32_t number = std::max(lowest_, kFirstRunSlot); number < taken_.size(); ++number) {
    if (taken_[number]) continue;
    mark(number);
    lowest_ = number + 1;
    return number;
  }
  return fail(cat(taken_.size(), " containers run at once, and that is all the keeper's table has places for"));
}

Result<KeeperView> KeeperView::map(sys::Fd table) {
  struct stat info;
  if (::fstat(table.get(), &info) < 0) return fail_errno(errno, "the keeper's table");
  const auto size = static_cast<size_t>(info.st_size);
  if (size < init::kKeeperTableHead) return fail("the keeper's table is too short");
  void* const at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, table.get(), 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap of the keeper's table");
  KeeperView view(std::move(table), static_cast<const init::KeeperTable*>(at), size);
  if (const char* wrong = init::check_keeper_table(at, size))
    return fail(cat("the keeper's table: ", std::string_view(wrong)));
  return view;
}

KeeperView::KeeperView(KeeperView&& other) noexcept
    : fd_(std::move(other.fd_)), table_(std::exchange(other.table_, nullptr)), size_(other.size_) {}

KeeperView::~KeeperView() {
  if (table_ != nullptr) ::munmap(const_cast<init::KeeperTable*>(table_), size_);
}

Supervisor::Supervisor(io::Loop& loop, SupervisorOptions options, std::unique_ptr<Parts> parts)
    : loop_(loop), options_(std::move(options)), parts_(std::move(parts)), changed_(loop) {}

Supervisor::~Supervisor() = default;

[[gnu::noinline]] io::Task<> Supervisor::live(std::shared_ptr<Supervised> container, std::unique_ptr<HeldRun> kept,
                                              bool fresh) {
  co_await container->live(std::move(kept), fresh);
  // Whether or not the client who asked for it is still there to hear of it.
  if (container->is_stillborn()) co_await give_up(container);
}

void Supervisor::adopt(std::shared_ptr<Supervised> container, std::optional<HeldRun> kept, bool fresh) {
  containers_[container->definition().id] = container;
  std::unique_ptr<HeldRun> held;
  if (kept) held = std::make_unique<HeldRun>(*std::move(kept));
  lives_->spawn(live(std::move(container), std::move(held), fresh));
  changed_.set();
}

io::Task<Result<int>> Supervisor::run() {
  const std::array<int, 3> signals{SIGTERM, SIGINT, SIGHUP};
  io::Signals caught(loop_, signals);
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope link(loop_, inherited);
  io::Scope desk(loop_, inherited);
  io::Scope service(loop_, inherited);
  lives_ = std::make_unique<io::Scope>(loop_, inherited);
  link.spawn(listen_to_keeper());
  link.spawn(show_life());
  service.spawn(give_memory_back());
  GANTRY_CO_TRY(co_await recover());
  service.spawn(parts_->server->serve());
  desk.spawn(parts_->desk->serve());
  // A keeper that is gone by now needs no word, and listen_to_keeper() says so.
  (void)co_await parts_->keeper.notify(init::KeeperNotify::kReady);
  GANTRY_CO_LET(std::optional<int> signo, co_await next_signal(caught));
  // READY=1 is the successor's.
  if (signo == SIGHUP) (void)co_await parts_->keeper.notify(init::KeeperNotify::kReloading);
  Result<> ended = co_await end(caught, signo, service);
  (void)co_await link.cancel_and_join();
  if (orphaned() && (!signo || holds_runs())) {
    if (signo) parts_->server.reset();
    ended = co_await pass_on(caught);
  }
  (void)co_await desk.cancel_and_join();
  if (!ended) co_return forward(std::move(ended));
  co_return signo == SIGHUP ? kExitForSuccessor : 0;
}

/// Everything stands still when this is done, and the keeper knows whether it is to end as well. Signals that come
/// meanwhile count: `signo` becomes the strongest one.
io::Task<Result<>> Supervisor::end(io::Signals& caught, std::optional<int>& signo, io::Scope& service) {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope listening(loop_, inherited);
  io::Event hurry(loop_);
  if (signo) {
    listening.spawn(heed_further(caught, signo, hurry));
    co_await await_hooks();
  }
  parts_->host.closing = true;
  if (signo && signo != SIGHUP) co_await shut_down(hurry);
  // What is undone now may have hooks, too.
  const io::CancelTimer limit(loop_, parts_->poststop.over, io::Deadline::in_ms(kHooksMs));
  co_await stand_still(service);
  (void)co_await listening.cancel_and_join();
  if (!signo || signo == SIGHUP || orphaned()) co_return Result<>();
  Result<> left = co_await parts_->keeper.leave();
  co_return left;
}

/// Hooks of containers that are gone already are run now or never: they get some time, in which everything else goes
/// on.
io::Task<> Supervisor::await_hooks() {
  if (parts_->poststop.idle.is_set()) co_return;
  log_warning("supervisor: waiting for poststop hooks to end");
  io::Task<io::Wake> ended = until_set(parts_->poststop.idle);
  const io::Deadline limit = io::Deadline::in_ms(kHooksMs);
  (void)co_await io::with_deadline(loop_, std::move(ended), limit);
  if (!parts_->poststop.idle.is_set()) parts_->poststop.over.cancel();
}

/// A SIGTERM after SIGHUP is the end for good; one after another means that patience is over.
io::Task<> Supervisor::heed_further(io::Signals& caught, std::optional<int>& signo, io::Event& hurry) {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    const Result<int> next = co_await caught.next(never);
    if (!next) co_return;
    log_warning(cat("supervisor: got ", std::string_view(::strsignal(*next)), " while ending"));
    if (*next == SIGHUP) continue;
    if (signo != SIGHUP) {
      hurry.set();
      parts_->poststop.over.cancel();
    }
    signo = *next;
  }
}

/// Whether anything depends on this process or its keeper.
bool Supervisor::holds_runs() const {
  if (!parts_->held.empty()) return true;
  for (const auto& [id, container] : containers_)
    if (container->kept()) return true;
  return false;
}

/// What is undone on the way needs the keeper's answers: listen_to_keeper() goes on.
io::Task<> Supervisor::stand_still(io::Scope& service) {
  // First the connections: a call that is cut short gets no answer, and its client asks the next supervisor.
  service.cancel();
  parts_->host.ending.cancel();
  (void)co_await service.join();
  (void)co_await lives_->cancel_and_join();
  co_await parts_->devices.end();
}

bool Supervisor::orphaned() const {
  return parts_->keeper.gone().is_set();
}

/// What ends this supervisor; nullopt: there is another keeper, and it wants everything.
io::Task<Result<std::optional<int>>> Supervisor::next_signal(io::Signals& caught) {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    io::Task<Result<int>> signalled = caught.next(never);
    io::Task<io::Wake> asked = until_set(parts_->desk->asked());
    auto raced = co_await io::race(loop_, std::move(signalled), std::move(asked));
    if (raced.b == io::Wake::kReady) co_return std::nullopt;
    if (!raced.a) co_return forward(std::move(raced.a));
    log_warning(cat("supervisor: got ", std::string_view(::strsignal(*raced.a))));
    // Nobody would start a successor.
    if (*raced.a != SIGHUP || !orphaned()) co_return *raced.a;
    log_warning("no keeper is there to start another supervisor: going on");
  }
}

/// What the keeper had for us, and is still of use: it could not be told what has ended since.
std::vector<KeptSlot> Supervisor::kept() const {
  const Copier::Descriptors copying = parts_->copier.descriptors();
  std::vector<KeptSlot> all(2);
  all[0].slot = kSelfSlot;
  all[0].kind = static_cast<uint32_t>(HeldKind::kSelf);
  all[0].fds = {copying.journal, copying.staging_read, copying.staging_write, parts_->suspects.memfd().get()};
  all[1].slot = kListenerSlot;
  all[1].kind = static_cast<uint32_t>(HeldKind::kListener);
  all[1].fds[init::kClientsSocket] = parts_->server ? parts_->server->listening_socket().get() : -1;
  all[1].fds[init::kHandoverSocket] = parts_->desk->listening_socket().get();
  for (const auto& [id, container] : containers_)
    if (const std::optional<KeptSlot> held = container->kept()) all.push_back(*held);
  for (const KeptSlot& device : parts_->devices.kept()) all.push_back(device);
  for (const auto& [key, run] : parts_->held) {  // of definitions that could not be read
    KeptSlot& held = all.emplace_back();
    held.slot = run.slot;
    held.fds = {run.out.get(), run.err.get(), run.pidfd.get(), -1};
  }
  return all;
}

/// Without a keeper, and no longer at work: everything is for the next one who asks. Until then this is but a holder.
io::Task<Result<>> Supervisor::pass_on(io::Signals& caught) {
  ::prctl(PR_SET_NAME, "gantry-holder");
  GANTRY_CO_TRY(keep_only(parts_->table.fd(), kept()));
  for (;;) {
    GANTRY_CO_LET(const std::optional<int> signo, co_await next_signal(caught));
    if (signo) co_return Result<>();
    const sys::Fd peer = parts_->desk->take_peer();
    Result<> given = co_await give_everything(loop_, peer.get(), parts_->table.fd().get(), kept());
    if (given || io::is_cancelled(given.error())) co_return given;
    log_warning(given.error().text);
    parts_->server.reset();  // clients are to hear that nobody is there
    parts_->desk->asked().reset();
  }
}

/// Without a keeper everything goes on, but nothing new can be started.
io::Task<Result<>> Supervisor::listen_to_keeper() {
  const Result<> ended = co_await parts_->keeper.listen();
  if (!ended && !io::is_cancelled(ended.error()))
    log_error(cat("the keeper is gone: containers go on, nothing can be started until another keeper takes over: ",
                  ended.error().text));
  co_return Result<>();
}

/// Three times in the manager's interval: the keeper waits for half of it, and half of that again, before it acts.
io::Task<Result<>> Supervisor::show_life() {
  if (options_.watchdog.count() == 0) co_return Result<>();
  const std::chrono::nanoseconds patience = options_.watchdog / 2, pause = options_.watchdog / 3;
  for (;;) {
    const Result<> told = co_await parts_->keeper.beat(patience);
    if (!told) co_return Result<>();  // listen_to_keeper() says why
    const io::Wake wake = co_await io::sleep_for(loop_, pause);
    if (wake == io::Wake::kCancelled) co_return Result<>();
  }
}

/// What creations and removals needed for a moment lies between what is there to stay: malloc never returns that by
/// itself. Done when nothing has changed for a while, so that a burst does not wait for it.
io::Task<Result<>> Supervisor::give_memory_back() {
  const io::Deadline never = io::Deadline::never();
  for (;;) {
    io::Wake wake = co_await changed_.wait(never);
    while (wake != io::Wake::kCancelled && changed_.is_set()) {
      changed_.reset();
      const std::chrono::milliseconds calm(kCalmMs);
      wake = co_await io::sleep_for(loop_, calm);
    }
    if (wake == io::Wake::kCancelled) co_return Result<>();
    ::malloc_trim(0);
  }
}

io::Task<> Supervisor::shut_down(io::Event& hurry) {
  (void)co_await parts_->keeper.notify(init::KeeperNotify::kStopping);
  if (!options_.stop_on_exit) co_return;
  io::Task<Result<>> stopping = stop_all(kExitGraceSeconds);
  io::Task<io::Wake> waiting = until_set(hurry);
  const auto raced = co_await io::race(loop_, std::move(stopping), std::move(waiting));
  if (raced.b != io::Wake::kReady) co_return;
  log_warning("supervisor: what has not stopped yet is killed");
  (void)co_await stop_all(0);
}

io::Task<io::Wake> Supervisor::until_set(io::Event& event) {
  const io::Deadline never = io::Deadline::never();
  const io::Wake wake = co_await event.wait(never);
  co_return wake;
}

io::Task<Result<>> Supervisor::stop_all(unsigned grace_seconds) {
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope stops(loop_, inherited);
  for (const auto& [id, container] : containers_) stops.spawn(stop_one(container, grace_seconds));
  Result<> stopped = co_await stops.join();
  co_return stopped;
}

io::Task<> Supervisor::stop_one(std::shared_ptr<Supervised> container, unsigned grace_seconds) {
  const bool runs = container->pid() != 0;
  Result<> stopped = co_await container->stop_for_exit(grace_seconds);
  // Its last words are brought home, too.
  if (stopped && runs) stopped = co_await container->wait_settled();
  if (!stopped && !io::is_cancelled(stopped.error()))
    log_warning(cat("container ", container->definition().id, ": ", stopped.error().text));
}

Result<int> run_supervisor(SupervisorOptions options) {
  GANTRY_TRY(confine_supervisor());
  // A limit on the size of files must fail the write to a log, and not end the supervisor.
  (void)std::signal(SIGXFSZ, SIG_IGN);
  io::Loop loop;
  GANTRY_LET(const std::unique_ptr<Supervisor> supervisor, loop.run(Supervisor::open(loop, std::move(options))));
  return loop.run(supervisor->run());
}

}  // namespace gantry
