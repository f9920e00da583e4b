// state, list and ps: what can be known without changing anything.
#include <algorithm>

#include "engine/load.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {
namespace {

ContainerView view_of(Loaded&& container) {
  ContainerView view;
  view.pid = container.status == Status::kStopped ? 0 : container.live_pid();
  view.status = container.status;
  view.record = std::move(container.record);
  return view;
}

/// The name of a uid in the host's passwd file, "#UID" without one (SL-05). No NSS: its modules are not ours to load.
std::string owner_name(uid_t uid) {
  const auto passwd = sys::read_file("/etc/passwd", 1u << 20);
  if (passwd) {
    for (const std::string_view line : split(*passwd, '\n')) {
      const auto fields = split(line, ':');
      if (fields.size() >= 3 && parse_number<uid_t>(fields[2]) == uid) return std::string(fields[0]);
    }
  }
  return cat("#", uid);
}

}  // namespace

Result<ContainerView> state(Env& env, const std::string& id) {
  GANTRY_LET(Loaded container, load_container(env, id));
  return view_of(std::move(container));
}

Result<std::vector<ContainerView>> list(Env& env, std::vector<std::string>& problems) {
  GANTRY_LET(const std::vector<std::string> ids, env.store.ids());
  std::vector<ContainerView> views;
  for (const std::string& id : ids) {
    auto container = load_container(env, id);
    if (!container) {
      problems.push_back(cat("load container ", id, ": ", container.error().text));
      continue;
    }
    views.push_back(view_of(std::move(*container)));
    const auto uid = env.store.owner(id);
    if (uid) views.back().owner = owner_name(*uid);
  }
  return views;
}

Result<std::vector<pid_t>> ps(Env& env, const std::string& id) {
  GANTRY_LET(const Loaded container, load_container(env, id));
  if (container.status == Status::kStopped && container.record.private_pid_ns) return std::vector<pid_t>();
  GANTRY_LET(const Cgroup cgroup, recorded_cgroup(container));
  auto pids = cgroup.pids_recursive();
  if (!pids) return forward(std::move(pids), "unable to get all container pids");
  return pids;
}

std::string check_id(std::string_view id) {
  if (id.empty()) return "container id cannot be empty";
  const bool allowed = std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+' ||
           c == '.' || c == '-';
  });
  if (!allowed || id == "." || id == ".." || id.size() > 255) return "invalid container ID format";
  return "";
}

}  // namespace gantry
