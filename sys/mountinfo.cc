#include "sys/mountinfo.h"

#include <algorithm>
#include <optional>

#include "sys/text.h"

namespace gantry::sys {

namespace {

/// The kernel writes space, tab, newline, backslash and '#' as \ooo (seq_escape); any other backslash stays.
bool unescape(std::string_view field, std::string& out) {
  out.clear();
  out.reserve(field.size());
  for (size_t i = 0; i < field.size(); ++i) {
    char c = field[i];
    if (c == '\\' && field.size() - i > 3) {
      const auto code = parse_number<unsigned>(field.substr(i + 1, 3), 8);
      if (code && *code < 256) {
        c = static_cast<char>(*code);
        i += 3;
      }
    }
    if (c == '\0') return false;
    out.push_back(c);
  }
  return true;
}

/// Takes the text up to the next space; nullopt at the end of the line.
std::optional<std::string_view> next_field(std::string_view& line) {
  if (line.empty()) return std::nullopt;
  const auto end = line.find(' ');
  const std::string_view field = line.substr(0, end);
  line.remove_prefix(end == std::string_view::npos ? line.size() : end + 1);
  return field;
}

bool parse_device(std::string_view field, MountEntry& entry) {
  const auto colon = field.find(':');
  if (colon == std::string_view::npos) return false;
  const auto major = parse_number<uint32_t>(field.substr(0, colon));
  const auto minor = parse_number<uint32_t>(field.substr(colon + 1));
  if (!major || !minor) return false;
  entry.major = *major;
  entry.minor = *minor;
  return true;
}

/// Null, or what is wrong with the line.
const char* parse_line(std::string_view line, MountEntry& entry) {
  const auto id = next_field(line), parent = next_field(line), device = next_field(line);
  const auto root = next_field(line), mountpoint = next_field(line), options = next_field(line);
  if (!options) return "fewer than 6 fields";
  const auto id_number = parse_number<uint64_t>(*id), parent_number = parse_number<uint64_t>(*parent);
  if (!id_number || !parent_number) return "mount id is not a number";
  entry.id = *id_number;
  entry.parent = *parent_number;
  if (!parse_device(*device, entry)) return "device is not MAJOR:MINOR";
  for (;;) {
    const auto field = next_field(line);
    if (!field) return "no \"-\" after the optional fields";
    if (*field == "-") break;
    if (field->find('\0') != std::string_view::npos) return "NUL byte";
    if (!entry.optional.empty()) entry.optional.push_back(' ');
    entry.optional.append(*field);
  }
  const auto type = next_field(line), source = next_field(line);
  if (!source) return "no file system type or source";
  // A file system may print blanks in its options unescaped: all that is left is theirs.
  const bool clean = unescape(*root, entry.root) && unescape(*mountpoint, entry.mountpoint) &&
                     unescape(*options, entry.options) && unescape(*type, entry.fs_type) &&
                     unescape(*source, entry.source) && unescape(line, entry.super_options);
  return clean ? nullptr : "NUL byte";
}

}  // namespace

Result<std::vector<MountEntry>> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> entries;
  for (size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (entries.size() == kMaxMounts) return fail(cat("mountinfo: more than ", kMaxMounts, " mounts"));
    MountEntry entry;
    if (const char* const wrong = parse_line(line, entry); wrong != nullptr) {
      return fail(cat("mountinfo: line ", number, ": ", wrong));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

bool has_mount_option(std::string_view options, std::string_view option) {
  const auto parts = split(options, ',');
  return std::find(parts.begin(), parts.end(), option) != parts.end();
}

}  // namespace gantry::sys
