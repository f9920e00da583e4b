// The command line's grammar: Go's flag package as urfave/cli v1 uses it, because callers of runc depend on it.
//
// Pure: no globals, no output, no system. What a parse yields refers to nothing but itself.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sys/result.h"

namespace gantry::cli {

enum class Kind : uint8_t {
  kBool,     ///< --x, --x=true, --x=0; never takes the next word
  kText,     ///< last one wins
  kInt,      ///< 64-bit, with Go's prefixes 0x, 0o, 0b and a leading 0; last one wins
  kList,     ///< texts accumulate
  kIntList,  ///< decimal or prefixed integers accumulate
};

/// One row of an option table. All texts have static storage.
struct Flag {
  std::string_view name;   ///< without dashes
  std::string_view alias;  ///< short form; empty = none
  Kind kind = Kind::kBool;
  std::string_view value_name;  ///< what help shows for the value
  std::string_view help;
  bool hidden = false;
};

/// Where flags may stand.
enum class Order : uint8_t {
  kAnywhere,    ///< known flags also after the first positional (CL-03)
  kBeforeArgs,  ///< everything from the first positional on is passed on unchanged
};

/// The outcome of a parse: values by flag name, and the positionals.
class Parsed {
 public:
  explicit Parsed(std::span<const Flag> flags) : flags_(flags), values_(flags.size()) {}

  /// Whether the flag was given at all. Names are those of the table; an unknown one is a bug and aborts.
  bool given(std::string_view name) const { return !slot(name).values.empty(); }
  /// Value of a boolean flag, false when not given.
  bool on(std::string_view name) const;
  /// Last value of a text flag, empty when not given.
  const std::string& text(std::string_view name) const;
  /// Last value of an integer flag.
  std::optional<int64_t> number(std::string_view name) const;
  const std::vector<std::string>& list(std::string_view name) const { return slot(name).values; }
  std::vector<int64_t> numbers(std::string_view name) const;

  bool help = false;  ///< -h or --help
  std::vector<std::string> args;

 private:
  friend class Parser;
  struct Slot {
    std::vector<std::string> values;
    bool by_name = false;
    bool by_alias = false;
  };
  const Slot& slot(std::string_view name) const;

  std::span<const Flag> flags_;
  std::vector<Slot> values_;
};

/// Parses `args` (without the command's name) by `flags`; -h and --help are known everywhere. Errors have the texts of
/// CL-02, CL-04, CL-08 and CL-09.
Result<Parsed> parse_options(std::span<const Flag> flags, std::span<const std::string_view> args, Order order);

/// The number of positionals a command takes (CL-07).
struct ArgCount {
  int min = 0;
  int max = -1;  ///< -1 = no limit
};

/// "" when `count` fits, else the error: `PROG: "CMD" requires exactly 1 argument(s)`.
std::string check_arg_count(std::string_view argv0, std::string_view command, ArgCount wanted, size_t count);

/// Go's strconv.ParseBool.
std::optional<bool> parse_go_bool(std::string_view text);

/// Go's strconv.ParseInt(text, 0, 64): sign, prefixes 0x 0o 0b 0, underscores between digits.
std::optional<int64_t> parse_go_int(std::string_view text);

}  // namespace gantry::cli
