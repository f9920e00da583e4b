// The grammar of the command line, by the rows CL-01 to CL-09.
#include "cli/options.h"

#include <array>
#include <catch2/catch.hpp>
#include <vector>

namespace gantry::cli {
namespace {

constexpr std::array<Flag, 6> kFlags{{
    {"bundle", "b", Kind::kText, "DIR", ""},
    {"force", "f", Kind::kBool, "", ""},
    {"env", "e", Kind::kList, "K=V", ""},
    {"gids", "g", Kind::kIntList, "N", ""},
    {"preserve-fds", "", Kind::kInt, "N", ""},
    {"no-subreaper", "", Kind::kBool, "", ""},
}};

using Words = std::vector<std::string_view>;
using Texts = std::vector<std::string>;

Parsed parsed(const Words& words, Order order = Order::kAnywhere) {
  auto result = parse_options(kFlags, words, order);
  INFO((result ? "" : result.error().text));
  REQUIRE(result);
  return std::move(*result);
}

std::string refusal(const Words& words, Order order = Order::kAnywhere) {
  const auto result = parse_options(kFlags, words, order);
  return result ? "" : result.error().text;
}

TEST_CASE("CL-02 one dash, two dashes and = mean the same") {
  for (const Words& words : {Words{"-bundle", "x"}, Words{"--bundle", "x"}, Words{"-bundle=x"}, Words{"--bundle=x"},
                             Words{"-b", "x"}, Words{"--b", "x"}, Words{"-b=x"}})
    CHECK(parsed(words).text("bundle") == "x");
  CHECK(parsed({"-no-subreaper"}).on("no-subreaper"));
  CHECK(parsed({"--bundle=a=b"}).text("bundle") == "a=b");
  CHECK(parsed({"--bundle="}).text("bundle").empty());
  CHECK(parsed({"--bundle="}).given("bundle"));
}

TEST_CASE("CL-02 booleans take Go's words, and only behind =") {
  for (const std::string_view yes : {"--force", "--force=true", "-f=1", "-f=t", "-f=T", "-f=TRUE", "-f=True"})
    CHECK(parsed({yes}).on("force"));
  for (const std::string_view no : {"--force=false", "-f=0", "-f=f", "-f=F", "-f=FALSE", "-f=False"})
    CHECK_FALSE(parsed({no}).on("force"));
  CHECK(parsed({"--force", "false"}).args == Texts{"false"});
  CHECK(refusal({"--force=xx"}) == "invalid boolean value \"xx\" for -force: parse error");
  CHECK(refusal({"-f=yes"}) == "invalid boolean value \"yes\" for -f: parse error");
  CHECK(refusal({"--force="}) == "invalid boolean value \"\" for -force: parse error");
  CHECK(refusal({"-h=x"}) == "invalid boolean value \"x\" for -h: parse error");
}

TEST_CASE("CL-02 no clustering; -- ends the flags; a lone dash is a positional") {
  CHECK(refusal({"-fb"}) == "flag provided but not defined: -fb");
  CHECK(parsed({"--", "-x", "--force"}).args == Texts{"-x", "--force"});
  CHECK(parsed({"a", "--", "--force"}).args == Texts{"a", "--force"});
  CHECK(parsed({"-"}).args == Texts{"-"});
  CHECK(parsed({"--bundle", "--", "a"}).text("bundle") == "--");
  CHECK(parsed({"--bundle", "--force", "a"}).text("bundle") == "--force");
  CHECK(refusal({"---x"}) == "bad flag syntax: ---x");
  CHECK(refusal({"--=x"}) == "bad flag syntax: --=x");
}

TEST_CASE("CL-03 known flags may follow positionals, unknown ones stay positional") {
  const Parsed late = parsed({"id", "--force", "-b", "x"});
  CHECK(late.args == Texts{"id"});
  CHECK(late.on("force"));
  CHECK(late.text("bundle") == "x");
  CHECK(parsed({"id", "-9"}).args == Texts{"id", "-9"});
  CHECK(parsed({"id", "--other"}).args == Texts{"id", "--other"});
  CHECK(refusal({"id", "--force=xx"}) == "invalid boolean value \"xx\" for -force: parse error");
  CHECK(refusal({"id", "--bundle"}) == "flag needs an argument: -bundle");
  CHECK(parsed({"id", "-h"}).help);
}

TEST_CASE("CL-03 exec and ps pass everything behind the id on") {
  const Parsed exec = parsed({"--force", "id", "ls", "--force", "--", "-h", "-e"}, Order::kBeforeArgs);
  CHECK(exec.args == Texts{"id", "ls", "--force", "--", "-h", "-e"});
  CHECK(exec.list("env").empty());
  CHECK_FALSE(exec.help);
  CHECK(parsed({"--", "id", "--force"}, Order::kBeforeArgs).args == Texts{"id", "--force"});
}

TEST_CASE("CL-04 lists accumulate, the last scalar wins, two forms are refused") {
  CHECK(parsed({"-e", "a=1", "-e", "b=2", "x"}).list("env") == Texts{"a=1", "b=2"});
  CHECK(parsed({"-g", "1", "-g=0x10"}).numbers("gids") == std::vector<int64_t>{1, 16});
  CHECK(parsed({"-b", "1", "-b", "2"}).text("bundle") == "2");
  CHECK_FALSE(parsed({"-f", "-f=false"}).on("force"));
  CHECK(refusal({"-e", "a=b", "--env", "c=d"}) == "Cannot use two forms of the same flag: e env");
  CHECK(refusal({"-h", "--help"}) == "Cannot use two forms of the same flag: h help");
}

TEST_CASE("CL-05 help is known everywhere") {
  for (const std::string_view word : {"-h", "--h", "-help", "--help", "--help=1"}) CHECK(parsed({word}).help);
  CHECK_FALSE(parsed({"--help=false"}).help);
}

TEST_CASE("CL-07 argument counts") {
  CHECK(check_arg_count("/usr/bin/runc", "state", {1, 1}, 1).empty());
  CHECK(check_arg_count("/usr/bin/runc", "state", {1, 1}, 0) ==
        "/usr/bin/runc: \"state\" requires exactly 1 argument(s)");
  CHECK(check_arg_count("runc", "list", {0, 0}, 2) == "runc: \"list\" requires exactly 0 argument(s)");
  CHECK(check_arg_count("runc", "exec", {1, -1}, 0) == "runc: \"exec\" requires a minimum of 1 argument(s)");
  CHECK(check_arg_count("runc", "exec", {1, -1}, 99).empty());
  CHECK(check_arg_count("runc", "kill", {1, 2}, 0) == "runc: \"kill\" requires a minimum of 1 argument(s)");
  CHECK(check_arg_count("runc", "kill", {1, 2}, 3) == "runc: \"kill\" requires a maximum of 2 argument(s)");
}

TEST_CASE("CL-08 missing values") {
  CHECK(refusal({"--bundle"}) == "flag needs an argument: -bundle");
  CHECK(refusal({"-b"}) == "flag needs an argument: -b");
  CHECK(refusal({"--env"}) == "flag needs an argument: -env");
}

TEST_CASE("CL-09 unknown flags are named with one dash") {
  CHECK(refusal({"--foo", "id"}) == "flag provided but not defined: -foo");
  CHECK(refusal({"-foo=bar"}) == "flag provided but not defined: -foo");
  CHECK(refusal({"-9", "id"}) == "flag provided but not defined: -9");
}

TEST_CASE("bad numbers") {
  CHECK(refusal({"--preserve-fds", "xx"}) == "invalid value \"xx\" for flag -preserve-fds: parse error");
  CHECK(refusal({"-g", "xx"}) == "invalid value \"xx\" for flag -g: strconv.ParseInt: parsing \"xx\": invalid syntax");
  CHECK(refusal({"--preserve-fds", "99999999999999999999"}) ==
        "invalid value \"99999999999999999999\" for flag -preserve-fds: value out of range");
  CHECK(parsed({"--preserve-fds", "-3"}).number("preserve-fds") == -3);
  CHECK_FALSE(parsed({}).number("preserve-fds"));
}

TEST_CASE("Go's integers") {
  CHECK(parse_go_int("0") == 0);
  CHECK(parse_go_int("+7") == 7);
  CHECK(parse_go_int("-0x1F") == -31);
  CHECK(parse_go_int("0b101") == 5);
  CHECK(parse_go_int("0o17") == 15);
  CHECK(parse_go_int("017") == 15);
  CHECK(parse_go_int("1_000") == 1000);
  CHECK(parse_go_int("0x_ff") == 255);
  CHECK(parse_go_int("-9223372036854775808") == INT64_MIN);
  for (const std::string_view bad :
       {"", "-", "+", "+-1", "--1", "08", "0x", "1_", "_1", "1__0", "1 ", " 1", "0b2", "1e3"})
    CHECK_FALSE(parse_go_int(bad));
}

}  // namespace
}  // namespace gantry::cli
