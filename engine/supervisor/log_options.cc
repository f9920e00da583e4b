#include "engine/supervisor/log_options.h"

#include <array>
#include <optional>
#include <utility>

#include "sys/text.h"

namespace gantry {

namespace {

constexpr std::array<std::pair<std::string_view, LogDriver>, 3> kDrivers{
    {{"cri", LogDriver::kCri}, {"json", LogDriver::kJson}, {"none", LogDriver::kNone}}};

std::optional<uint64_t> parse_size(std::string_view text) {
  unsigned shift = 0;
  if (!text.empty()) {
    switch (text.back()) {
      case 'k':
      case 'K':
        shift = 10;
        break;
      case 'm':
      case 'M':
        shift = 20;
        break;
      case 'g':
      case 'G':
        shift = 30;
        break;
      default:
        break;
    }
  }
  if (shift != 0) text.remove_suffix(1);
  const std::optional<uint64_t> number = parse_number<uint64_t>(text);
  constexpr uint64_t kMost = uint64_t{1} << 62U;
  if (!number || *number > (kMost >> shift)) return std::nullopt;
  return *number << shift;
}

std::unexpected<Error> bad(std::string_view name, std::string_view value, std::string_view wanted) {
  return fail(cat("--log: ", name, "=", value, ": must be ", wanted));
}

Result<> read_option(std::string_view name, std::string_view value, LogOptions& out) {
  if (name == "size") {
    const std::optional<uint64_t> size = parse_size(value);
    if (!size) return bad(name, value, "a number of bytes, with k, m or g behind it if you like; 0 is no limit");
    out.max_size = *size;
  } else if (name == "files") {
    const std::optional<unsigned> files = parse_number<unsigned>(value);
    if (!files || *files < 1 || *files > kMaxLogFiles) return bad(name, value, cat("1 to ", kMaxLogFiles));
    out.max_files = *files;
  } else if (name == "full") {
    if (value != "block" && value != "drop") return bad(name, value, "block or drop");
    out.on_full = value == "drop" ? OnFull::kDrop : OnFull::kBlock;
  } else if (name == "path") {
    if (!value.starts_with('/') || value.ends_with('/') || value.find('\0') != value.npos)
      return bad(name, value, "an absolute path of a file");
    out.path = value;
  } else {
    return fail(cat("--log: unknown option \"", name, "\": there are size=, files=, full= and path="));
  }
  return {};
}

}  // namespace

Result<LogOptions> parse_log_options(std::string_view text) {
  LogOptions out;
  if (text.empty()) return out;
  const std::string_view driver = text.substr(0, text.find(','));
  bool known = false;
  for (const auto& [name, value] : kDrivers) {
    if (name != driver) continue;
    out.driver = value;
    known = true;
  }
  if (!known) return fail(cat("--log: unknown format \"", driver, "\": must be cri, json or none"));
  text.remove_prefix(driver.size());
  while (!text.empty()) {
    text.remove_prefix(1);
    const bool rest = text.starts_with("path=");
    const std::string_view option = rest ? text : text.substr(0, text.find(','));
    const size_t equals = option.find('=');
    if (equals == option.npos) return fail(cat("--log: \"", option, "\": must be NAME=VALUE"));
    GANTRY_TRY(read_option(option.substr(0, equals), option.substr(equals + 1), out));
    text.remove_prefix(option.size());
  }
  return out;
}

std::string log_options_text(const LogOptions& options) {
  std::string out;
  for (const auto& [name, value] : kDrivers)
    if (value == options.driver) out = name;
  out += cat(",size=", options.max_size, ",files=", options.max_files,
             ",full=", options.on_full == OnFull::kDrop ? "drop" : "block");
  if (!options.path.empty()) out += cat(",path=", options.path);
  return out;
}

}  // namespace gantry
