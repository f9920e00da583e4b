// Flags that create and run share.
#pragma once

#include <array>

#include "cli/options.h"
#include "engine/verbs.h"

namespace gantry::cli {

inline constexpr std::array<Flag, 7> kCreateFlags{{
    {"bundle", "b", Kind::kText, "DIR", "directory with config.json (default: the current directory)"},
    {"console-socket", "", Kind::kText, "PATH", "Unix socket that receives the terminal's master end"},
    {"pidfd-socket", "", Kind::kText, "PATH", "Unix socket that receives a pidfd of the container's first process"},
    {"pid-file", "", Kind::kText, "PATH", "file to write the process id to"},
    {"no-pivot", "", Kind::kBool, "", "move and chroot instead of pivot_root, for a root on a ramdisk"},
    {"no-new-keyring", "", Kind::kBool, "", "keep the caller's session keyring"},
    {"preserve-fds", "", Kind::kInt, "N", "pass N descriptors on, counted from 3 or behind those of LISTEN_FDS"},
}};

/// One table behind the other.
template <size_t A, size_t B>
constexpr std::array<Flag, A + B> join(const std::array<Flag, A>& first, const std::array<Flag, B>& second) {
  std::array<Flag, A + B> all;
  for (size_t i = 0; i < A; ++i) all[i] = first[i];
  for (size_t i = 0; i < B; ++i) all[A + i] = second[i];
  return all;
}

/// The values of kCreateFlags and the id, which is the first positional.
Result<CreateOptions> create_options(const Parsed& options);

/// --preserve-fds: a count that fits, 0 when not given.
Result<unsigned> preserve_fds(const Parsed& options);

}  // namespace gantry::cli
