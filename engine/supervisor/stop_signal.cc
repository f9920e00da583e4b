#include "engine/supervisor/stop_signal.h"

#include <csignal>
#include <cstring>
#include <string_view>

#include "sys/text.h"

namespace gantry {
namespace {

constexpr std::string_view kAnnotation = "org.opencontainers.image.stopSignal";

/// "RTMIN+3", "RTMAX-1".
std::optional<int> real_time(std::string_view name) {
  const bool from_min = name.starts_with("RTMIN");
  if (!from_min && !name.starts_with("RTMAX")) return std::nullopt;
  const int base = from_min ? SIGRTMIN : SIGRTMAX;
  const std::string_view rest = name.substr(5);
  if (rest.empty()) return base;
  const auto offset = parse_number<int>(rest.substr(1));
  if (!offset || rest.front() != (from_min ? '+' : '-')) return std::nullopt;
  return from_min ? base + *offset : base - *offset;
}

std::optional<int> signal_number(std::string_view name) {
  if (const auto number = parse_number<int>(name)) return number;
  if (name.starts_with("SIG")) name.remove_prefix(3);
  if (const auto number = real_time(name)) return number;
  for (int signo = 1; signo < SIGRTMIN; ++signo) {
    const char* known = ::sigabbrev_np(signo);
    if (known != nullptr && name == known) return signo;
  }
  return std::nullopt;
}

}  // namespace

int stop_signal(const ContainerRecord& record) {
  const auto wanted = record.annotations.find(std::string(kAnnotation));
  if (wanted == record.annotations.end()) return SIGTERM;
  const auto signo = signal_number(wanted->second);
  return signo && *signo > 0 && *signo <= SIGRTMAX ? *signo : SIGTERM;
}

bool means_the_end(int signo, const ContainerRecord& record) {
  return signo == SIGKILL || signo == SIGTERM || signo == SIGINT || signo == SIGQUIT || signo == stop_signal(record);
}

}  // namespace gantry
