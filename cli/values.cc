#include "cli/values.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <csignal>
#include <limits>
#include <utility>

#include "engine/go_quote.h"
#include "sys/text.h"

namespace gantry::cli {

namespace {

std::string upper(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

constexpr std::array<std::pair<std::string_view, int>, 35> kSignals{{
    {"ABRT", SIGABRT}, {"ALRM", SIGALRM},     {"BUS", SIGBUS},     {"CHLD", SIGCHLD}, {"CLD", SIGCHLD},
    {"CONT", SIGCONT}, {"FPE", SIGFPE},       {"HUP", SIGHUP},     {"ILL", SIGILL},   {"INT", SIGINT},
    {"IO", SIGIO},     {"IOT", SIGIOT},       {"KILL", SIGKILL},   {"PIPE", SIGPIPE}, {"POLL", SIGPOLL},
    {"PROF", SIGPROF}, {"PWR", SIGPWR},       {"QUIT", SIGQUIT},   {"SEGV", SIGSEGV}, {"STKFLT", SIGSTKFLT},
    {"STOP", SIGSTOP}, {"SYS", SIGSYS},       {"TERM", SIGTERM},   {"TRAP", SIGTRAP}, {"TSTP", SIGTSTP},
    {"TTIN", SIGTTIN}, {"TTOU", SIGTTOU},     {"UNUSED", SIGSYS},  {"URG", SIGURG},   {"USR1", SIGUSR1},
    {"USR2", SIGUSR2}, {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ},
}};

// The C library keeps the kernel's first two real-time signals for itself; RTMIN means what kill(1) means.
std::optional<int> real_time_signal(std::string_view name) {
  const bool from_min = name.starts_with("RTMIN");
  if (!from_min && !name.starts_with("RTMAX")) return std::nullopt;
  const int base = from_min ? SIGRTMIN : SIGRTMAX;
  name.remove_prefix(5);
  if (name.empty()) return base;
  if (name[0] != (from_min ? '+' : '-')) return std::nullopt;
  const auto distance = parse_number<unsigned>(name.substr(1));
  if (!distance || *distance > static_cast<unsigned>(SIGRTMAX - SIGRTMIN)) return std::nullopt;
  return from_min ? base + static_cast<int>(*distance) : base - static_cast<int>(*distance);
}

std::string_view without_plus(std::string_view text) {
  if (text.starts_with('+') && text.size() > 1 && text[1] != '-') text.remove_prefix(1);
  return text;
}

template <class T>
Result<T> number(std::string_view function, std::string_view text, bool signs) {
  const std::string_view digits = signs ? without_plus(text) : text;
  T value{};
  const auto [end, err] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  const bool whole = end == digits.data() + digits.size() && !digits.empty();
  if (err == std::errc() && whole) return value;
  const std::string_view why = err == std::errc::result_out_of_range && whole ? "value out of range" : "invalid syntax";
  return fail(cat("strconv.", function, ": parsing ", go_quote(text), ": ", why));
}

Result<uint32_t> parse_id(std::string_view what, std::string_view text) {
  auto value = number<int64_t>("Atoi", text, true);
  if (!value) return forward(std::move(value), what);
  constexpr int64_t kLast = std::numeric_limits<uint32_t>::max() - 1;
  if (*value < 0 || *value > kLast) return fail(cat(what, ": ", *value, " is not in 0..", kLast));
  return static_cast<uint32_t>(*value);
}

}  // namespace

Result<int> parse_signal(std::string_view text) {
  if (text.empty()) return SIGTERM;
  if (const auto signo = parse_number<int>(without_plus(text))) return *signo;
  const std::string whole = upper(text);
  std::string_view name = whole;
  if (name.starts_with("SIG")) name.remove_prefix(3);
  for (const auto& [known, signo] : kSignals)
    if (known == name) return signo;
  if (const auto signo = real_time_signal(name)) return *signo;
  return fail(cat("unknown signal ", go_quote(text)));
}

Result<UserArg> parse_user(std::string_view text) {
  UserArg user;
  const auto colon = text.find(':');
  if (colon != std::string_view::npos) {
    GANTRY_LET(user.gid, parse_id("bad gid", text.substr(colon + 1)));
  }
  GANTRY_LET(user.uid, parse_id("bad uid", text.substr(0, colon)));
  return user;
}

Result<int64_t> parse_size(std::string_view text) {
  if (text == "-1") return -1;
  const auto invalid = [&] { return fail(cat("invalid size: '", text, "'")); };
  const auto last_digit = text.find_last_of("0123456789. ");
  if (last_digit == std::string_view::npos) return invalid();
  const bool space = text[last_digit] == ' ';
  const std::string_view digits = text.substr(0, last_digit + (space ? 0 : 1));
  std::string unit = upper(text.substr(last_digit + 1));
  double size = 0;
  const auto [end, err] = std::from_chars(digits.data(), digits.data() + digits.size(), size, std::chars_format::fixed);
  if (err != std::errc() || end != digits.data() + digits.size() || !(size >= 0)) return invalid();
  constexpr std::string_view kUnits = "KMGTP";
  if (!unit.empty() && unit != "B") {
    const auto power = kUnits.find(unit[0]);
    const std::string_view rest = std::string_view(unit).substr(1);
    if (power == std::string_view::npos || (!rest.empty() && rest != "B" && rest != "IB"))
      return fail(cat("invalid suffix: '", text.substr(last_digit + 1), "'"));
    size = std::ldexp(size, 10 * (static_cast<int>(power) + 1));
  }
  if (size >= static_cast<double>(std::numeric_limits<int64_t>::max())) return invalid();
  return static_cast<int64_t>(size);
}

Result<uint64_t> parse_uint(std::string_view text) {
  return number<uint64_t>("ParseUint", text, false);
}

Result<int64_t> parse_int(std::string_view text) {
  return number<int64_t>("ParseInt", text, true);
}

}  // namespace gantry::cli
