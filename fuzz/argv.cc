// The command line: whatever the words, no crash, and a parse written out in one canonical way parses to the same.
// Words are separated by newlines; the first one picks the command's option table.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "cli/command.h"
#include "cli/values.h"
#include "sys/text.h"

namespace {

using gantry::cli::Command;
using gantry::cli::Flag;
using gantry::cli::Order;
using gantry::cli::Parsed;

void require(bool holds) {
  if (!holds) std::abort();
}

std::vector<std::string> canonical(std::span<const Flag> flags, const Parsed& parsed) {
  std::vector<std::string> words;
  for (const Flag& flag : flags)
    for (const std::string& value : parsed.list(flag.name)) words.push_back(gantry::cat("--", flag.name, "=", value));
  if (parsed.help) words.emplace_back("-h");
  words.emplace_back("--");
  words.insert(words.end(), parsed.args.begin(), parsed.args.end());
  return words;
}

void check_round_trip(std::span<const Flag> flags, const Parsed& parsed, Order order) {
  const std::vector<std::string> words = canonical(flags, parsed);
  const std::vector<std::string_view> views(words.begin(), words.end());
  const auto again = gantry::cli::parse_options(flags, views, order);
  require(again.has_value());
  require(again->args == parsed.args && again->help == parsed.help);
  for (const Flag& flag : flags) {
    require(again->list(flag.name) == parsed.list(flag.name));
    if (flag.kind == gantry::cli::Kind::kInt) require(again->number(flag.name) == parsed.number(flag.name));
  }
}

void check_values(std::string_view word) {
  if (const auto size = gantry::cli::parse_size(word)) require(*size >= -1);
  if (const auto user = gantry::cli::parse_user(word)) require(user->uid != static_cast<uid_t>(-1));
  if (const auto signal = gantry::cli::parse_signal(word); !signal) require(!signal.error().text.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string_view> words = gantry::split(text, '\n');
  const Command* command = gantry::cli::find_command(words.front());
  const auto flags = command != nullptr ? command->flags : gantry::cli::global_flags();
  const Order order = command != nullptr ? command->order : Order::kBeforeArgs;
  for (const std::string_view word : words) check_values(word);
  const auto parsed = gantry::cli::parse_options(flags, std::span(words).subspan(1), order);
  if (parsed) {
    check_round_trip(flags, *parsed, order);
  } else {
    require(!parsed.error().text.empty());
  }
  return 0;
}
