#include "cli/output.h"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "engine/json_write.h"
#include "engine/lifecycle.h"
#include "engine/spec_template.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

void write_view(json::Writer& json, const ContainerView& view, std::string_view owner) {
  json.begin_object()
      .member("ociVersion", kSpecVersion)
      .member("id", view.record.id)
      .member("pid", view.pid)
      .member("status", status_name(view.status))
      .member("bundle", view.record.bundle)
      .member("rootfs", view.record.rootfs)
      .member("created", view.record.created);
  if (!view.record.annotations.empty()) {
    json.key("annotations").begin_object();
    for (const auto& [name, value] : view.record.annotations) json.member(name, value);
    json.end_object();
  }
  json.member("owner", owner).end_object();
}

// Go's tabwriter counts characters, not bytes.
size_t characters(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> found;
  constexpr std::string_view kBlank = " \t\r\v\f";
  for (;;) {
    const auto start = line.find_first_not_of(kBlank);
    if (start == std::string_view::npos) return found;
    line.remove_prefix(start);
    const auto end = std::min(line.find_first_of(kBlank), line.size());
    found.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

}  // namespace

Result<> print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "write /dev/stdout");
    text.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

std::string state_json(const ContainerView& view) {
  json::Writer json(json::Writer::Layout::kTwoSpaces);
  write_view(json, view, "");
  return json.take();
}

std::string list_json(const std::vector<ContainerView>& views) {
  if (views.empty()) return "null\n";
  json::Writer json;
  json.begin_array();
  for (const ContainerView& view : views) write_view(json, view, view.owner);
  json.end_array();
  return json.take() + "\n";
}

std::string list_table(const std::vector<ContainerView>& views) {
  constexpr size_t kColumns = 6, kMinWidth = 12, kPadding = 3;
  using Row = std::array<std::string, kColumns>;
  std::vector<Row> rows{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const ContainerView& view : views)
    rows.push_back({view.record.id, std::to_string(view.pid), std::string(status_name(view.status)), view.record.bundle,
                    view.record.created, view.owner});
  std::array<size_t, kColumns> widths{};
  for (size_t column = 0; column < kColumns; ++column) {
    widths[column] = kMinWidth;
    for (const Row& row : rows) widths[column] = std::max(widths[column], characters(row[column]) + kPadding);
  }
  std::string out;
  for (const Row& row : rows) {
    for (size_t column = 0; column + 1 < kColumns; ++column)
      out += row[column] + std::string(widths[column] - characters(row[column]), ' ');
    out += row.back() + "\n";
  }
  return out;
}

std::string list_ids(const std::vector<ContainerView>& views) {
  std::string out;
  for (const ContainerView& view : views) out += view.record.id + "\n";
  return out;
}

std::string pids_json(const std::vector<pid_t>& pids) {
  if (pids.empty()) return "null\n";
  json::Writer json;
  json.begin_array();
  for (const pid_t pid : pids) json.value(pid);
  json.end_array();
  return json.take() + "\n";
}

Result<std::string> filter_ps(std::string_view ps_output, const std::vector<pid_t>& pids) {
  const auto lines = split(ps_output, '\n');
  const auto titles = words(lines.front());
  const auto column = static_cast<size_t>(std::ranges::find(titles, "PID") - titles.begin());
  if (column == titles.size()) return fail("couldn't find PID field in ps output");
  std::string out = cat(lines.front(), "\n");
  for (size_t i = 1; i < lines.size(); ++i) {
    const auto fields = words(lines[i]);
    if (fields.empty()) continue;
    const auto pid = column < fields.size() ? parse_number<pid_t>(fields[column]) : std::nullopt;
    if (!pid) return fail(cat("unable to parse pid: unexpected line of ps: ", lines[i]));
    if (std::ranges::find(pids, *pid) != pids.end()) out += cat(lines[i], "\n");
  }
  return out;
}

}  // namespace gantry::cli
