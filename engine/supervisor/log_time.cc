// The times of log records, as text.
#include <array>
#include <cstdio>

#include "engine/supervisor/log_record.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr int64_t kDaySeconds = 86400;

/// Days since 1970-01-01 of a date of the Gregorian calendar, and back; years begin in March.
int64_t days_of(int64_t year, int64_t month, int64_t day) {
  year -= month <= 2 ? 1 : 0;
  const int64_t era = (year >= 0 ? year : year - 399) / 400;
  const int64_t year_of_era = year - era * 400;
  const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

struct Date {
  int64_t year, month, day;
};

Date date_of(int64_t days) {
  days += 719468;
  const int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const int64_t day_of_era = days - era * 146097;
  const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const int64_t shifted = (5 * day_of_year + 2) / 153;
  const int64_t month = shifted < 10 ? shifted + 3 : shifted - 9;
  return {year_of_era + era * 400 + (month <= 2 ? 1 : 0), month, day_of_year - (153 * shifted + 2) / 5 + 1};
}

void put(std::string& out, int64_t number, int digits) {
  std::array<char, 20> text;
  for (int i = digits - 1; i >= 0; --i) {
    text[static_cast<size_t>(i)] = static_cast<char>('0' + number % 10);
    number /= 10;
  }
  out.append(text.data(), static_cast<size_t>(digits));
}

/// Takes `digits` digits and the character behind them (0: none) off `text`.
std::optional<int64_t> take(std::string_view& text, size_t digits, char behind) {
  if (text.size() < digits + (behind != 0 ? 1 : 0)) return std::nullopt;
  int64_t number = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    number = number * 10 + (text[i] - '0');
  }
  if (behind != 0 && text[digits] != behind) return std::nullopt;
  text.remove_prefix(digits + (behind != 0 ? 1 : 0));
  return number;
}

std::optional<int32_t> take_fraction(std::string_view& text) {
  if (!text.starts_with('.')) return 0;
  text.remove_prefix(1);
  int32_t value = 0;
  int32_t unit = 100'000'000;
  size_t digits = 0;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits, unit /= 10) {
    if (digits == 9) return std::nullopt;
    value += (text[digits] - '0') * unit;
  }
  if (digits == 0) return std::nullopt;
  text.remove_prefix(digits);
  return value;
}

std::optional<int32_t> take_zone(std::string_view& text) {
  if (text == "Z" || text == "z") {
    text = {};
    return 0;
  }
  if (!text.starts_with('+') && !text.starts_with('-')) return std::nullopt;
  const bool west = text.front() == '-';
  text.remove_prefix(1);
  const std::optional<int64_t> hours = take(text, 2, ':');
  if (!hours || *hours > 23) return std::nullopt;
  const std::optional<int64_t> minutes = take(text, 2, 0);
  if (!minutes || *minutes > 59) return std::nullopt;
  const auto offset = static_cast<int32_t>(*hours * 3600 + *minutes * 60);
  return west ? -offset : offset;
}

constexpr int64_t kFirst = -62167219200;  // 0000-01-01T00:00:00Z
constexpr int64_t kLast = 253402300799;   // 9999-12-31T23:59:59Z

}  // namespace

std::string log_time_text(const LogTime& time, bool utc) {
  // Zones are whole minutes today; seconds of an old local mean time cannot be written in RFC 3339.
  const int32_t offset = utc ? 0 : time.utc_offset / 60 * 60;
  int64_t seconds = time.seconds + offset;
  if (seconds < kFirst) seconds = kFirst;
  if (seconds > kLast) seconds = kLast;
  const int64_t of_day = (seconds % kDaySeconds + kDaySeconds) % kDaySeconds;
  const Date date = date_of((seconds - of_day) / kDaySeconds);
  std::string out;
  out.reserve(36);
  put(out, date.year, 4);
  put(out += '-', date.month, 2);
  put(out += '-', date.day, 2);
  put(out += 'T', of_day / 3600, 2);
  put(out += ':', of_day / 60 % 60, 2);
  put(out += ':', of_day % 60, 2);
  put(out += '.', time.nanoseconds, 9);
  if (utc) return out += 'Z';
  out += offset < 0 ? '-' : '+';
  const int32_t minutes = (offset < 0 ? -offset : offset) / 60;
  put(out, minutes / 60, 2);
  put(out += ':', minutes % 60, 2);
  return out;
}

std::optional<LogTime> parse_log_time(std::string_view text) {
  const std::optional<int64_t> year = take(text, 4, '-');
  if (!year) return std::nullopt;
  const std::optional<int64_t> month = take(text, 2, '-');
  if (!month || *month < 1 || *month > 12) return std::nullopt;
  const std::optional<int64_t> day = take(text, 2, 0);
  if (!day || *day < 1 || *day > 31) return std::nullopt;
  if (!text.starts_with('T') && !text.starts_with('t') && !text.starts_with(' ')) return std::nullopt;
  text.remove_prefix(1);
  const std::optional<int64_t> hour = take(text, 2, ':');
  const std::optional<int64_t> minute = hour ? take(text, 2, ':') : std::nullopt;
  const std::optional<int64_t> second = minute ? take(text, 2, 0) : std::nullopt;
  if (!second || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  const std::optional<int32_t> fraction = take_fraction(text);
  if (!fraction) return std::nullopt;
  const std::optional<int32_t> zone = take_zone(text);
  if (!zone || !text.empty()) return std::nullopt;
  const int64_t local = days_of(*year, *month, *day) * kDaySeconds + *hour * 3600 + *minute * 60 + *second;
  return LogTime{local - *zone, *fraction, *zone};
}

}  // namespace gantry
