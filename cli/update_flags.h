// The flags of `update` and what they mean (UP-01 to UP-05).
#pragma once

#include <array>

#include "cli/options.h"
#include "engine/spec.h"

namespace gantry::cli {

inline constexpr std::array<Flag, 19> kUpdateFlags{{
    {"resources", "r", Kind::kText, "FILE", "read the new limits as JSON from FILE, or from stdin with -"},
    {"blkio-weight", "", Kind::kInt, "N", "weight for block devices, 10 to 1000"},
    {"cpu-period", "", Kind::kText, "US", "length of a CPU period in microseconds"},
    {"cpu-quota", "", Kind::kText, "US", "CPU time per period in microseconds"},
    {"cpu-burst", "", Kind::kText, "US", "CPU time that may be saved up, in microseconds"},
    {"cpu-share", "", Kind::kText, "N", "relative weight for CPU time"},
    {"cpu-rt-period", "", Kind::kText, "US", "length of a real-time period in microseconds"},
    {"cpu-rt-runtime", "", Kind::kText, "US", "real-time CPU time per period in microseconds"},
    {"cpuset-cpus", "", Kind::kText, "LIST", "CPUs to use, such as 0-2,5"},
    {"cpuset-mems", "", Kind::kText, "LIST", "memory nodes to use"},
    {"cpu-idle", "", Kind::kText, "0|1", "schedule as idle"},
    {"memory", "", Kind::kText, "SIZE", "memory limit"},
    {"memory-reservation", "", Kind::kText, "SIZE", "memory limit under pressure"},
    {"memory-swap", "", Kind::kText, "SIZE", "limit of memory and swap together"},
    {"pids-limit", "", Kind::kInt, "N", "number of processes"},
    {"kernel-memory", "", Kind::kText, "SIZE", "obsolete", true},
    {"kernel-memory-tcp", "", Kind::kText, "SIZE", "obsolete", true},
    {"l3-cache-schema", "", Kind::kText, "SCHEMA", "not supported yet", true},
    {"mem-bw-schema", "", Kind::kText, "SCHEMA", "not supported yet", true},
}};

/// The resources that the flags other than --resources name. `invalid value for memory: invalid size: 'x'`
Result<Resources> update_resources(const Parsed& flags);

}  // namespace gantry::cli
