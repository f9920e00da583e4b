// What commands print: byte for byte what callers of runc parse.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "engine/container.h"
#include "sys/result.h"

namespace gantry::cli {

/// Writes all of `text` to stdout. "write /dev/stdout: no space left on device"
Result<> print(std::string_view text);

/// SL-01: indented by two spaces, no newline at the end.
std::string state_json(const ContainerView& view);

/// SL-05: one line with a newline; "null" when empty.
std::string list_json(const std::vector<ContainerView>& views);

/// SL-05: ID PID STATUS BUNDLE CREATED OWNER.
std::string list_table(const std::vector<ContainerView>& views);

/// SL-06.
std::string list_ids(const std::vector<ContainerView>& views);

/// SL-09: one line with a newline; "null" when empty.
std::string pids_json(const std::vector<pid_t>& pids);

/// SL-09: the header of what the host's `ps` printed and the rows whose PID is in `pids`.
Result<std::string> filter_ps(std::string_view ps_output, const std::vector<pid_t>& pids);

}  // namespace gantry::cli
