// Options, times and records: what is written can be read back, to the byte.
#include <catch2/catch.hpp>
#include <vector>

#include "engine/supervisor/log_base64.h"
#include "engine/supervisor/log_record.h"
#include "sys/text.h"
#include "tests/unit/copy_support.h"

namespace gantry::copy_test {
namespace {

std::string format(const BatchInput& input) {
  BatchFormatter formatter(input);
  std::vector<char> out(3 * kMaxRecord);
  std::string whole;
  while (const size_t size = formatter.fill(out)) whole.append(out.data(), size);
  return whole;
}

BatchInput input_of(LogDriver driver, std::string_view data) {
  BatchInput input;
  input.driver = driver;
  input.time = {1787142896, 123456789, 7200};
  input.data = data;
  return input;
}

}  // namespace

TEST_CASE("log options are read and written") {
  const LogOptions defaults;
  CHECK(*parse_log_options("") == defaults);
  CHECK(*parse_log_options("cri") == defaults);
  const Result<LogOptions> all = parse_log_options("json,size=10m,files=3,full=drop,path=/var/log/a,b.log");
  REQUIRE(all);
  CHECK(all->driver == LogDriver::kJson);
  CHECK(all->max_size == 10U << 20U);
  CHECK(all->max_files == 3);
  CHECK(all->on_full == OnFull::kDrop);
  CHECK(all->path == "/var/log/a,b.log");
  CHECK(*parse_log_options(log_options_text(*all)) == *all);
  CHECK(*parse_log_options(log_options_text(defaults)) == defaults);
  CHECK(parse_log_options("none")->driver == LogDriver::kNone);
  CHECK(parse_log_options("cri,size=0")->max_size == 0);
}

TEST_CASE("bad log options are named") {
  CHECK(parse_log_options("syslog").error().text == "--log: unknown format \"syslog\": must be cri, json or none");
  CHECK(parse_log_options("cri,size=1x").error().text.starts_with("--log: size=1x: must be a number"));
  CHECK(parse_log_options("cri,files=0").error().text == "--log: files=0: must be 1 to 100");
  CHECK(parse_log_options("cri,full=maybe").error().text == "--log: full=maybe: must be block or drop");
  CHECK(parse_log_options("cri,path=x").error().text == "--log: path=x: must be an absolute path of a file");
  CHECK(parse_log_options("cri,colour=red").error().text.starts_with("--log: unknown option \"colour\""));
  CHECK(parse_log_options("cri,").error().text == "--log: \"\": must be NAME=VALUE");
  CHECK(!parse_log_options("cri,size=99999999999g"));
}

TEST_CASE("times of logs are RFC 3339 with nanoseconds") {
  const LogTime time{1787142896, 123456789, 7200};
  CHECK(log_time_text(time, true) == "2026-08-19T12:34:56.123456789Z");
  CHECK(log_time_text(time, false) == "2026-08-19T14:34:56.123456789+02:00");
  CHECK(log_time_text({0, 1, -12600}, false) == "1969-12-31T20:30:00.000000001-03:30");
  CHECK(log_time_text({951782400, 0, 0}, false) == "2000-02-29T00:00:00.000000000+00:00");
  const std::optional<LogTime> read = parse_log_time("2026-08-19T14:34:56.123456789+02:00");
  REQUIRE(read);
  CHECK(read->seconds == time.seconds);
  CHECK(read->nanoseconds == time.nanoseconds);
  CHECK(read->utc_offset == 7200);
  CHECK(parse_log_time("2026-08-19T12:34:56Z")->seconds == time.seconds);
  CHECK(parse_log_time("2026-08-19T12:34:56.5Z")->nanoseconds == 500'000'000);
  for (const char* bad : {"", "2026", "2026-13-19T12:34:56Z", "2026-08-19T12:34:56", "2026-08-19T12:34:56.Z",
                          "2026-08-19T12:34:56.1234567890Z", "2026-08-19T12:34:56Zx", "2026-08-19T25:34:56Z"}) {
    CHECK(!parse_log_time(bad));
  }
}

TEST_CASE("CRI records look as others expect them") {
  const std::string time = "2026-08-19T14:34:56.123456789+02:00";
  BatchInput input = input_of(LogDriver::kCri, "one\n\ntwo");
  CHECK(format(input) == cat(time, " stdout F one\n", time, " stdout F \n", time, " stdout P two\n"));
  input.stream = 1;
  input.data = "\xff\n";
  input.lost = 12;
  CHECK(format(input) == cat(time, " stderr F:lost gantry: 12 bytes of output are lost: the log could not be written\n",
                             time, " stderr F \xff\n"));
  BatchInput end = input_of(LogDriver::kCri, "");
  end.end = true;
  CHECK(format(end) == "");
  end.mid_line = true;
  CHECK(format(end) == cat(time, " stdout F:eof \n"));
}

TEST_CASE("JSON records look as others expect them") {
  const std::string tail = ",\"stream\":\"stdout\",\"time\":\"2026-08-19T12:34:56.123456789Z\"}\n";
  CHECK(format(input_of(LogDriver::kJson, "one\ntw\"o")) ==
        cat("{\"log\":\"one\\n\"", tail, "{\"log\":\"tw\\\"o\"", tail));
  CHECK(format(input_of(LogDriver::kJson, "a\xff\n")) == cat("{\"log\":\"a\xef\xbf\xbd\\n\",\"raw\":\"Yf8K\"", tail));
  CHECK(format(input_of(LogDriver::kJson, "caf\xc3\xa9\n")) == cat("{\"log\":\"caf\xc3\xa9\\n\"", tail));
  BatchInput end = input_of(LogDriver::kJson, "");
  end.end = end.mid_line = true;
  CHECK(format(end) == cat("{\"log\":\"\",\"eof\":true", tail));
}

TEST_CASE("JSON escapes a byte wherever it stands") {
  for (size_t size = 1; size <= 50; ++size) {
    CHECK(format(input_of(LogDriver::kJson, std::string(size, 'x'))).find(std::string(size, 'x') + "\"") == 8);
    for (size_t at = 0; at < size; ++at) {
      for (const char odd : {'"', '\\', '\x1f', '\x7f', '\x80'}) {
        std::string text(size, 'x');
        text[at] = odd;
        const std::string record = format(input_of(LogDriver::kJson, text));
        INFO(record);
        CHECK(parse_log_record(std::string_view(record).substr(0, record.size() - 1)).text == text);
      }
    }
  }
}

TEST_CASE("a long line is cut into pieces of 16 KiB") {
  for (const size_t size : {kMaxPiece - 1, kMaxPiece, kMaxPiece + 1, 3 * kMaxPiece}) {
    const std::string line(size, 'x');
    for (const LogDriver driver : {LogDriver::kCri, LogDriver::kJson}) {
      const std::string log = format(input_of(driver, line + "\n"));
      const std::vector<std::string_view> lines = split(std::string_view(log).substr(0, log.size() - 1), '\n');
      CHECK(lines.size() == (size + kMaxPiece) / kMaxPiece - (size % kMaxPiece == 0 ? 1 : 0));
      std::string back;
      for (const std::string_view one : lines) {
        const LogRecord record = parse_log_record(one);
        CHECK(record.text.size() <= kMaxPiece);
        back += record.text + (record.newline ? "\n" : "");
      }
      CHECK(back == line + "\n");
    }
  }
}

TEST_CASE("any bytes come back from a log, however it is filled") {
  for (unsigned seed = 1; seed < 20; ++seed) {
    const std::string output = make_output(seed, 40000, seed % 2 == 0).substr(0, kCopyBatch);
    for (const LogDriver driver : {LogDriver::kCri, LogDriver::kJson}) {
      const BatchInput input = input_of(driver, output);
      const std::string whole = format(input);
      BatchFormatter slowly(input);
      std::vector<char> room(kMaxRecord);
      std::string again;
      while (const size_t size = slowly.fill(room, 1)) again.append(room.data(), size);
      CHECK(again == whole);
      std::string back;
      for (const std::string_view one : split(std::string_view(whole).substr(0, whole.size() - 1), '\n')) {
        const LogRecord record = parse_log_record(one);
        REQUIRE(record.kind == LogRecord::Kind::kPiece);
        REQUIRE(record.time.seconds == input.time.seconds);
        back += record.text + (record.newline ? "\n" : "");
      }
      CHECK(difference(back, output) == "");
    }
  }
}

TEST_CASE("what is no record is a foreign line") {
  for (const char* line : {"", "hello", "{", "{}", "{\"log\":\"x\"}", "2026-08-19T14:34:56+02:00 stdout F",
                           "2026-08-19T14:34:56+02:00 stdin F x", "2026-08-19T14:34:56+02:00 stdout X x",
                           "{\"log\":\"x\",\"stream\":\"stdout\",\"time\":\"2026-08-19T12:34:56Z\",\"raw\":\"?\"}"}) {
    const LogRecord record = parse_log_record(line);
    CHECK(record.kind == LogRecord::Kind::kForeign);
    CHECK(record.text == line);
  }
  // Tags of others are read as the format says: the first one decides.
  CHECK(parse_log_record("2026-08-19T14:34:56+02:00 stdout P:x y").newline == false);
  CHECK(parse_log_record("2026-08-19T14:34:56+02:00 stdout F:x y").newline == true);
}

TEST_CASE("base64 goes both ways") {
  std::string bytes;
  for (int i = 0; i < 300; ++i) {
    CHECK(*from_base64(base64(bytes)) == bytes);
    bytes += static_cast<char>(i * 7);
  }
  CHECK(base64("ab") == "YWI=");
  for (const char* bad : {"Y", "YWI", "YW=I", "YWJ=", "Y===", "YWI*", "=AAA"}) CHECK(!from_base64(bad));
}

}  // namespace gantry::copy_test
