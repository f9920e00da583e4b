#include "sys/capability.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "sys/init/capability_names.h"

namespace gantry::sys {

namespace {

constexpr std::string_view kPrefix = "CAP_";

constexpr auto kNames = [] {
  std::array<std::string_view, init::kCapabilityCount> names;
  for (size_t number = 0; number < names.size(); ++number) names[number] = init::kCapabilityNames[number];
  return names;
}();

constexpr char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

bool equal_upper(std::string_view given, std::string_view name) {
  if (given.size() != name.size()) return false;
  for (size_t i = 0; i < given.size(); ++i) {
    if (upper(given[i]) != name[i]) return false;
  }
  return true;
}

}  // namespace

std::optional<int> capability_number(std::string_view name) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (equal_upper(name, kNames[i]) || equal_upper(name, kNames[i].substr(kPrefix.size()))) return static_cast<int>(i);
  }
  return std::nullopt;
}

std::string_view capability_name(int number) {
  if (number < 0 || static_cast<size_t>(number) >= kNames.size()) return {};
  return kNames[static_cast<size_t>(number)];
}

std::span<const std::string_view> capability_names() {
  return kNames;
}

Result<uint64_t> bounding_capabilities() {
  uint64_t mask = 0;
  for (int number = 0; number < 64; ++number) {
    const int has = ::prctl(PR_CAPBSET_READ, number, 0, 0, 0);
    if (has < 0) {
      // EINVAL is how the kernel says that there is no such capability: the last one was the one before.
      if (errno == EINVAL && number > 0) break;
      return fail_errno(errno, "prctl PR_CAPBSET_READ");
    }
    if (has == 1) mask |= uint64_t{1} << number;
  }
  return mask;
}

Result<uint64_t> effective_capabilities() {
  // Not libcap's cap_get_proc(): our own sys/capability.h hides its header of the same name.
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return fail_errno(errno, "capget");
  return data[0].effective | uint64_t{data[1].effective} << 32;
}

}  // namespace gantry::sys
