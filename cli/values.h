// Values of flags and arguments: signals, users, sizes. Pure; error texts as runc's, because callers show them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sys/result.h"

namespace gantry::cli {

/// KD-01: a number (not range-checked), or a name with or without SIG in any case, RTMIN+N and RTMAX-N too. Empty =
/// SIGTERM. `unknown signal "X"`
Result<int> parse_signal(std::string_view text);

struct UserArg {
  uid_t uid = 0;
  std::optional<gid_t> gid;
};

/// EX-06: UID[:GID], numbers only. `bad uid: strconv.Atoi: parsing "x": invalid syntax`
Result<UserArg> parse_user(std::string_view text);

/// UP-03: bytes with a unit of 1024 (k, kb, KiB, m, g, t, p), fractions allowed; -1 = unlimited. `invalid size: 'x'`
Result<int64_t> parse_size(std::string_view text);

/// Decimal numbers with Go's error texts: `strconv.ParseUint: parsing "x": invalid syntax`, or `value out of range`.
Result<uint64_t> parse_uint(std::string_view text);
Result<int64_t> parse_int(std::string_view text);

}  // namespace gantry::cli
