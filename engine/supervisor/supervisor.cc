#include "engine/supervisor/supervisor.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <utility>

#include "engine/log.h"
#include "engine/supervisor/confine.h"
#include "engine/supervisor/parts.h"
#include "io/signal.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr unsigned kExitGraceSeconds = 10;
/// The keeper starts another supervisor when one ends without having said goodbye.
constexpr int kExitForSuccessor = 75;

}  // namespace

Result<uint32_t> SlotNumbers::take() {
  for (uint32_t number = kFirstContainerSlot; number < taken_.size(); ++number) {
    if (taken_[number]) continue;
    taken_[number] = true;
    return number;
  }
  return fail(cat(taken_.size(), " containers run at once, and that is all the keeper's table has places for"));
}

Result<KeeperView> KeeperView::map(const sys::Fd& table) {
  struct stat info;
  if (::fstat(table.get(), &info) < 0) return fail_errno(errno, "the keeper's table");
  const auto size = static_cast<size_t>(info.st_size);
  if (size < init::kKeeperTableHead) return fail("the keeper's table is too short");
  void* const at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, table.get(), 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap of the keeper's table");
  KeeperView view(static_cast<const init::KeeperTable*>(at), size);
  if (const char* wrong = init::check_keeper_table(at, size))
    return fail(cat("the keeper's table: ", std::string_view(wrong)));
  return view;
}

KeeperView::KeeperView(KeeperView&& other) noexcept
    : table_(std::exchange(other.table_, nullptr)), size_(other.size_) {}

KeeperView::~KeeperView() {
  if (table_ != nullptr) ::munmap(const_cast<init::KeeperTable*>(table_), size_);
}

Supervisor::Supervisor(io::Loop& loop, SupervisorOptions options, std::unique_ptr<Parts> parts)
    : loop_(loop), options_(std::move(options)), parts_(std::move(parts)) {}

Supervisor::~Supervisor() = default;

io::Task<Result<>> Supervisor::live(std::shared_ptr<Supervised> container, std::optional<HeldRun> kept, bool fresh) {
  co_await container->live(std::move(kept), fresh);
  co_return Result<>();
}

void Supervisor::adopt(std::shared_ptr<Supervised> container, std::optional<HeldRun> kept, bool fresh) {
  containers_[container->definition().id] = container;
  lives_->spawn(live(std::move(container), std::move(kept), fresh));
}

io::Task<Result<int>> Supervisor::run() {
  const std::array<int, 3> signals{SIGTERM, SIGINT, SIGHUP};
  io::Signals caught(loop_, signals);
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope service(loop_, inherited);
  lives_ = std::make_unique<io::Scope>(loop_, inherited);
  service.spawn(listen_to_keeper());
  GANTRY_CO_TRY(co_await recover());
  service.spawn(parts_->server->serve());
  GANTRY_CO_TRY(co_await parts_->keeper.notify(init::KeeperNotify::kReady));
  const io::Deadline never = io::Deadline::never();
  Result<int> signo = co_await caught.next(never);
  if (!signo) co_return signo;
  log_warning(cat("supervisor: got ", std::string_view(::strsignal(*signo))));
  parts_->host.closing = true;
  if (*signo == SIGHUP) {
    (void)co_await service.cancel_and_join();
    (void)co_await lives_->cancel_and_join();
    co_return kExitForSuccessor;
  }
  Result<> ended = co_await shut_down();
  (void)co_await lives_->cancel_and_join();
  if (ended && !parts_->keeper.gone().is_set()) ended = co_await parts_->keeper.leave();
  (void)co_await service.cancel_and_join();
  if (!ended) co_return forward(std::move(ended));
  co_return 0;
}

/// Without a keeper everything goes on, but nothing new can be started.
io::Task<Result<>> Supervisor::listen_to_keeper() {
  const Result<> ended = co_await parts_->keeper.listen();
  if (!ended && !io::is_cancelled(ended.error()))
    log_error(cat("the keeper is gone: containers go on, nothing can be started until another keeper takes over: ",
                  ended.error().text));
  co_return Result<>();
}

io::Task<Result<>> Supervisor::shut_down() {
  (void)co_await parts_->keeper.notify(init::KeeperNotify::kStopping);
  if (!options_.stop_on_exit) co_return Result<>();
  io::CancelSource* const inherited = co_await io::inherited_cancel();
  io::Scope stops(loop_, inherited);
  for (const auto& [id, container] : containers_) stops.spawn(stop_one(container));
  Result<> stopped = co_await stops.join();
  co_return stopped;
}

io::Task<> Supervisor::stop_one(std::shared_ptr<Supervised> container) {
  const Result<> stopped = co_await container->stop_for_exit(kExitGraceSeconds);
  if (!stopped) log_warning(cat("container ", container->definition().id, ": ", stopped.error().text));
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
