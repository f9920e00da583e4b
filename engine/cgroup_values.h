// Resources of the config as values of cgroup files. Pure.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// Controllers in the order in which v2 sets them (RS-25), and whether the config wants something of each.
enum class CgroupPart : uint8_t { kPids, kMemory, kIo, kCpu, kDevices, kCpuset, kHugetlb, kRdma, kNetCls, kNetPrio };
bool wants(const Resources& resources, CgroupPart part);

/// RS-09: cpu.weight (1..10000) for cpu.shares (2..262144).
uint64_t cpu_weight_of_shares(uint64_t shares);

/// RS-16: io.weight (1..10000) for blkio.weight (10..1000).
uint64_t io_weight_of_blkio(uint64_t weight);

/// -1 and below are "max".
std::string limit_or_max(int64_t limit);

/// RS-15: pids.max on cgroup2. 0 is 1 there: being cloned into the cgroup counts as a fork, and with init as the one
/// process nothing can fork either way.
std::string pids_max_v2(int64_t limit);

/// RS-16, RS-17: a blockIO weight is 10 to 1000. BFQ would take less, other schedulers not: the same config is to mean
/// the same on all hosts. 0 and absent are fine: nothing is set.
Result<> check_blkio_weights(const BlkioResources& blkio);

/// RS-03 for v2: memory.swap.max, which does not include the memory, as v1's does. nullopt: leave it. `limit` and
/// `swap` 0 = not given. "memory+swap limit should be >= memory limit", "unable to set swap limit without memory
/// limit".
Result<std::optional<int64_t>> swap_max_v2(int64_t limit, int64_t swap);

/// RS-24: a key that names a file of the cgroup itself; gives its controller ("memory"; "cgroup" for the core's files).
Result<std::string> unified_controller(const std::string& key);

/// "2MB" and the like, since it becomes part of a file name: digits and KB, MB or GB.
Result<> check_page_size(const std::string& page_size);

/// RS-22: the line for rdma.max.
Result<std::string> rdma_line(const std::string& device, const RdmaLimit& limit);

/// RS-21: the line for net_prio.ifpriomap.
Result<std::string> priority_line(const std::string& interface, uint32_t priority);

/// "8:0 1048576"
std::string device_value(const BlkioDevice& device, uint64_t value);

/// RS-05: 0..100, or nothing to write for "all bits set" (-1 of older callers).
Result<std::optional<uint64_t>> swappiness_value(const MemoryResources& memory);

}  // namespace gantry
