// bpf(2) as far as device filters of cgroups need it.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <span>
#include <vector>

#include "sys/fd.h"
#include "sys/result.h"

namespace gantry::sys {

/// Loads a BPF_PROG_TYPE_CGROUP_DEVICE program. When the verifier refuses it, its last words are in the error.
Result<Fd> bpf_load_device_program(std::span<const bpf_insn> program);

/// Makes `program` the only device program attached to the cgroup itself (those of its ancestors stay in force). One
/// program that is there already is replaced in one step (BPF_F_REPLACE, 5.6); of several, the others are detached
/// after the new one is in force, so that there is no moment without a filter. `fresh`: the cgroup was just made and
/// has none.
Result<> bpf_attach_device_program(const Fd& cgroup, const Fd& program, bool fresh);

/// Ids of the device programs attached to the cgroup itself, at most 64 (the kernel's limit).
Result<std::vector<uint32_t>> bpf_device_programs(const Fd& cgroup);

}  // namespace gantry::sys
