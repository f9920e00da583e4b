// The JSON cursor and the writer.
#include <catch2/catch.hpp>

#include <chrono>
#include <string>

#include "engine/json.h"
#include "engine/json_write.h"
#include "sys/text.h"

namespace gantry::json {
namespace {

std::string error_of(std::string_view bytes) {
  auto document = Document::parse(bytes, "doc");
  return document ? "" : document.error().text;
}

struct Sample {
  int64_t number = 7;
  uint32_t small = 7;
  bool flag = false;
  std::string text;
  std::vector<std::string> list;
  std::optional<uint64_t> maybe;
};

constexpr Field<Sample> kFields[] = {
    {"number", into<&Sample::number>}, {"small", into<&Sample::small>}, {"flag", into<&Sample::flag>},
    {"text", into<&Sample::text>},     {"list", into<&Sample::list>},   {"maybe", into<&Sample::maybe>},
};

Result<Sample> sample(std::string_view bytes) {
  GANTRY_LET(const Document document, Document::parse(bytes, "doc"));
  Sample out;
  GANTRY_TRY(read_fields(document.root(), kFields, out));
  return out;
}

std::string sample_error(std::string_view bytes) {
  auto parsed = sample(bytes);
  return parsed ? "" : parsed.error().text;
}

TEST_CASE("an object is read by its table") {
  const auto parsed = sample(R"({"number":-9223372036854775808,"small":4294967295,"flag":true,"text":"a\u00e9",
                                 "list":["x","y"],"maybe":18446744073709551615,"other":[1.5,{"deep":null}]})");
  REQUIRE(parsed);
  CHECK(parsed->number == INT64_MIN);
  CHECK(parsed->small == UINT32_MAX);
  CHECK(parsed->flag);
  CHECK(parsed->text == "a\xC3\xA9");
  CHECK(parsed->list == std::vector<std::string>{"x", "y"});
  CHECK(parsed->maybe == UINT64_MAX);
}

TEST_CASE("null counts as absent, the last duplicate wins, keys match exactly") {
  CHECK(sample(R"({"number":null})")->number == 7);
  CHECK(sample(R"({"maybe":null})")->maybe == std::nullopt);
  CHECK(sample(R"({"number":1,"number":2})")->number == 2);
  CHECK(sample(R"({"number":"not looked at","number":2})")->number == 2);
  CHECK(sample(R"({"Number":1})")->number == 7);
}

TEST_CASE("whole numbers are exact") {
  CHECK(sample_error(R"({"small":4294967296})") ==
        "doc: small: expected a whole number from 0 to 4294967295, got 4294967296");
  CHECK(sample_error(R"({"small":-1})") == "doc: small: expected a whole number from 0 to 4294967295, got -1");
  CHECK(sample_error(R"({"small":1.0})") == "doc: small: expected a whole number from 0 to 4294967295, got 1.0");
  CHECK_THAT(sample_error(R"({"small":1e3})"), Catch::Contains("got 1"));
  CHECK_THAT(sample_error(R"({"number":9223372036854775808})"), Catch::Contains("got 9223372036854775808"));
  CHECK_THAT(sample_error(R"({"small":"1"})"), Catch::Contains("got \"1\""));
  CHECK(sample_error(R"({"number":99999999999999999999})") ==
        "doc: line 1, column 11: 99999999999999999999 is no 64-bit number");
  CHECK(sample_error("{\"a\":18446744073709551615,\n \"b\":[1.5, -9223372036854775809]}") ==
        "doc: line 2, column 12: -9223372036854775809 is no 64-bit number");
}

TEST_CASE("errors name the place and stay on one short line") {
  CHECK(sample_error(R"({"list":["a",1]})") == "doc: list[1]: expected a string, got 1");
  CHECK(sample_error(R"({"flag":{}})") == "doc: flag: expected true or false, got an object");
  CHECK(sample_error("[]") == "doc: expected an object, got an array");
  CHECK(sample_error(R"({"text":"a\u0000b"})") == "doc: text: must not contain a NUL byte");
  const std::string text = sample_error(cat(R"({"number":")", std::string(5000, 'x'), R"(\n"})"));
  CHECK(text.size() < 200);
  CHECK(text.find('\n') == std::string::npos);
  CHECK(quoted("a\nb\x01") == "\"a\\nb\\x01\"");
  CHECK(one_line(std::string(59, 'x') + "\xC3\xA9") == std::string(59, 'x') + "...");
}

TEST_CASE("what is not JSON is located") {
  CHECK(error_of("") == "doc: EOF: the document is empty");
  CHECK(error_of(" \n") == "doc: EOF: the document is empty");
  CHECK_THAT(error_of("{\n  \"a\": 1,\n  b\n}"), Catch::StartsWith("doc: line 3, column 3: not valid JSON"));
  CHECK(error_of("{\"a\": [1, 2") == "doc: not valid JSON: unexpected EOF");
  CHECK_THAT(error_of("{} {}"), Catch::Contains("not valid JSON"));
  CHECK_THAT(error_of("\xEF\xBB\xBF{}"), Catch::Contains("not valid JSON"));
  CHECK(error_of("{\"a\":\"\xFF\"}") == "doc: not valid UTF-8");
  CHECK_THAT(error_of(R"({"a":"\ud800"})"), Catch::Contains("not valid JSON"));
  CHECK_THAT(error_of("{} // comment"), Catch::Contains("not valid JSON"));
}

TEST_CASE("depth and size are limited, fast and with a clear text") {
  const auto begin = std::chrono::steady_clock::now();
  CHECK(error_of(std::string(100000, '[') + std::string(100000, ']')) == "doc: nested deeper than 256 levels");
  CHECK(error_of(std::string(100000, '[')) == "doc: not valid JSON: unexpected EOF");
  CHECK(error_of(std::string(kMaxBytes + 1, ' ')) == "doc: 4194305 bytes; at most 4194304 (4 MiB) are accepted");
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(1));
  CHECK(error_of(std::string(200, '[') + std::string(200, ']')).empty());
}

