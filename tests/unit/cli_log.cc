// Log lines (CL-13, CL-14) and Go's quoting.
#include <catch2/catch.hpp>

#include "engine/go_quote.h"
#include "engine/log.h"

namespace gantry {
namespace {

constexpr std::string_view kTime = "2026-07-14T10:00:00Z";

TEST_CASE("CL-13 text lines") {
  CHECK(format_text_line({LogLevel::kError, "container does not exist", kTime, {}, {}}) ==
        "time=\"2026-07-14T10:00:00Z\" level=error msg=\"container does not exist\"\n");
  CHECK(format_text_line({LogLevel::kWarning, "EOF", kTime, {}, {}}) ==
        "time=\"2026-07-14T10:00:00Z\" level=warning msg=EOF\n");
  CHECK(format_text_line({LogLevel::kError, "No help topic for 'foo'\n", kTime, {}, {}}) ==
        "time=\"2026-07-14T10:00:00Z\" level=error msg=\"No help topic for 'foo'\\n\"\n");
  CHECK(format_text_line({LogLevel::kDebug, "x y", kTime, "main.f()", "utils.go:62"}) ==
        "time=\"2026-07-14T10:00:00Z\" level=debug msg=\"x y\" func=\"main.f()\" file=\"utils.go:62\"\n");
}

TEST_CASE("CL-13 terminal lines") {
  CHECK(format_terminal_line({LogLevel::kError, "short", kTime, {}, {}}, 7) ==
        "\x1b[31mERRO\x1b[0m[0007] short" + std::string(39, ' ') + " \n");
  CHECK(format_terminal_line({LogLevel::kWarning, std::string(50, 'x'), kTime, {}, {}}, 12345) ==
        "\x1b[33mWARN\x1b[0m[12345] " + std::string(50, 'x') + " \n");
}

TEST_CASE("CL-14 JSON lines") {
  CHECK(format_json_line({LogLevel::kError, "a \"b\"\n", kTime, {}, {}}) ==
        "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2026-07-14T10:00:00Z\"}\n");
  CHECK(format_json_line({LogLevel::kError, "a", kTime, "f()", "x.cc:1"}) ==
        "{\"file\":\"x.cc:1\",\"func\":\"f()\",\"level\":\"error\",\"msg\":\"a\",\"time\":\"2026-07-14T10:00:00Z\"}\n");
  CHECK(format_json_line({LogLevel::kError, "\xff", kTime, {}, {}}) ==
        "{\"level\":\"error\",\"msg\":\"\xef\xbf\xbd\",\"time\":\"2026-07-14T10:00:00Z\"}\n");
}

TEST_CASE("quoting as %q does") {
  CHECK(go_quote("") == "\"\"");
  CHECK(go_quote("a\tb\"\\\n") == R"("a\tb\"\\\n")");
  CHECK(go_quote(std::string_view("\0\x1b\x7f", 3)) == R"("\x00\x1b\x7f")");
  CHECK(go_quote("gr\xc3\xbc\xc3\x9f") == "\"gr\xc3\xbc\xc3\x9f\"");
  CHECK(go_quote("\xc3") == R"("\xc3")");
  CHECK(go_quote("\xed\xa0\x80") == R"("\xed\xa0\x80")");
  CHECK(go_quote("\xc2\x85\xe2\x80\xae") == "\"\\u0085\\u202e\"");
  CHECK(go_quote("\xf0\x9f\x98\x80") == "\"\xf0\x9f\x98\x80\"");
  CHECK(go_quote("\xf4\x90\x80\x80") == R"("\xf4\x90\x80\x80")");
}

}  // namespace
}  // namespace gantry
