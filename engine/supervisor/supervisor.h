// The supervisor: the keeper's child, all the logic, and nothing that its death would take along.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "engine/supervisor/host.h"
#include "engine/supervisor/server.h"
#include "engine/supervisor/supervised.h"
#include "io/scope.h"
#include "io/signal.h"

namespace gantry {

struct SupervisorOptions {
  std::string root, state_dir, socket;
  std::string program = "gantry";
  std::string cgroup_parent;  ///< absolute, below each hierarchy's mountpoint; empty: beside our own cgroup
  std::string version;
  bool stop_on_exit = false;  ///< SIGTERM stops the containers; else they live on
  int parallel = 8;           ///< how many creations at once
  /// How often the service manager wants to hear of us (WATCHDOG_USEC, sd_watchdog_enabled(3)); 0: not at all.
  std::chrono::microseconds watchdog{0};
};

/// Takes the right to look after the definitions, for as long as the object lives. Two supervisors may not have it at
/// the same time; a predecessor may take a moment to end.
io::Task<Result<>> own_definitions(io::Loop& loop, const DefinitionStore& definitions);

/// Runs as the keeper's child until it is told to end: the exit status. Errors before that are for the log: the keeper
/// tries again.
Result<int> run_supervisor(SupervisorOptions options);

/// The read-only mapping of the keeper's table.
class KeeperView {
 public:
  static Result<KeeperView> map(sys::Fd table);
  KeeperView(KeeperView&& other) noexcept;
  KeeperView& operator=(KeeperView&&) = delete;
  ~KeeperView();

  const init::KeeperTable& head() const { return *table_; }
  const init::KeeperSlot& slot(uint32_t number) const { return init::keeper_slots(table_)[number]; }
  /// For the next keeper.
  const sys::Fd& fd() const { return fd_; }

 private:
  KeeperView(sys::Fd fd, const init::KeeperTable* table, size_t size)
      : fd_(std::move(fd)), table_(table), size_(size) {}
  sys::Fd fd_;
  const init::KeeperTable* table_;
  size_t size_;
};

class Supervisor final : public Service {
 public:
  /// Takes over what the keeper holds (recovery.cc).
  static io::Task<Result<std::unique_ptr<Supervisor>>> open(io::Loop& loop, SupervisorOptions options);
  ~Supervisor() override;

  /// Serves until a signal says to end and the poststop hooks under way have ended, 10 s at most; the exit status.
  /// SIGTERM, SIGINT: for good; a second one ends the patience with these hooks and, with stop_on_exit, with what is
  /// being stopped. SIGHUP: for a successor. Calls of clients that wait then get no answer.
  io::Task<Result<int>> run();

  // service.cc
  io::Task<Result<api::Reply>> handle(api::Call call, std::vector<sys::Fd> fds,
                                      std::vector<sys::Fd>& reply_fds) override;

 private:
  struct Parts;  ///< what SupervisorHost refers to, in the order of its construction

  Supervisor(io::Loop& loop, SupervisorOptions options, std::unique_ptr<Parts> parts);

  // recovery.cc
  io::Task<Result<>> recover();
  io::Task<Result<>> hold_own();
  io::Task<Result<>> hold_self();
  io::Task<Result<>> replace_copier(Error why);
  io::Task<Result<>> hold_if_kept(KeeperHold request);
  io::Task<Result<LoadedDefinition>> load_patiently(std::string id);
  io::Task<Result<std::shared_ptr<Supervised>>> recover_one(std::string id, std::optional<HeldRun>& kept);
  io::Task<Result<>> find_unheld(const Definition& definition, std::optional<HeldRun>& kept);
  io::Task<> drop_strangers();

  // service.cc
  io::Task<Result<api::Reply>> change_one(api::Call call);
  io::Task<Result<api::Reply>> up(api::Up call, std::vector<sys::Fd> fds);
  io::Task<Result<api::Reply>> wait(api::Wait call);
  io::Task<Result<>> stop(api::Stop call);
  io::Task<Result<>> remove(api::Remove call);
  Result<> check_hooks_can_run(const std::string& id) const;
  io::Task<Result<>> remove_claimed(std::shared_ptr<Supervised> container, api::Remove call);
  io::Task<Result<>> remove_unreadable(api::Remove call);
  uint32_t unused_key() const;
  io::Task<Result<>> signal(api::Signal call);
  io::Task<> give_up(std::shared_ptr<Supervised> container);
  io::Task<Result<>> forget(std::shared_ptr<Supervised> container, bool keep_log, bool anyhow);
  bool is_known(const std::shared_ptr<Supervised>& container) const;
  // claim_log.cc
  io::Task<Result<>> check_log_is_free(std::shared_ptr<Supervised> container) const;
  api::ListReply list() const;
  api::StatusReply status() const;
  Result<std::shared_ptr<Supervised>> find(const std::string& id) const;

  // supervisor.cc
  void adopt(std::shared_ptr<Supervised> container, std::optional<HeldRun> kept, bool fresh);
  io::Task<Result<>> listen_to_keeper();
  io::Task<Result<>> show_life();
  io::Task<Result<>> give_memory_back();
  io::Task<Result<>> end(io::Signals& caught, std::optional<int>& signo, io::Scope& service);
  io::Task<> await_hooks();
  io::Task<> heed_further(io::Signals& caught, std::optional<int>& signo, io::Event& hurry);
  io::Task<Result<>> stop_all(unsigned grace_seconds);
  io::Task<> stop_one(std::shared_ptr<Supervised> container, unsigned grace_seconds);
  io::Task<> live(std::shared_ptr<Supervised> container, std::unique_ptr<HeldRun> kept, bool fresh);
  io::Task<> shut_down(io::Event& hurry);
  static io::Task<io::Wake> until_set(io::Event& event);
  io::Task<Result<std::optional<int>>> next_signal(io::Signals& caught);
  io::Task<> stand_still(io::Scope& service);
  std::vector<KeptSlot> kept() const;
  io::Task<Result<>> pass_on(io::Signals& caught);
  bool orphaned() const;
  bool holds_runs() const;

  io::Loop& loop_;
  SupervisorOptions options_;
  std::unique_ptr<Parts> parts_;
  std::map<std::string, std::shared_ptr<Supervised>> containers_;
  std::unique_ptr<io::Scope> lives_;
  io::Event changed_;  ///< containers came or went since memory was given back
};

}  // namespace gantry
