#include "engine/supervisor/definition.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "engine/json.h"
#include "engine/json_write.h"
#include "engine/log.h"
#include "engine/seal.h"
#include "engine/supervisor/paths.h"
#include "sys/file.h"
#include "sys/proc.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr char kDefinitionFile[] = "definition.json";
constexpr char kFlushedFile[] = ".definition.json.flushed";
constexpr char kFlushedTemp[] = ".definition.json.flushed.new";
constexpr char kConfigFile[] = "config.json";
constexpr size_t kMaxDefinition = 1u << 20;
/// A run that lived so long was no failure: the count of failures in a row, and with it the back-off, starts again.
constexpr int64_t kHealthyNs = 10'000'000'000;
constexpr int64_t kFirstBackOffMs = 100, kLongestBackOffMs = 60'000;

Result<> read_restart(const json::Value& value, Definition& out) {
  GANTRY_LET(const std::string_view text, value.string());
  auto policy = api::parse_restart_policy(text);
  if (!policy) return value.fail(policy.error().text);
  out.restart = *policy;
  return {};
}

constexpr json::Field<api::Exit> kExitFields[] = {
    {"known", json::into<&api::Exit::known>},
    {"code", json::into<&api::Exit::code>},
    {"signal", json::into<&api::Exit::signal>},
    {"at", json::into<&api::Exit::at>},
};

Result<> read_exit(const json::Value& value, Definition& out) {
  return json::read_fields(value, kExitFields, out.exit);
}

constexpr json::Field<Definition> kFields[] = {
    {"id", json::into<&Definition::id>},
    {"bundle", json::into<&Definition::bundle>},
    {"rootfs", json::into<&Definition::rootfs>},
    {"netns", json::into<&Definition::netns>},
    {"cgroups_path", json::into<&Definition::cgroups_path>},
    {"log", json::into<&Definition::log>},
    {"created", json::into<&Definition::created>},
    {"restart", read_restart},
    {"key", json::into<&Definition::key>},
    {"run", json::into<&Definition::run>},
    {"last_run", json::into<&Definition::last_run>},
    {"exit", read_exit},
    {"restarts", json::into<&Definition::restarts>},
    {"failures", json::into<&Definition::failures>},
    {"started_ns", json::into<&Definition::started_ns>},
    {"stopped_by_user", json::into<&Definition::stopped_by_user>},
    {"quarantined", json::into<&Definition::quarantined>},
};

/// Removes the files of ours one by one: a definition's directory has no others, and no directories.
Result<> remove_files(const sys::Fd& dir, bool keep_log, bool& kept) {
  GANTRY_LET(const std::vector<std::string> names, sys::list_names(dir));
  for (const std::string& name : names) {
    if (keep_log && is_log_name(name)) {
      kept = true;
    } else if (::unlinkat(dir.get(), name.c_str(), 0) < 0 && errno != ENOENT) {
      return fail_path(errno, "unlink", name);
    }
  }
  return {};
}

}  // namespace

bool is_log_name(std::string_view name) {
  return name != kDefinitionFile && name != kConfigFile && !name.starts_with('.');
}

bool Definition::restart_due() const {
  if (stopped_by_user || quarantined) return false;
  if (restart.when == api::Restart::kAlways) return true;
  if (restart.when == api::Restart::kNo || (exit.known && exit.shell() == 0)) return false;
  return restart.max_retries == 0 || restarts < restart.max_retries;
}

bool Definition::end_run(api::Exit how, bool begun, int64_t now_ns) {
  const bool healthy = begun && now_ns - started_ns >= kHealthyNs;
  failures = healthy ? 0 : failures + 1;
  exit = std::move(how);
  const bool again = restart_due();
  last_run = run;
  if (again) {
    ++run;
    ++restarts;
  }
  return again;
}

int64_t Definition::back_off_ms() const {
  if (failures == 0) return 0;
  if (failures > 16) return kLongestBackOffMs;
  return std::min(kFirstBackOffMs << (failures - 1), kLongestBackOffMs);
}

std::string encode_definition(const Definition& definition, std::string_view boot_id) {
  json::Writer out;
  out.begin_object();
  out.member("id", definition.id).member("bundle", definition.bundle).member("rootfs", definition.rootfs);
  out.member("cgroups_path", definition.cgroups_path);
  out.member("netns", definition.netns).member("log", definition.log).member("created", definition.created);
  out.member("restart", api::restart_policy_text(definition.restart));
  out.member("key", definition.key).member("run", definition.run).member("last_run", definition.last_run);
  out.key("exit").begin_object();
  out.member("known", definition.exit.known).member("code", definition.exit.code);
  out.member("signal", definition.exit.signal).member("at", definition.exit.at);
  out.end_object();
  out.member("restarts", definition.restarts).member("failures", definition.failures);
  out.member("started_ns", definition.started_ns);
  out.member("stopped_by_user", definition.stopped_by_user).member("quarantined", definition.quarantined);
  out.end_object();
  return seal_json(out.take(), boot_id);
}

