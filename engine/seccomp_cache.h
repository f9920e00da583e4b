// Remembers compiled filters between runs, because compiling costs more than the rest of a start.
//
// One file per profile in a directory that only its owner can write. An entry carries the whole normalised profile, the
// versions of what compiled it and a checksum; it is used only if all of that is exactly what is wanted, so neither a
// hash collision nor a torn or foreign file can give a wrong filter. Any doubt means compiling anew.
#pragma once

#include <string>

#include "engine/seccomp.h"

namespace gantry {

/// Shared by all state roots. 0700, on a file system that a reboot empties.
inline constexpr const char* kSeccompCacheDir = "/run/gantry-cache/seccomp";

/// compile_seccomp(), through the cache in `dir` (made when missing; its parent too). Trouble with the cache is never
/// an error. An empty `dir` turns the cache off.
Result<CompiledSeccomp> cached_seccomp(const Seccomp& profile, const std::string& dir = kSeccompCacheDir);

}  // namespace gantry
