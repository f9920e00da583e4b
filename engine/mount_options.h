// Words of mounts[].options to what the mount calls take. One table serves the parser and `features`.
#pragma once

#include <string_view>
#include <vector>

#include "engine/spec.h"
#include "sys/result.h"

namespace gantry {

/// Applies one word (or, for options of the file system itself, KEY or KEY=VALUE) to `mount`, with mount(8)'s meaning:
/// words are read from left to right and the last of a contradicting pair wins. Of noatime, relatime and strictatime
/// the last one counts; atime, norelatime and nostrictatime go back to the kernel's default, which is relatime.
/// What is not in the table goes to `mount.data`, split at commas (MT-06). Words that only crun has are refused by
/// name.
Result<> apply_mount_option(std::string_view option, Mount& mount);

/// Every word of the table in alphabetical order, without idmap and ridmap, as runc's feature list leaves them out.
std::vector<std::string_view> mount_option_names();

/// MS_* of "rshared" and the like, MS_REC included; 0 for any other word.
unsigned long propagation_flags(std::string_view name);

}  // namespace gantry
