// Which paths of logs are refused: those that are another container's, and those among the files of the supervisor.
#include <sys/stat.h>

#include <algorithm>
#include <string_view>

#include "engine/state_store.h"
#include "engine/supervisor/parts.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::string_view kAdvice = ": give each a path of its own";

/// How deep below the directory `path` the log lies: 1 directly in it; 0: elsewhere, or there is no such directory.
size_t depth_below(const FoundLogPlace& log, const std::string& path) {
  struct stat directory{};
  if (::stat(path.c_str(), &directory) < 0) return 0;
  const auto at = std::ranges::find(log.above, identity_of(directory));
  if (at == log.above.end()) return 0;
  const auto missing = static_cast<size_t>(std::ranges::count(log.place.rest, '/'));
  return static_cast<size_t>(at - log.above.begin()) + missing + 1;
}

/// One that is not there yet is found above what is to be made.
bool lies_directly_in(const FoundLogPlace& log, const DefinitionStore& definitions, const std::string& id) {
  if (log.place.is_settled()) return depth_below(log, definitions.dir_of(id)) == 1;
  return depth_below(log, definitions.path()) == 2 && log.place.rest.starts_with(cat(id, "/"));
}

/// Other containers' directories, and names that mean something, are not for logs.
Result<> check_directory(const FoundLogPlace& log, const std::string& path, const DefinitionStore& definitions,
                         const std::string& root, const std::string& id) {
  const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  if (lies_directly_in(log, definitions, id)) {
    if (is_log_name(name)) return {};
    return fail(cat("log ", path, ": this is not a name for a log there: choose another"));
  }
  if (depth_below(log, definitions.path()) != 0)
    return fail(cat("log ", path, " lies in the supervisor's state directory ", definitions.path(),
                    ": choose a directory elsewhere, or leave path= out"));
  if (depth_below(log, root) != 0)
    return fail(
        cat("log ", path, " lies in ", root, ", where the states of containers are: choose a directory elsewhere"));
  return {};
}

Result<> check_meeting(LogMeeting meeting, const std::string& mine, const std::string& other, const std::string& id) {
  switch (meeting) {
    case LogMeeting::kNone:
      return {};
    case LogMeeting::kSame:
      return fail(
          cat("log ", mine, " is the log of container ", id, other == mine ? "" : cat(" (", other, ")"), kAdvice));
    case LogMeeting::kRotatedTo:
      return fail(cat("log ", mine, " is what the log of container ", id, " (", other, ") is rotated to", kAdvice));
    case LogMeeting::kRotates:
      return fail(cat("log ", mine, " would be rotated to the log of container ", id, " (", other, ")", kAdvice));
  }
  return {};
}

}  // namespace

io::Task<Result<>> Supervisor::check_log_is_free(std::shared_ptr<Supervised> container) const {
  if (!container->names_its_log()) co_return Result<>();
  const std::string& path = container->log().path;
  GANTRY_CO_LET(const FoundLogPlace found, co_await container->find_log());
  GANTRY_CO_TRY(check_directory(found, path, parts_->definitions, options_.root, container->definition().id));
  const std::optional<uint64_t> slow = container->slow_device();
  // Others may come and go while one is being looked for.
  std::vector<std::shared_ptr<Supervised>> others;
  for (const auto& [id, other] : containers_)
    if (other->names_its_log()) others.push_back(other);
  for (const std::shared_ptr<Supervised>& other : others) GANTRY_CO_TRY(co_await other->refresh_log_place(slow));
  const LogPlace by_name = log_place_by_name(container->log());
  for (const auto& [id, other] : containers_) {
    if (!other->names_its_log()) continue;
    const LogPlace place = other->log_place();
    const LogPlace& mine = place.directory == FileIdentity() ? by_name : found.place;
    GANTRY_CO_TRY(check_meeting(meeting_of(mine, place), path, other->log().path, id));
  }
  co_return Result<>();
}

}  // namespace gantry
