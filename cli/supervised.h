// What the verbs for supervised containers have in common.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "cli/command.h"
#include "engine/supervisor/ownership.h"
#include "io/loop.h"

namespace gantry::cli {

inline constexpr Flag kSocketFlag{"socket", "", Kind::kText, "PATH",
                                  "the supervisor's socket (default: ROOT/@supervisor/socket)"};
inline constexpr Flag kStateDirFlag{"state-dir", "", Kind::kText, "DIR",
                                    "directory of definitions and logs (default: /var/lib/gantry)"};

/// The supervisor that --root and --socket name.
Result<SupervisorAddress> supervisor_address(const Call& call);

/// The directory that --state-dir names, absolute.
Result<std::string> state_dir(const Call& call);

/// Whether all arguments of the call can be ids: "ID: why not".
Result<> check_ids(const Call& call);

/// Where one container is: what its record says, unless --socket was given.
SupervisedPlace place_for(const Call& call, const Env& env, const std::string& id, const SupervisedPlace& place);

/// Pieces of work that can be done at the same time. Failures are theirs to report.
class Jobs {
 public:
  virtual io::Task<> run(size_t index) = 0;

 protected:
  ~Jobs() = default;
};

/// As many connections as one command has at a time.
inline constexpr size_t kMostAtOnce = 64;

/// Runs jobs 0 to count - 1, kMostAtOnce at a time, in their order.
io::Task<> run_jobs(io::Loop& loop, Jobs& jobs, size_t count);

/// What a verb does with one container.
using ContainerAction = std::function<io::Task<Result<>>(Env& env, SupervisedPlace place, std::string id)>;

/// Does it with all that the call names, as run_jobs(), with or without a supervisor. Reports failures as "ID: text";
/// the exit status.
Result<int> for_each_container(const Call& call, const ContainerAction& action);

/// "up 120/500" on stderr if that is a terminal, else nothing.
class Progress {
 public:
  Progress(std::string word, size_t total);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() { clear(); }
  /// Before anything else is printed.
  void clear();
  void step();

 private:
  void show(std::string_view text);
  std::string word_;
  size_t total_;
  size_t done_ = 0;
  bool shown_ = false;
  bool terminal_;
};

}  // namespace gantry::cli
