#include "cli/options.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <expected>
#include <system_error>

#include "engine/go_quote.h"
#include "sys/text.h"

namespace gantry::cli {

std::optional<bool> parse_go_bool(std::string_view text) {
  for (const std::string_view yes : {"1", "t", "T", "TRUE", "true", "True"})
    if (text == yes) return true;
  for (const std::string_view no : {"0", "f", "F", "FALSE", "false", "False"})
    if (text == no) return false;
  return std::nullopt;
}

namespace {

// Underscores may stand only between digits, or between a prefix and a digit.
bool underscores_are_fine(std::string_view digits, bool prefixed) {
  char before = prefixed ? '0' : '\0';
  for (const char c : digits) {
    if (c == '_' && (before == '_' || before == '\0')) return false;
    before = c;
  }
  return before != '_';
}

int take_base(std::string_view& digits, bool& prefixed) {
  if (digits.size() < 2 || digits[0] != '0') return 10;
  prefixed = true;
  const char mark = static_cast<char>(std::tolower(static_cast<unsigned char>(digits[1])));
  const int base = mark == 'x' ? 16 : mark == 'o' || mark == 'b' ? (mark == 'o' ? 8 : 2) : 0;
  digits.remove_prefix(base != 0 ? 2 : 1);
  return base != 0 ? base : 8;
}

std::expected<int64_t, std::errc> scan_go_int(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  bool prefixed = false;
  const int base = take_base(text, prefixed);
  if (!underscores_are_fine(text, prefixed) || text.starts_with('-'))
    return std::unexpected(std::errc::invalid_argument);
  std::string digits(negative ? "-" : "");
  for (const char c : text)
    if (c != '_') digits.push_back(c);
  int64_t value = 0;
  const auto [end, err] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (end != digits.data() + digits.size()) return std::unexpected(std::errc::invalid_argument);
  if (err != std::errc()) return std::unexpected(err);
  return value;
}

}  // namespace

std::optional<int64_t> parse_go_int(std::string_view text) {
  const auto value = scan_go_int(text);
  return value ? std::optional(*value) : std::nullopt;
}

const Parsed::Slot& Parsed::slot(std::string_view name) const {
  for (size_t i = 0; i < flags_.size(); ++i)
    if (flags_[i].name == name) return values_[i];
  std::abort();
}

bool Parsed::on(std::string_view name) const {
  const auto& values = slot(name).values;
  return !values.empty() && parse_go_bool(values.back()).value_or(false);
}

const std::string& Parsed::text(std::string_view name) const {
  static const std::string none;
  const auto& values = slot(name).values;
  return values.empty() ? none : values.back();
}

std::optional<int64_t> Parsed::number(std::string_view name) const {
  const auto& values = slot(name).values;
  if (values.empty()) return std::nullopt;
  return parse_go_int(values.back());
}

std::vector<int64_t> Parsed::numbers(std::string_view name) const {
  std::vector<int64_t> all;
  for (const auto& value : slot(name).values) all.push_back(parse_go_int(value).value_or(0));
  return all;
}

/// Walks the words once. Follows flag.FlagSet.parseOne for single words, urfave/cli for the order.
class Parser {
 public:
  Parser(std::span<const Flag> flags, std::span<const std::string_view> words, Order order)
      : flags_(flags), words_(words), order_(order), parsed_(flags) {}

  Result<Parsed> run() {
    while (at_ < words_.size()) {
      const std::string_view word = words_[at_];
      if (word == "--") {
        ++at_;
        take_rest();
      } else if (word.size() < 2 || word[0] != '-') {
        if (order_ == Order::kBeforeArgs) {
          take_rest();
        } else {
          parsed_.args.emplace_back(word);
          ++at_;
        }
      } else {
        GANTRY_TRY(take_flag(word));
      }
    }
    GANTRY_TRY(check_forms());
    return std::move(parsed_);
  }

 private:
  void take_rest() {
    for (; at_ < words_.size(); ++at_) parsed_.args.emplace_back(words_[at_]);
  }

