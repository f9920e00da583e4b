#include <span>
#include <utility>

#include "engine/json.h"
#include "engine/supervisor/api.h"
#include "engine/supervisor/api_names.h"
#include "sys/text.h"

namespace gantry::api {
namespace {

using json::Field;
using json::into;
using json::Value;

constexpr int kLargestErrno = 4095;  // MAX_ERRNO of the kernel

Result<> read_restart(const Value& value, Up& up) {
  GANTRY_LET(const std::string_view text, value.string());
  auto policy = parse_restart_policy(text);
  if (!policy) return value.fail(policy.error().text);
  up.restart = *policy;
  return {};
}

constexpr Field<Exit> kExitFields[] = {
    {"known", into<&Exit::known>},
    {"code", into<&Exit::code>},
    {"signal", into<&Exit::signal>},
    {"at", into<&Exit::at>},
};
Result<> read(const Value& value, Exit& exit) {
  return json::read_fields(value, kExitFields, exit);
}

constexpr Field<Entry> kEntryFields[] = {
    {"id", into<&Entry::id>},
    {"bundle", into<&Entry::bundle>},
    {"status", into<&Entry::status>},
    {"restart", into<&Entry::restart>},
    {"log_path", into<&Entry::log_path>},
    {"created", into<&Entry::created>},
    {"pid", into<&Entry::pid>},
    {"restarts", into<&Entry::restarts>},
    {"quarantined", into<&Entry::quarantined>},
    {"exit", [](const Value& value, Entry& entry) { return read(value, entry.exit.emplace()); }},
};

Result<> read_containers(const Value& value, ListReply& reply) {
  GANTRY_LET(const size_t size, value.array_size());
  if (size > json::kMaxRecords) return value.too_many();
  return value.each_item([&reply](const Value& item) -> Result<> {
    return json::read_fields(item, kEntryFields, reply.containers.emplace_back());
  });
}

/// What a method takes and a reply has. The first kRequired of them must be there.
template <class T>
struct Parameters;

/// Those that take an id and nothing else.
template <class T>
struct OnlyId {
  static constexpr size_t kRequired = 1;
  static constexpr Field<T> kFields[] = {{"id", into<&T::id>}};
};
template <>
struct Parameters<Wait> : OnlyId<Wait> {};
template <>
struct Parameters<Pause> : OnlyId<Pause> {};
template <>
struct Parameters<Resume> : OnlyId<Resume> {};
template <>
struct Parameters<ReopenLog> : OnlyId<ReopenLog> {};

template <class T>
struct Nothing {
  static constexpr size_t kRequired = 0;
};
template <>
struct Parameters<Status> : Nothing<Status> {};
template <>
struct Parameters<Empty> : Nothing<Empty> {};

template <>
struct Parameters<Up> {
  static constexpr size_t kRequired = 3;
  static constexpr Field<Up> kFields[] = {
      {"id", into<&Up::id>},
      {"bundle", into<&Up::bundle>},
      {"rootfs", into<&Up::rootfs>},
      {"restart", read_restart},
      {"log", into<&Up::log>},
      {"netns", into<&Up::netns>},
      {"cgroups_path", into<&Up::cgroups_path>},
  };
};
template <>
struct Parameters<Stop> {
  static constexpr size_t kRequired = 1;
  static constexpr Field<Stop> kFields[] = {
      {"id", into<&Stop::id>},
      {"timeout_seconds", into<&Stop::timeout_seconds>},
  };
};
template <>
struct Parameters<Remove> {
  static constexpr size_t kRequired = 1;
  static constexpr Field<Remove> kFields[] = {
      {"id", into<&Remove::id>},
      {"force", into<&Remove::force>},
      {"keep_log", into<&Remove::keep_log>},
  };
};
template <>
struct Parameters<Signal> {
  static constexpr size_t kRequired = 2;
  static constexpr Field<Signal> kFields[] = {
      {"id", into<&Signal::id>},
      {"signo", into<&Signal::signo>},
      {"all", into<&Signal::all>},
  };
};
template <>
struct Parameters<List> {
  static constexpr size_t kRequired = 0;
  static constexpr Field<List> kFields[] = {{"after", into<&List::after>}};
};
template <>
struct Parameters<UpReply> {
  static constexpr size_t kRequired = 2;
  static constexpr Field<UpReply> kFields[] = {{"id", into<&UpReply::id>}, {"pid", into<&UpReply::pid>}};
};
template <>
struct Parameters<WaitReply> {
  static constexpr size_t kRequired = 2;
  static constexpr Field<WaitReply> kFields[] = {
      {"id", into<&WaitReply::id>},
      {"exit", [](const Value& value, WaitReply& reply) { return read(value, reply.exit); }},
  };
};
template <>
struct Parameters<ListReply> {
  static constexpr size_t kRequired = 1;
  static constexpr Field<ListReply> kFields[] = {
      {"containers", read_containers},
      {"more", into<&ListReply::more>},
  };
};
template <>
struct Parameters<StatusReply> {
  static constexpr size_t kRequired = 0;
  static constexpr Field<StatusReply> kFields[] = {
      {"version", into<&StatusReply::version>},       {"root", into<&StatusReply::root>},
      {"state_dir", into<&StatusReply::state_dir>},   {"supervisor_pid", into<&StatusReply::supervisor_pid>},
      {"keeper_pid", into<&StatusReply::keeper_pid>}, {"containers", into<&StatusReply::containers>},
      {"running", into<&StatusReply::running>},       {"starts", into<&StatusReply::starts>},
  };
};

/// Absent parameters are empty ones.
template <class T>
Result<> read_parameters(const Value& value, T& out) {
  using Of = Parameters<T>;
  if (value.present() && value.kind() != json::Kind::kObject) return value.fail("must be an object");
  if constexpr (requires { Of::kFields; }) {
    for (const auto& field : std::span(Of::kFields).first(Of::kRequired)) {
      if (value.present() && value.has(field.name)) continue;
      return gantry::fail(cat(value.place().text(), ".", field.name, " is missing"));
    }
    if (value.present()) return json::read_fields(value, Of::kFields, out);
  }
  return {};
}

struct Envelope {
  Value name;  ///< of the method, or of the error
  Value parameters;
};

/// The two members of a message. `places` keep the values' names and must outlive them.
Result<Envelope> open(const Value& root, std::string_view name, const json::Place& name_place,
                      const json::Place& parameters_place) {
  if (root.kind() != json::Kind::kObject) return root.fail("must be an object");
  const std::array<std::string_view, 2> names{name, "parameters"};
  std::array<Value, 2> found;
  GANTRY_TRY(root.pick(names, found));
  return Envelope{found[0].at(name_place), found[1].at(parameters_place)};
}

template <class Variant, size_t kIndex>
Result<Variant> read_alternative(const Value& parameters) {
  Variant out(std::in_place_index<kIndex>);
  GANTRY_TRY(read_parameters(parameters, std::get<kIndex>(out)));
  return out;
}

template <class Variant, size_t... kIndex>
Result<Variant> read_indexed(const Value& parameters, size_t index, std::index_sequence<kIndex...>) {
  constexpr Result<Variant> (*kReaders[])(const Value&) = {&read_alternative<Variant, kIndex>...};
  return kReaders[index](parameters);
}

template <class Variant>
Result<Variant> read_variant(const Value& parameters, size_t index) {
  return read_indexed<Variant>(parameters, index, std::make_index_sequence<std::variant_size_v<Variant>>());
}

/// The index of a method "gantry.supervisor.NAME".
Result<size_t> method_index(const Value& value) {
  if (!value.present()) return fail(cat(value.place().text(), " is missing"));
  GANTRY_LET(const std::string_view whole, value.string());
  std::string_view name = whole;
  if (name.starts_with(kInterface)) {
    name.remove_prefix(kInterface.size());
    for (size_t i = 0; i < kMethods.size(); ++i)
      if (name.size() == kMethods[i].size() + 1 && name.front() == '.' && name.ends_with(kMethods[i])) return i;
  }
  return value.fail(cat("no such method: ", json::quoted(whole)));
}

/// The Error in an error answer.
Error answered_error(std::string_view name, const Value& parameters) {
  Error error{cat("the supervisor answered ", json::one_line(name)), 0};
  if (parameters.kind() != json::Kind::kObject) return error;
  const std::array<std::string_view, 2> names{"message", "errno"};
  std::array<Value, 2> found;
  if (!parameters.pick(names, found)) return error;
  if (found[0].present()) {
    if (auto text = found[0].string()) error.text.assign(*text);
  }
  if (found[1].present()) {
    if (auto number = found[1].integer(0, kLargestErrno)) error.sys_errno = static_cast<int>(*number);
  }
  return error;
}

Result<> check_size(std::string_view message) {
  if (message.size() < kMaxMessage) return {};
  return fail(cat("message: ", message.size(), " bytes; at most ", kMaxMessage, " are accepted"));
}

}  // namespace

size_t reply_index(const Call& call) {
  if (std::holds_alternative<Up>(call)) return 1;
  if (std::holds_alternative<Wait>(call)) return 2;
  if (std::holds_alternative<List>(call)) return 3;
  if (std::holds_alternative<Status>(call)) return 4;
  return 0;
}

Result<Call> decode_call(std::string_view message) {
  GANTRY_TRY(check_size(message));
  GANTRY_LET(const json::Document document, json::Document::parse(message, "call"));
  const Value root = document.root();
  const json::Place method(&root.place(), "method");
  const json::Place parameters(&root.place(), "parameters");
  GANTRY_LET(const Envelope envelope, open(root, "method", method, parameters));
  GANTRY_LET(const size_t index, method_index(envelope.name));
  return read_variant<Call>(envelope.parameters, index);
}

Result<Reply> decode_reply(std::string_view message, size_t reply_index) {
  GANTRY_TRY(check_size(message));
  if (reply_index >= std::variant_size_v<Reply>) return fail(cat("reply: no reply has the index ", reply_index));
  GANTRY_LET(const json::Document document, json::Document::parse(message, "reply"));
  const Value root = document.root();
  const json::Place error(&root.place(), "error");
  const json::Place parameters(&root.place(), "parameters");
  GANTRY_LET(const Envelope envelope, open(root, "error", error, parameters));
  if (!envelope.name.present()) return read_variant<Reply>(envelope.parameters, reply_index);
  GANTRY_LET(const std::string_view name, envelope.name.string());
  return std::unexpected(answered_error(name, envelope.parameters));
}

}  // namespace gantry::api
