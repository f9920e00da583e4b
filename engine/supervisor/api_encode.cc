#include "engine/json_write.h"
#include "engine/supervisor/api.h"
#include "engine/supervisor/api_names.h"
#include "sys/text.h"

namespace gantry::api {
namespace {

/// Left free behind the entries of a list.
constexpr size_t kListEnd = 64;

void write_id(json::Writer& out, const std::string& id) {
  out.member("id", id);
}

void write(json::Writer& out, const Exit& exit) {
  out.begin_object();
  out.member("known", exit.known);
  out.member("code", exit.code);
  out.member("signal", exit.signal);
  out.member("at", exit.at);
  out.end_object();
}

void write(json::Writer& out, const Up& up) {
  write_id(out, up.id);
  out.member("bundle", up.bundle);
  out.member("rootfs", up.rootfs);
  out.member("restart", restart_policy_text(up.restart));
  out.member("log", up.log);
  out.member("netns", up.netns);
  if (!up.cgroups_path.empty()) out.member("cgroups_path", up.cgroups_path);
}

void write(json::Writer& out, const Wait& call) {
  write_id(out, call.id);
}

void write(json::Writer& out, const Stop& stop) {
  write_id(out, stop.id);
  if (stop.timeout_seconds) out.member("timeout_seconds", *stop.timeout_seconds);
}

void write(json::Writer& out, const Remove& call) {
  write_id(out, call.id);
  out.member("force", call.force);
  out.member("keep_log", call.keep_log);
}

void write(json::Writer& out, const Signal& call) {
  write_id(out, call.id);
  out.member("signo", call.signo);
  out.member("all", call.all);
}

void write(json::Writer& out, const Pause& call) {
  write_id(out, call.id);
}
void write(json::Writer& out, const Resume& call) {
  write_id(out, call.id);
}
void write(json::Writer& out, const ReopenLog& call) {
  write_id(out, call.id);
}
void write(json::Writer& out, const List& list) {
  out.member("after", list.after);
}
void write(json::Writer&, const Status&) {}
void write(json::Writer&, const Empty&) {}

void write(json::Writer& out, const UpReply& reply) {
  write_id(out, reply.id);
  out.member("pid", reply.pid);
}

void write(json::Writer& out, const WaitReply& reply) {
  write_id(out, reply.id);
  out.key("exit");
  write(out, reply.exit);
}

void write(json::Writer& out, const StatusReply& reply) {
  out.member("version", reply.version);
  out.member("root", reply.root);
  out.member("state_dir", reply.state_dir);
  out.member("supervisor_pid", reply.supervisor_pid);
  out.member("keeper_pid", reply.keeper_pid);
  out.member("containers", reply.containers);
  out.member("running", reply.running);
  out.member("starts", reply.starts);
}

std::string entry_text(const Entry& entry) {
  json::Writer out;
  out.begin_object();
  write_id(out, entry.id);
  out.member("bundle", entry.bundle);
  out.member("status", entry.status);
  out.member("restart", entry.restart);
  out.member("log_path", entry.log_path);
  out.member("created", entry.created);
  out.member("pid", entry.pid);
  out.member("restarts", entry.restarts);
  out.member("quarantined", entry.quarantined);
  if (entry.exit) {
    out.key("exit");
    write(out, *entry.exit);
  }
  out.end_object();
  return out.take();
}

/// Entry by entry, to see where the message is full.
std::string list_text(const ListReply& reply) {
  std::string text = R"({"parameters":{"containers":[)";
  bool more = reply.more;
  for (const Entry& entry : reply.containers) {
    const std::string next = entry_text(entry);
    if (text.size() + next.size() + kListEnd > kMaxMessage) {
      more = true;
      break;
    }
    if (text.back() != '[') text += ',';
    text += next;
  }
  return text += more ? R"(],"more":true}})" : R"(],"more":false}})";
}

}  // namespace

std::string_view method_name(const Call& call) {
  return kMethods[call.index()];
}

std::string encode_call(const Call& call) {
  json::Writer out;
  out.begin_object();
  out.member("method", cat(kInterface, ".", method_name(call)));
  out.key("parameters");
  out.begin_object();
  std::visit([&out](const auto& parameters) { write(out, parameters); }, call);
  out.end_object();
  out.end_object();
  return out.take();
}

std::string encode_reply(const Reply& reply) {
  if (const auto* list = std::get_if<ListReply>(&reply)) return list_text(*list);
  json::Writer out;
  out.begin_object();
  out.key("parameters");
  out.begin_object();
  const auto write_one = [&out](const auto& parameters) {
    if constexpr (!std::is_same_v<std::decay_t<decltype(parameters)>, ListReply>) write(out, parameters);
  };
  std::visit(write_one, reply);
  out.end_object();
  out.end_object();
  return out.take();
}

std::string encode_error(const Error& error) {
  constexpr size_t kLongestText = 64 * 1024;
  json::Writer out;
  out.begin_object();
  out.member("error", kFailed);
  out.key("parameters");
  out.begin_object();
  out.member("message", std::string_view(error.text).substr(0, kLongestText));
  out.member("errno", error.sys_errno);
  out.end_object();
  out.end_object();
  return out.take();
}

}  // namespace gantry::api