Result<LoadedDefinition> decode_definition(std::string_view bytes, std::string_view id, std::string_view boot_id) {
  if (!seal_is_intact(bytes, "")) return fail(cat("definition.json of ", id, " is damaged: remove it with rm --force"));
  LoadedDefinition loaded;
  loaded.this_boot = seal_is_intact(bytes, boot_id);
  GANTRY_LET(const json::Document document, json::Document::parse(bytes, "definition.json"));
  Definition& definition = loaded.definition;
  GANTRY_TRY(json::read_fields(document.root(), kFields, definition));
  if (definition.id != id)
    return fail(cat("definition.json of ", id, " is that of \"", json::one_line(definition.id), "\""));
  if (definition.key == 0 || definition.run == 0)
    return fail(cat("definition.json of ", id, ": key and run must not be 0"));
  if (!definition.bundle.starts_with('/') || !definition.rootfs.starts_with('/'))
    return fail(cat("definition.json of ", id, ": bundle and rootfs must be absolute"));
  return loaded;
}

Result<DefinitionStore> DefinitionStore::open(std::string state_dir) {
  for (size_t at = 0; at != std::string::npos;) {
    at = state_dir.find('/', at + 1);
    const std::string part = state_dir.substr(0, at);
    const mode_t mode = at == std::string::npos ? 0700 : 0755;
    if (::mkdir(part.c_str(), mode) < 0 && errno != EEXIST) return fail_path(errno, "mkdir", part);
  }
  GANTRY_LET(sys::Fd dir, sys::open_file(state_dir, O_RDONLY | O_DIRECTORY));
  return DefinitionStore(std::move(state_dir), std::move(dir));
}

namespace {

Result<bool> try_flock(const sys::Fd& dir, int kind, const std::string& path) {
  if (::flock(dir.get(), kind | LOCK_NB) == 0) return true;
  if (errno == EWOULDBLOCK) return false;
  return fail_path(errno, "flock", path);
}

}  // namespace

Result<bool> DefinitionStore::try_lock() const {
  return try_flock(dir_, LOCK_EX, path_);
}

Result<bool> DefinitionStore::try_lock_shared() const {
  return try_flock(dir_, LOCK_SH, path_);
}

Result<sys::Fd> DefinitionStore::try_lock_one(const std::string& id) const {
  GANTRY_LET(sys::Fd dir, open_dir(id));
  GANTRY_LET(const bool mine, try_flock(dir, LOCK_EX, dir_of(id)));
  if (!mine) return sys::Fd();
  // Who had it before may have removed the directory, and somebody else have made another one.
  if (!sys::is_entry(dir_, id, dir)) return sys::Fd();
  return dir;
}

