#include "engine/spec_parse.h"

#include <algorithm>

#include "engine/json.h"
#include "engine/mount_options.h"
#include "engine/spec_read.h"
#include "sys/text.h"

namespace gantry {

using json::Field;
using json::into;
using json::Value;

Result<> read_map(const Value& value, std::map<std::string, std::string>& out) {
  out.clear();
  return value.each_member([&out](std::string_view key, const Value& member) -> Result<> {
    if (out.size() >= json::kMaxRecords) return member.too_many();
    std::string& text = out[std::string(key)];
    text.clear();
    return member.present() ? json::read(member, text) : Result<>{};
  });
}

Result<> read_pairs(const Value& value, std::vector<std::pair<std::string, std::string>>& out) {
  std::map<std::string_view, size_t> seen;
  out.clear();
  return value.each_member([&](std::string_view key, const Value& member) -> Result<> {
    if (out.size() >= json::kMaxRecords) return member.too_many();
    const auto [place, added] = seen.try_emplace(key, out.size());
    if (added) out.emplace_back(key, std::string());
    std::string& text = out[place->second].second;
    text.clear();
    return member.present() ? json::read(member, text) : Result<>{};
  });
}

Result<> read(const Value& value, IdMapping& out) {
  static constexpr Field<IdMapping> kFields[] = {
      {"containerID", into<&IdMapping::container_id>},
      {"hostID", into<&IdMapping::host_id>},
      {"size", into<&IdMapping::size>},
  };
  return json::read_fields(value, kFields, out);
}

namespace {

/// A text of a mount; runc has its own words for a NUL byte there (MT-03).
template <std::string Mount::* kMember>
Result<> mount_text(const Value& value, Mount& out) {
  GANTRY_LET(const std::string_view text, value.string("mount field contains null byte"));
  (out.*kMember).assign(text);
  return {};
}

Result<> mount_option_list(const Value& value, Mount& out) {
  return value.each_item([&out](const Value& item) -> Result<> {
    if (!item.present()) return {};
    GANTRY_LET(const std::string_view option, item.string("mount field contains null byte"));
    if (auto applied = apply_mount_option(option, out); !applied) {
      return item.fail(cat(json::quoted(option), ' ', applied.error().text));
    }
    return {};
  });
}

}  // namespace

Result<> read(const Value& value, Mount& out) {
  static constexpr Field<Mount> kFields[] = {
      {"destination", mount_text<&Mount::destination>},
      {"source", mount_text<&Mount::source>},
      {"type", mount_text<&Mount::type>},
      {"options", mount_option_list},
      {"uidMappings", into<&Mount::uid_mappings>},
      {"gidMappings", into<&Mount::gid_mappings>},
  };
  GANTRY_TRY(json::read_fields(value, kFields, out));
  // The kernel has no type "bind": the word alone can only mean one (MT-04).
  if (out.type == "bind") out.bind = true;
  if (!out.uid_mappings.empty() || !out.gid_mappings.empty()) out.idmap = true;
  return {};
}

Result<> read(const Value& value, Hook& out) {
  static constexpr Field<Hook> kFields[] = {
      {"path", into<&Hook::path>},
      {"args", into<&Hook::args>},
      {"env", into<&Hook::env>},
      {"timeout", into<&Hook::timeout_seconds>},
  };
  return json::read_fields(value, kFields, out);
}

namespace {

Result<> read_hooks(const Value& value, Spec& out) {
  static constexpr Field<Hooks> kFields[] = {
      {"prestart", into<&Hooks::prestart>},
      {"createRuntime", into<&Hooks::create_runtime>},
      {"createContainer", into<&Hooks::create_container>},
      {"startContainer", into<&Hooks::start_container>},
      {"poststart", into<&Hooks::poststart>},
      {"poststop", into<&Hooks::poststop>},
  };
  return json::read_fields(value, kFields, out.hooks);
}

Result<> read_root(const Value& value, Spec& out) {
  static constexpr Field<Spec> kFields[] = {
      {"path", into<&Spec::root_path>},
      {"readonly", into<&Spec::root_readonly>},
  };
  GANTRY_TRY(json::read_fields(value, kFields, out));
  out.has_root = true;
  return {};
}

Result<> read_mounts(const Value& value, Spec& out) {
  GANTRY_TRY(json::read(value, out.mounts));
  for (size_t i = 0; i < out.mounts.size(); ++i) {
    std::string& destination = out.mounts[i].destination;
    if (destination.empty() || destination.front() == '/') continue;
    out.parse_warnings.push_back(cat("mounts[", i, "].destination: ", json::quoted(destination),
                                     " is relative and taken as relative to /; this is deprecated"));
    destination.insert(destination.begin(), '/');
  }
  return {};
}

Result<> read_annotations(const Value& value, Spec& out) {
  return read_map(value, out.annotations);
}

constexpr Field<Spec> kSpecFields[] = {
    {"ociVersion", into<&Spec::oci_version>},
    {"process", into<&Spec::process>},
    {"root", read_root},
    {"hostname", into<&Spec::hostname>},
    {"domainname", into<&Spec::domainname>},
    {"mounts", read_mounts},
    {"hooks", read_hooks},
    {"annotations", read_annotations},
    {"linux", read_linux},
    {"vm", json::refused<Spec>},
};

template <class T>
Result<T> parse_bare(std::string_view bytes, std::string_view name) {
  GANTRY_LET(const json::Document document, json::Document::parse(bytes, name));
  T out;
  GANTRY_TRY(read(document.root(), out));
  return out;
}

}  // namespace

Result<Spec> parse_spec(std::string_view json) {
  GANTRY_LET(const json::Document document, json::Document::parse(json, "config.json"));
  const Value root = document.root();
  if (!root.present()) return root.fail("config cannot be null");
  Spec spec;
  GANTRY_TRY(json::read_fields(root, kSpecFields, spec));
  return spec;
}

Result<Process> parse_process(std::string_view json) {
  return parse_bare<Process>(json, "process");
}

Result<Resources> parse_resources(std::string_view json) {
  return parse_bare<Resources>(json, "resources");
}

}  // namespace gantry
