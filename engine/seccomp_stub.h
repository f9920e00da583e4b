// The piece of BPF in front of a profile that tells "too new" from "forbidden" (SC-08). Pure.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace gantry {

/// The newest system call a profile speaks of, on one architecture of the kernel (AUDIT_ARCH_*).
struct NewestSyscall {
  uint32_t audit_arch = 0;
  std::optional<uint32_t> number;
  std::optional<uint32_t> x32_number;  ///< of the x32 calls, which share x86-64's architecture; bit 30 is set
};

/// Returns ENOSYS for calls above the newest known one and falls through to what follows for all others. A C library
/// then takes its older way instead of reporting EPERM for a call that the profile's author could not know. An
/// architecture without a number is left to what follows.
std::vector<sock_filter> enosys_stub(const std::vector<NewestSyscall>& newest);

}  // namespace gantry
