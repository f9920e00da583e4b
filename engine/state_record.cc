// The bytes of state.json. The last member, "integrity", covers everything before it.
#include <array>
#include <cstdio>

#include "engine/json.h"
#include "engine/json_write.h"
#include "engine/state_store.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::string_view kIntegrity = ",\"integrity\":\"";

/// CRC-32 (IEEE 802.3), bitwise: a state file has 2 KB.
uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

std::string hex(uint32_t value) {
  std::array<char, 9> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x", value);
  return digits.data();
}

void write_record(json::Writer& out, const ContainerRecord& record) {
  out.begin_object();
  out.member("id", record.id);
  out.member("init_process_pid", static_cast<int64_t>(record.pid));
  out.member("init_process_start", record.start_time);
  out.member("created", record.created);
  out.member("oci_version", record.oci_version);
  out.member("bundle", record.bundle);
  out.member("rootfs", record.rootfs);
  out.member("phase", record.phase == Phase::kCommitted ? "committed" : "intent");
  out.member("private_pid_ns", record.private_pid_ns);
  out.member("notify_socket", record.notify_socket);
  out.member("create_runtime_begun", record.create_runtime_begun);
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
    {"oci_version", json::into<&ContainerRecord::oci_version>},
    {"bundle", json::into<&ContainerRecord::bundle>},
    {"rootfs", json::into<&ContainerRecord::rootfs>},
    {"phase", read_phase},
    {"private_pid_ns", json::into<&ContainerRecord::private_pid_ns>},
    {"notify_socket", json::into<&ContainerRecord::notify_socket>},
    {"create_runtime_begun", json::into<&ContainerRecord::create_runtime_begun>},
    {"cgroup_mode", json::into<&ContainerRecord::cgroup_mode>},
    {"cgroup_paths", read_cgroups},
    {"namespace_paths", read_namespaces},
    {"annotations", read_annotations},
};

/// Splits the trailer off: the covered text, and whether length, CRC and boot id fit.
bool intact(std::string_view bytes, std::string_view boot_id) {
  const auto at = bytes.rfind(kIntegrity);
  if (at == std::string_view::npos) return false;
  auto trailer = bytes.substr(at + kIntegrity.size());
  const auto end = trailer.find('"');
  if (end == std::string_view::npos || trim(trailer.substr(end + 1)) != "}") return false;
  const auto parts = split(trailer.substr(0, end), ':');
  if (parts.size() != 3) return false;
  if (parts[0] != cat(at) || parts[1] != hex(crc32(bytes.substr(0, at)))) return false;
  return boot_id.empty() || parts[2] == boot_id;
}

}  // namespace

std::string encode_record(const ContainerRecord& record, std::string_view boot_id) {
  json::Writer out;
  write_record(out, record);
  std::string bytes = out.take();
  bytes.pop_back();  // the closing brace comes after the trailer
  const std::string trailer = cat(bytes.size(), ":", hex(crc32(bytes)), ":", boot_id);
  return bytes.append(kIntegrity).append(trailer).append("\"}\n");
}

LoadedRecord decode_record(std::string_view bytes, std::string_view id, std::string_view boot_id) {
  LoadedRecord loaded;
  loaded.health = intact(bytes, boot_id) ? RecordHealth::kGood : RecordHealth::kCrashed;
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
