// The bytes of state.json.
#include "engine/json.h"
#include "engine/json_write.h"
#include "engine/seal.h"
#include "engine/state_store.h"
#include "sys/text.h"

namespace gantry {
namespace {

void write_record(json::Writer& out, const ContainerRecord& record) {
  out.begin_object();
  out.member("id", record.id);
  out.member("init_process_pid", static_cast<int64_t>(record.pid));
  out.member("init_process_start", record.start_time);
  out.member("created", record.created);
  out.member("bundle", record.bundle);
  out.member("rootfs", record.rootfs);
  out.member("phase", record.phase == Phase::kCommitted ? "committed" : "intent");
  out.member("private_pid_ns", record.private_pid_ns);
  out.member("notify_socket", record.notify_socket);
  out.member("create_runtime_begun", record.create_runtime_begun);
  out.member("cgroup_reused", record.cgroup_reused);
  if (!record.supervisor_socket.empty()) {
    out.member("supervisor_socket", record.supervisor_socket);
    out.member("state_dir", record.state_dir);
    out.member("supervised_run", record.supervised_run);
  }
  out.member("cgroup_mode", record.cgroup_mode);
  out.key("cgroup_paths");
  out.begin_object();
  for (const auto& [name, path] : record.cgroup_paths) out.member(name, path);
  out.end_object();
  out.key("namespace_paths");
  out.begin_object();
  for (const auto& [name, path] : record.namespace_paths) out.member(name, path);
  out.end_object();
  out.key("annotations");
  out.begin_object();
  for (const auto& [key, value] : record.annotations) out.member(key, value);
  out.end_object();
  out.end_object();
}

Result<> read_pairs(const json::Value& value, std::vector<std::pair<std::string, std::string>>& out) {
  return value.each_member([&out](std::string_view key, const json::Value& item) -> Result<> {
    GANTRY_LET(const std::string_view text, item.string());
    out.emplace_back(key, text);
    return {};
  });
}

Result<> read_map(const json::Value& value, std::map<std::string, std::string>& out) {
  std::vector<std::pair<std::string, std::string>> pairs;
  GANTRY_TRY(read_pairs(value, pairs));
  for (auto& [key, text] : pairs) out.insert_or_assign(std::move(key), std::move(text));
  return {};
}

Result<> read_phase(const json::Value& value, ContainerRecord& record) {
  GANTRY_LET(const std::string_view text, value.string());
  record.phase = text == "committed" ? Phase::kCommitted : Phase::kIntent;
  return {};
}

Result<> read_cgroups(const json::Value& value, ContainerRecord& record) {
  return read_pairs(value, record.cgroup_paths);
}
Result<> read_namespaces(const json::Value& value, ContainerRecord& record) {
  return read_map(value, record.namespace_paths);
}
Result<> read_annotations(const json::Value& value, ContainerRecord& record) {
  return read_map(value, record.annotations);
}

constexpr json::Field<ContainerRecord> kFields[] = {
    {"id", json::into<&ContainerRecord::id>},
    {"init_process_pid", json::into<&ContainerRecord::pid>},
    {"init_process_start", json::into<&ContainerRecord::start_time>},
    {"created", json::into<&ContainerRecord::created>},
    {"bundle", json::into<&ContainerRecord::bundle>},
    {"rootfs", json::into<&ContainerRecord::rootfs>},
    {"phase", read_phase},
    {"private_pid_ns", json::into<&ContainerRecord::private_pid_ns>},
    {"notify_socket", json::into<&ContainerRecord::notify_socket>},
    {"create_runtime_begun", json::into<&ContainerRecord::create_runtime_begun>},
    {"cgroup_reused", json::into<&ContainerRecord::cgroup_reused>},
    {"supervisor_socket", json::into<&ContainerRecord::supervisor_socket>},
    {"state_dir", json::into<&ContainerRecord::state_dir>},
    {"supervised_run", json::into<&ContainerRecord::supervised_run>},
    {"cgroup_mode", json::into<&ContainerRecord::cgroup_mode>},
    {"cgroup_paths", read_cgroups},
    {"namespace_paths", read_namespaces},
    {"annotations", read_annotations},
};

}  // namespace

std::string encode_record(const ContainerRecord& record, std::string_view boot_id) {
  json::Writer out;
  write_record(out, record);
  return seal_json(out.take(), boot_id);
}

std::string encode_claims(const std::vector<CgroupClaim>& claims, std::string_view boot_id) {
  std::string bytes;
  for (const CgroupClaim& claim : claims) bytes += cat(boot_id, " ", claim.inode, " ", claim.path, "\n");
  return bytes;
}

std::vector<CgroupClaim> decode_claims(std::string_view bytes, std::string_view boot_id) {
  std::vector<CgroupClaim> claims;
  bytes = bytes.substr(0, bytes.rfind('\n') + 1);  // a line without its end is not whole
  for (const std::string_view line : split(bytes, '\n')) {
    const auto boot_end = line.find(' ');
    if (boot_end == std::string_view::npos || line.substr(0, boot_end) != boot_id) continue;
    const auto inode_end = line.find(' ', boot_end + 1);
    if (inode_end == std::string_view::npos) continue;
    const auto inode = parse_number<uint64_t>(line.substr(boot_end + 1, inode_end - boot_end - 1));
    if (inode) claims.push_back({std::string(line.substr(inode_end + 1)), *inode});
  }
  return claims;
}

LoadedRecord decode_record(std::string_view bytes, std::string_view id, std::string_view boot_id) {
  LoadedRecord loaded;
  loaded.health = seal_is_intact(bytes, boot_id) ? RecordHealth::kGood : RecordHealth::kCrashed;
  auto document = json::Document::parse(bytes, "state.json");
  if (!document || !json::read_fields(document->root(), kFields, loaded.record)) {
    loaded.record = {};
    loaded.health = RecordHealth::kCrashed;
  }
  // A file that claims to be another container's, or names an impossible pid, is not this container's record.
  if (loaded.record.id != id || loaded.record.pid < 0 || loaded.record.pid == 1) loaded.health = RecordHealth::kCrashed;
  loaded.record.id = id;
  return loaded;
}

}  // namespace gantry