bool DefinitionStore::has(const std::string& id) const {
  return ::faccessat(dir_.get(), cat(id, "/", kDefinitionFile).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

Result<sys::Fd> DefinitionStore::open_dir(const std::string& id) const {
  return sys::open_at(dir_, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

Result<> DefinitionStore::create(const Definition& definition, std::string_view config) const {
  const std::string& id = definition.id;
  if (::mkdirat(dir_.get(), id.c_str(), 0700) < 0 && errno != EEXIST) return fail_path(errno, "mkdir", dir_of(id));
  // Logs of a removed namesake may be there; a definition may not.
  if (has(id)) return std::unexpected(Error{"container with given ID already exists", EEXIST});
  Result<> filled = fill(definition, config);
  if (filled) return filled;
  (void)remove(id, true);
  // What cannot be opened now is empty, or has logs and stays.
  ::unlinkat(dir_.get(), id.c_str(), AT_REMOVEDIR);
  return filled;
}

Result<> DefinitionStore::fill(const Definition& definition, std::string_view config) const {
  GANTRY_LET(const sys::Fd dir, open_dir(definition.id));
  if (::unlinkat(dir.get(), kFlushedFile, 0) < 0 && errno != ENOENT) return fail_path(errno, "unlink", kFlushedFile);
  GANTRY_TRY(sys::replace_file_at(dir, kConfigFile, config, 0600));
  return save(definition);
}

Result<> DefinitionStore::save(const Definition& definition) const {
  GANTRY_LET(const sys::Fd dir, open_dir(definition.id));
  GANTRY_LET(const std::string boot, sys::boot_id());
  return sys::replace_file_at(dir, kDefinitionFile, encode_definition(definition, boot), 0600);
}

Result<LoadedDefinition> DefinitionStore::load(const std::string& id) const {
  GANTRY_LET(const sys::Fd dir, open_dir(id));
  GANTRY_LET(const std::string bytes, sys::read_file_at(dir, kDefinitionFile, kMaxDefinition));
  GANTRY_LET(const std::string boot, sys::boot_id());
  auto loaded = decode_definition(bytes, id, boot);
  if (loaded) return loaded;
  const auto flushed = sys::read_file_at(dir, kFlushedFile, kMaxDefinition);
  if (!flushed) return loaded;
  auto former = decode_definition(*flushed, id, boot);
  // Within one boot no power cut can have done it, and the damage is somebody's to look at.
  return former && !former->this_boot ? std::move(former) : std::move(loaded);
}

Result<std::string> DefinitionStore::load_config(const std::string& id) const {
  GANTRY_LET(const sys::Fd dir, open_dir(id));
  return sys::read_file_at(dir, kConfigFile, json::kMaxBytes);
}

Result<> DefinitionStore::remove(const std::string& id, bool keep_log) const {
  auto dir = open_dir(id);
  if (!dir && dir.error().sys_errno == ENOENT) return {};
  if (!dir) return forward(std::move(dir));
  // The definition first: without it the rest is nobody's.
  if (::unlinkat(dir->get(), kDefinitionFile, 0) < 0 && errno != ENOENT)
    return fail_path(errno, "unlink", kDefinitionFile);
  bool kept = false;
  GANTRY_TRY(remove_files(*dir, keep_log, kept));
  if (!kept && ::unlinkat(dir_.get(), id.c_str(), AT_REMOVEDIR) < 0) return fail_path(errno, "rmdir", dir_of(id));
  return {};
}

Result<std::vector<std::string>> DefinitionStore::ids() const {
  GANTRY_LET(std::vector<std::string> found, sys::list_names(dir_));
  std::erase_if(
      found, [this](const std::string& name) { return name.starts_with('.') || name.starts_with('@') || !has(name); });
  std::sort(found.begin(), found.end());
  return found;
}

Result<std::vector<sys::Fd>> DefinitionStore::open_for_flush(const std::string& id) const {
  std::vector<sys::Fd> fds;
  GANTRY_LET(sys::Fd dir, open_dir(id));
  for (const char* name : {kConfigFile, kDefinitionFile}) {
    GANTRY_LET(sys::Fd file, sys::open_at(dir, name, O_RDONLY | O_NOFOLLOW));
    fds.push_back(std::move(file));
  }
  fds.push_back(std::move(dir));
  GANTRY_LET(sys::Fd parent, sys::open_at(dir_, ".", O_RDONLY | O_DIRECTORY));
  fds.push_back(std::move(parent));
  return fds;
}

Result<sys::Fd> DefinitionStore::open_definition(const std::string& id) const {
  GANTRY_LET(const sys::Fd dir, open_dir(id));
  return sys::open_at(dir, kDefinitionFile, O_RDONLY | O_NOFOLLOW);
}

Result<> DefinitionStore::keep_flushed(const std::string& id, const sys::Fd& definition) const {
  GANTRY_LET(const sys::Fd dir, open_dir(id));
  if (::unlinkat(dir.get(), kFlushedTemp, 0) < 0 && errno != ENOENT) return fail_path(errno, "unlink", kFlushedTemp);
  const std::string source = cat("/proc/self/fd/", definition.get());
  // ENOENT: it has been replaced meanwhile.
  if (::linkat(AT_FDCWD, source.c_str(), dir.get(), kFlushedTemp, AT_SYMLINK_FOLLOW) < 0)
    return errno == ENOENT ? Result<>() : fail_path(errno, "link", kFlushedTemp);
  if (::renameat(dir.get(), kFlushedTemp, dir.get(), kFlushedFile) < 0) return fail_path(errno, "rename", kFlushedTemp);
  // The rename does nothing when both were the same file already.
  ::unlinkat(dir.get(), kFlushedTemp, 0);
  return {};
}

Result<> DefinitionStore::flush(const std::string& id) const {
  GANTRY_LET(const std::vector<sys::Fd> files, open_for_flush(id));
  GANTRY_LET(const sys::Fd definition, open_definition(id));
  for (const sys::Fd& file : files)
    if (::fsync(file.get()) < 0) return fail_path(errno, "fsync", dir_of(id));
  return keep_flushed(id, definition);
}

Result<> mark_stopped_by_user(const DefinitionStore& store, const std::string& id) {
  auto loaded = store.load(id);
  if (!loaded && loaded.error().sys_errno == ENOENT) return {};
  if (!loaded) return forward(std::move(loaded));
  loaded->definition.stopped_by_user = true;
  GANTRY_TRY(store.save(loaded->definition));
  if (loaded->definition.restart.when == api::Restart::kNo) return {};
  // The mark is set; that it may not outlive a power cut is no reason to leave the container alone.
  if (const auto flushed = store.flush(id); !flushed) log_warning(cat("container ", id, ": ", flushed.error().text));
  return {};
}

}  // namespace gantry
