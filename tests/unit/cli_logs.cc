// What `logs` makes of records.
#include <catch2/catch.hpp>

#include "cli/log_output.h"

namespace gantry::cli {
namespace {

constexpr int64_t kNow = 1'800'000'000;

LogRecord piece(std::string text, bool newline, uint8_t stream = 0) {
  LogRecord record;
  record.text = std::move(text);
  record.newline = newline;
  record.stream = stream;
  record.time = {1'787'142'896, 5, 7200};
  return record;
}

LogRecord special(LogRecord::Kind kind, uint64_t lost = 0, std::string text = {}) {
  LogRecord record;
  record.kind = kind;
  record.lost = lost;
  record.text = std::move(text);
  return record;
}

struct Shown {
  std::string out, err;
};

Shown show(const LogPrinter::Look& look, const std::vector<LogRecord>& records) {
  LogPrinter printer(look);
  Shown shown;
  for (const LogRecord& record : records) printer.add(record, shown.out, shown.err);
  return shown;
}

const std::vector<LogRecord> kRecords{
    piece("one", true), piece("tw", false),  piece("err", true, 1),          piece("o", true),
    piece("\0", false), piece("end", false), special(LogRecord::Kind::kEnd), piece("next", true),
};

TEST_CASE("without decoration the bytes are the container's") {
  const Shown shown = show({}, kRecords);
  CHECK(shown.out == "one\ntwo\nendnext\n");
  CHECK(shown.err == "err\n");
}

TEST_CASE("each line begins with what was asked for") {
  const Shown shown = show({"web | ", false}, kRecords);
  CHECK(shown.out == "web | one\nweb | two\nweb | end\nweb | next\n");
  CHECK(shown.err == "web | err\n");
  const Shown timed = show({"", true}, {piece("a", false), piece("b", true), piece("", true)});
  CHECK(timed.out == "2026-08-19T12:34:56.000000005Z ab\n2026-08-19T12:34:56.000000005Z \n");
}

TEST_CASE("what is missing is said, what is no record is shown") {
  const Shown shown =
      show({"", true}, {special(LogRecord::Kind::kLost, 70), special(LogRecord::Kind::kForeign, 0, "?")});
  CHECK(shown.err == "[70 bytes of stdout are missing here: the log took none]\n");
  CHECK(shown.out == "- ?\n");
}

TEST_CASE("--since is a time, a number or how long ago") {
  CHECK(parse_since("2026-08-19T12:34:56Z", kNow).value().seconds == 1'787'142'896);
  CHECK(parse_since("2026-08-19T14:34:56+02:00", kNow).value().seconds == 1'787'142'896);
  CHECK(parse_since("1700000000", kNow).value().seconds == 1'700'000'000);
  CHECK(parse_since("30s", kNow).value().seconds == kNow - 30);
  CHECK(parse_since("10m", kNow).value().seconds == kNow - 600);
  CHECK(parse_since("2h", kNow).value().seconds == kNow - 7200);
  CHECK(parse_since("1d", kNow).value().seconds == kNow - 86400);
  CHECK(parse_since("999999d", kNow).value().seconds == 0);
  for (const std::string_view bad :
       {"", "s", "-1", "-1s", "1w", "yesterday", "99999999999999999999s", "9223372036854775807d"}) {
    const auto since = parse_since(bad, kNow);
    REQUIRE_FALSE(since);
    CHECK(since.error().text.find("must be a time like") != std::string::npos);
  }
}

}  // namespace
}  // namespace gantry::cli
