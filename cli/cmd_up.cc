#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <set>

#include "cli/commands.h"
#include "cli/driver.h"
#include "cli/output.h"
#include "cli/supervised.h"
#include "engine/bundle.h"
#include "engine/supervisor/log_options.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

constexpr int64_t kMostCopies = 100'000;

constexpr std::array<Flag, 6> kFlags{{
    {"id", "", Kind::kText, "ID", "name of the container (default: the name of the bundle's directory)"},
    {"count", "", Kind::kInt, "N", "make N containers of each bundle, ID-1 to ID-N, each in a cgroup of its own"},
    {"restart", "", Kind::kText, "POLICY", "no, on-failure, on-failure:N or always (default: no)"},
    {"log", "", Kind::kText, "HOW",
     "cri, json or none, then ,size=16m ,files=4 ,full=block|drop ,path=FILE (default: cri)"},
    {"netns", "", Kind::kText, "PATH", "join this network namespace instead of what the config says"},
    kSocketFlag,
}};

/// A bundle as the supervisor gets it.
struct Source {
  std::string path, rootfs;
  std::string cgroups_path;  ///< linux.cgroupsPath
  sys::Fd config;
};

/// config.json in a memory file that nobody can change any more.
Result<sys::Fd> sealed(std::string_view bytes) {
  sys::Fd file(::memfd_create("gantry-config", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno(errno, "memfd_create");
  GANTRY_TRY(sys::write_all(file, bytes));
  if (::lseek(file.get(), 0, SEEK_SET) < 0) return fail_errno(errno, "lseek");
  if (::fcntl(file.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
    return fail_errno(errno, "seal config.json");
  return file;
}

/// Reads the bundle here, in the client: one on a hung file system hangs nobody else.
Result<Source> read_source(const std::string& given) {
  auto bundle = open_bundle(given);
  if (!bundle) return forward(std::move(bundle), cat("bundle ", given));
  Source source;
  source.path = bundle->path;
  auto rootfs = resolve_rootfs(*bundle);
  if (!rootfs) return forward(std::move(rootfs), cat("bundle ", given));
  source.rootfs = std::move(*rootfs);
  source.cgroups_path = bundle->spec.cgroups_path;
  GANTRY_LET(source.config, sealed(bundle->config_bytes));
  return source;
}

struct Wish {
  std::string id;
  const Source* source;
  bool copy = false;  ///< one of several of the same bundle
};

class UpJobs final : public Jobs {
 public:
  UpJobs(io::Loop& loop, SupervisorAddress address, api::Up model, std::vector<Wish> wishes)
      : loop_(loop),
        address_(std::move(address)),
        model_(std::move(model)),
        wishes_(std::move(wishes)),
        progress_("up", wishes_.size()) {}

  io::Task<> run(size_t index) override {
    api::Up up = model_;
    up.id = wishes_[index].id;
    up.bundle = wishes_[index].source->path;
    up.rootfs = wishes_[index].source->rootfs;
    // One cgroup cannot serve them all: each gets one of its own beside the one that the config names.
    const std::string& cgroup = wishes_[index].source->cgroups_path;
    const size_t parent = cgroup.rfind('/') + 1;  // 0 without a slash
    if (wishes_[index].copy && !cgroup.empty()) up.cgroups_path = cgroup.substr(0, parent) + up.id;
    std::vector<int> fds{wishes_[index].source->config.get()};
    const Patience patience{0, Patience().again_ms};
    api::Call call = std::move(up);
    const Result<api::Reply> reply =
        co_await call_patiently(loop_, address_, std::move(call), std::move(fds), patience);
    report(wishes_[index].id, reply);
  }

  bool failed() const { return failed_; }

 private:
  void report(const std::string& id, const Result<api::Reply>& reply) {
    progress_.clear();
    Result<> printed;
    if (reply) printed = print(cat(id, "\n"));
    if (!reply) log_error(cat(id, ": ", reply.error().text));
    if (!printed) log_error(printed.error().text);
    failed_ = failed_ || !reply || !printed;
    progress_.step();
  }

  io::Loop& loop_;
  SupervisorAddress address_;
  api::Up model_;
  std::vector<Wish> wishes_;
  Progress progress_;
  bool failed_ = false;
};

/// What is the same for all containers of the call.
Result<api::Up> model_of(const Parsed& options) {
  api::Up model;
  if (options.given("restart")) {
    GANTRY_LET(model.restart, api::parse_restart_policy(options.text("restart")));
  }
  model.log = options.text("log");
  if (const auto log = parse_log_options(model.log); !log) return std::unexpected(log.error());
  GANTRY_LET(model.netns, sys::absolute_path(options.text("netns")));
  return model;
}

Result<size_t> copies_of(const Parsed& options) {
  const auto count = options.number("count");
  if (!count) return size_t{0};
  if (*count < 1 || *count > kMostCopies) return fail(cat("--count ", *count, ": must be from 1 to ", kMostCopies));
  return static_cast<size_t>(*count);
}

/// The id that the containers of a bundle are called by.
Result<std::string> base_id(const Parsed& options, const Source& source) {
  if (options.given("id")) return options.text("id");
  std::string name = source.path.substr(source.path.rfind('/') + 1);
  if (const std::string refusal = check_id(name); !refusal.empty())
    return fail(cat("bundle ", source.path, ": its name cannot be an id (", refusal, "): use --id"));
  return name;
}

Result<std::vector<Wish>> wishes_of(const Parsed& options, const std::vector<Source>& sources) {
  GANTRY_LET(const size_t copies, copies_of(options));
  std::vector<Wish> wishes;
  std::set<std::string> seen;
  for (const Source& source : sources) {
    GANTRY_LET(const std::string base, base_id(options, source));
    for (size_t i = 1; i <= std::max(copies, size_t{1}); ++i) {
      std::string id = copies == 0 ? base : cat(base, "-", i);
      if (const std::string refusal = check_id(id); !refusal.empty()) return fail(refusal);
      if (!seen.insert(id).second)
        return fail(cat("two containers would be called ", id, ": use --id for one of them"));
      wishes.push_back({std::move(id), &source, copies != 0});
    }
  }
  return wishes;
}

/// One file cannot take the logs of several.
Result<> check_log_path(const Parsed& options) {
  GANTRY_LET(const LogOptions log, parse_log_options(options.text("log")));
  GANTRY_LET(const size_t copies, copies_of(options));
  const size_t containers = std::max(copies, size_t{1}) * options.args.size();
  if (log.path.empty() || containers == 1) return {};
  return fail(cat("--log path= names one file, which cannot be that of ", containers,
                  " containers: leave it out, each then has a log of its own in the state directory"));
}

Result<int> run_up(const Call& call) {
  const Parsed& options = call.options;
  if (options.given("id") && options.args.size() > 1)
    return fail(cat("--id ", options.text("id"), " cannot name ", options.args.size(), " bundles: use it for one"));
  if (options.given("id"))
    if (const std::string refusal = check_id(options.text("id")); !refusal.empty())
      return fail(cat("--id ", options.text("id"), ": ", refusal));
  GANTRY_LET(const SupervisorAddress address, supervisor_address(call));
  GANTRY_LET(api::Up model, model_of(options));
  GANTRY_TRY(check_log_path(options));
  Driver driver(call.globals);
  // Told once, and not for each of five hundred.
  GANTRY_TRY(driver.loop().run(Client::connect(driver.loop(), address)));
  std::vector<Source> sources;
  for (const std::string& given : options.args) {
    auto source = read_source(given);
    if (source) sources.push_back(std::move(*source));
    if (!source) log_error(source.error().text);
  }
  GANTRY_LET(std::vector<Wish> wishes, wishes_of(options, sources));
  const size_t count = wishes.size();
  UpJobs jobs(driver.loop(), address, std::move(model), std::move(wishes));
  driver.loop().run(run_jobs(driver.loop(), jobs, count));
  return jobs.failed() || sources.size() != options.args.size() ? 1 : 0;
}

}  // namespace

constinit const Command kUp{
    .name = "up",
    .summary = "create and start containers that the supervisor looks after",
    .arguments = "BUNDLE...",
    .description =
        "Prints the id of each container as soon as it runs. One that cannot be started does not keep the\n"
        "others from it; the exit status is then 1, and nothing of it stays. Needs a running supervisor.\n"
        "With a restart policy a container is started again, also after a reboot: 0.1 s after the first early\n"
        "end (within 10 s), twice as long after each further one, at most a minute.\n"
        "# gantry up web --restart always\n"
        "# gantry up worker --count 500 --log json,size=1m,files=2",
    .flags = kFlags,
    .count = {1, -1},
    .changes_system = true,
    .for_supervised = true,
    .run = run_up,
};

}  // namespace gantry::cli