  Result<> take_flag(std::string_view word) {
    const std::string_view body = word.substr(word[1] == '-' ? 2 : 1);
    const bool malformed = body.empty() || body[0] == '-' || body[0] == '=';
    const auto equals = body.find('=');
    const std::string_view name = body.substr(0, equals);
    const bool has_value = equals != std::string_view::npos;
    const std::string_view value = has_value ? body.substr(equals + 1) : std::string_view();
    const bool is_help = name == "h" || name == "help";
    const size_t index = malformed ? flags_.size() : find(name);
    if (malformed || (index == flags_.size() && !is_help)) {
      // Behind the first positional only known flags are moved to the front; the rest stays positional.
      if (!parsed_.args.empty()) {
        parsed_.args.emplace_back(word);
        ++at_;
        return {};
      }
      return malformed ? fail(cat("bad flag syntax: ", word)) : fail(cat("flag provided but not defined: -", name));
    }
    ++at_;
    if (is_help && index == flags_.size()) return take_help(name, has_value, value);
    return take_value(index, name, has_value, value);
  }

  Result<> take_help(std::string_view name, bool has_value, std::string_view value) {
    const auto wanted = has_value ? parse_go_bool(value) : true;
    if (!wanted) return bad_bool(name, value);
    if ((name == "h" ? help_by_name_ : help_by_alias_)) return fail("Cannot use two forms of the same flag: h help");
    (name == "h" ? help_by_alias_ : help_by_name_) = true;
    parsed_.help = *wanted;
    return {};
  }

  Result<> take_value(size_t index, std::string_view name, bool has_value, std::string_view value) {
    const Flag& flag = flags_[index];
    Parsed::Slot& slot = parsed_.values_[index];
    (name == flag.name ? slot.by_name : slot.by_alias) = true;
    if (flag.kind == Kind::kBool) {
      if (!has_value) value = "true";
      if (!parse_go_bool(value)) return bad_bool(name, value);
    } else if (!has_value) {
      if (at_ == words_.size()) return fail(cat("flag needs an argument: -", name));
      value = words_[at_++];
    }
    GANTRY_TRY(check_value(flag.kind, name, value));
    slot.values.emplace_back(value);
    return {};
  }

  static Result<> check_value(Kind kind, std::string_view name, std::string_view value) {
    if (kind != Kind::kInt && kind != Kind::kIntList) return {};
    const auto number = scan_go_int(value);
    if (number) return {};
    const bool too_large = number.error() == std::errc::result_out_of_range;
    const std::string text = go_quote(value);
    const std::string head = cat("invalid value ", text, " for flag -", name, ": ");
    if (kind == Kind::kInt) return fail(head + (too_large ? "value out of range" : "parse error"));
    return fail(
        cat(head, "strconv.ParseInt: parsing ", text, ": ", too_large ? "value out of range" : "invalid syntax"));
  }

  static std::unexpected<Error> bad_bool(std::string_view name, std::string_view value) {
    return fail(cat("invalid boolean value ", go_quote(value), " for -", name, ": parse error"));
  }

  size_t find(std::string_view name) const {
    const auto matches = [name](const Flag& flag) {
      return flag.name == name || (!flag.alias.empty() && flag.alias == name);
    };
    return static_cast<size_t>(std::ranges::find_if(flags_, matches) - flags_.begin());
  }

  Result<> check_forms() const {
    for (size_t i = 0; i < flags_.size(); ++i)
      if (parsed_.values_[i].by_name && parsed_.values_[i].by_alias)
        return fail(cat("Cannot use two forms of the same flag: ", flags_[i].alias, " ", flags_[i].name));
    return {};
  }

  std::span<const Flag> flags_;
  std::span<const std::string_view> words_;
  Order order_;
  Parsed parsed_;
  size_t at_ = 0;
  bool help_by_name_ = false, help_by_alias_ = false;
};

Result<Parsed> parse_options(std::span<const Flag> flags, std::span<const std::string_view> args, Order order) {
  return Parser(flags, args, order).run();
}

std::string check_arg_count(std::string_view argv0, std::string_view command, ArgCount wanted, size_t count) {
  const auto min = static_cast<size_t>(wanted.min);
  const bool too_few = count < min;
  if (!too_few && (wanted.max < 0 || count <= static_cast<size_t>(wanted.max))) return {};
  const std::string head = cat(argv0, ": \"", command, "\" requires ");
  if (wanted.min == wanted.max) return cat(head, "exactly ", wanted.min, " argument(s)");
  if (too_few) return cat(head, "a minimum of ", wanted.min, " argument(s)");
  return cat(head, "a maximum of ", wanted.max, " argument(s)");
}

}  // namespace gantry::cli