TEST_CASE("a value can tell whether it is empty") {
  const auto document = Document::parse(R"({"a":[],"b":{},"c":"","d":null,"e":0,"f":[0],"g":false})", "doc");
  REQUIRE(document);
  std::string empty;
  CHECK(document->root().each_member([&](std::string_view key, const Value& value) -> Result<> {
    if (value.empty()) empty += key;
    return {};
  }));
  CHECK(empty == "abcd");
  CHECK(Value().empty());
  CHECK_FALSE(Value().present());
}

TEST_CASE("an array of records has a limit") {
  std::string bytes = "[";
  for (size_t i = 0; i <= kMaxRecords; ++i) bytes += i == 0 ? "[]" : ",[]";
  bytes += ']';
  const auto document = Document::parse(bytes, "doc");
  REQUIRE(document);
  std::vector<std::vector<std::string>> records;
  const auto read_all = read(document->root(), records);
  REQUIRE_FALSE(read_all);
  CHECK(read_all.error().text == "doc: more than 100000 entries");
}

void fill(Writer& out) {
  out.begin_object().member("text", "a\"b\n").member("yes", true).member("number", -1).member("big", UINT64_MAX);
  out.list("none", std::vector<std::string>{}).list("two", std::vector<int>{1, 2});
  out.key("nothing").null().key("object").begin_object().end_object().end_object();
}

TEST_CASE("the writer has runc's layouts") {
  Writer line;
  fill(line);
  CHECK(line.take() == R"({"text":"a\"b\n","yes":true,"number":-1,"big":18446744073709551615,"none":[],"two":[1,2],)"
                       R"("nothing":null,"object":{}})");
  Writer two(Writer::Layout::kTwoSpaces);
  two.begin_object().member("a", 1).list("b", std::vector<int>{1}).end_object();
  CHECK(two.take() == "{\n  \"a\": 1,\n  \"b\": [\n    1\n  ]\n}");
  Writer tab(Writer::Layout::kTab);
  tab.begin_object().member("a", 1).end_object();
  CHECK(tab.take() == "{\n\t\"a\": 1\n}");
}

TEST_CASE("the writer puts U+FFFD for what is not UTF-8") {
  CHECK(valid_utf8("a\xFFz") == "a\xEF\xBF\xBDz");
  CHECK(valid_utf8("\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80") == "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(valid_utf8("\xED\xA0\x80") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(valid_utf8("\xE2\x82") == "\xEF\xBF\xBD\xEF\xBF\xBD");
  Writer out;
  out.value("\xC0\x80");
  CHECK(error_of(out.take()).empty());
}

}  // namespace
}  // namespace gantry::json
