// Values of flags: signals (KD-01), users (EX-06), sizes (UP-03) and the resources of update (UP-02).
#include "cli/values.h"

#include <catch2/catch.hpp>
#include <csignal>

#include "cli/update_flags.h"

namespace gantry::cli {
namespace {

template <class T>
std::string error_of(const Result<T>& result) {
  return result ? "" : result.error().text;
}

TEST_CASE("KD-01 signals") {
  for (const std::string_view text : {"", "15", "TERM", "SIGTERM", "sigterm", "Term", "+15"})
    CHECK(parse_signal(text) == SIGTERM);
  CHECK(parse_signal("kill") == SIGKILL);
  CHECK(parse_signal("SIGUSR2") == SIGUSR2);
  CHECK(parse_signal("RTMIN") == SIGRTMIN);
  CHECK(parse_signal("SIGRTMIN+3") == SIGRTMIN + 3);
  CHECK(parse_signal("rtmax-1") == SIGRTMAX - 1);
  // Numbers are the kernel's to judge.
  CHECK(parse_signal("0") == 0);
  CHECK(parse_signal("99") == 99);
  CHECK(parse_signal("-9") == -9);
  for (const std::string_view bad :
       {"FOO", "SIG", "SIGSIGTERM", "9x", "RTMIN+99", "RTMIN-1", "RTMAX+1", "RTMIN+", " 9"})
    CHECK(error_of(parse_signal(bad)) == "unknown signal \"" + std::string(bad) + "\"");
  CHECK(error_of(parse_signal("a\n\"")) == "unknown signal \"a\\n\\\"\"");
}

TEST_CASE("EX-06 users are numbers") {
  const auto both = parse_user("1000:50");
  REQUIRE(both);
  CHECK(both->uid == 1000);
  CHECK(both->gid == 50U);
  const auto alone = parse_user("7");
  REQUIRE(alone);
  CHECK(alone->uid == 7);
  CHECK_FALSE(alone->gid);
  CHECK(error_of(parse_user("foo")) == "bad uid: strconv.Atoi: parsing \"foo\": invalid syntax");
  CHECK(error_of(parse_user("1:foo")) == "bad gid: strconv.Atoi: parsing \"foo\": invalid syntax");
  CHECK(error_of(parse_user("1:")) == "bad gid: strconv.Atoi: parsing \"\": invalid syntax");
  CHECK(error_of(parse_user(":1")) == "bad uid: strconv.Atoi: parsing \"\": invalid syntax");
  CHECK(error_of(parse_user("99999999999999999999")) ==
        "bad uid: strconv.Atoi: parsing \"99999999999999999999\": value out of range");
  CHECK(error_of(parse_user("-1")) == "bad uid: -1 is not in 0..4294967294");
  CHECK(error_of(parse_user("4294967295")) == "bad uid: 4294967295 is not in 0..4294967294");
}

TEST_CASE("UP-03 sizes") {
  CHECK(parse_size("-1") == -1);
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("1024") == 1024);
  CHECK(parse_size("10b") == 10);
  for (const std::string_view text : {"64m", "64M", "64mb", "64MB", "64MiB", "64 m", "64 MiB"})
    CHECK(parse_size(text) == 64 << 20);
  CHECK(parse_size("1.5k") == 1536);
  CHECK(parse_size("2g") == int64_t{2} << 30);
  CHECK(parse_size("1p") == int64_t{1} << 50);
  CHECK(error_of(parse_size("xx")) == "invalid size: 'xx'");
  CHECK(error_of(parse_size("")) == "invalid size: ''");
  CHECK(error_of(parse_size("-2")) == "invalid size: '-2'");
  CHECK(error_of(parse_size("9999999p")) == "invalid size: '9999999p'");
  CHECK(error_of(parse_size("1.2.3k")) == "invalid size: '1.2.3k'");
  CHECK(error_of(parse_size("1x")) == "invalid suffix: 'x'");
  CHECK(error_of(parse_size("1mm")) == "invalid suffix: 'mm'");
}

Result<Resources> update(std::vector<std::string_view> words) {
  words.emplace_back("id");
  auto flags = parse_options(kUpdateFlags, words, Order::kAnywhere);
  REQUIRE(flags);
  return update_resources(*flags);
}

TEST_CASE("UP-02 only what is given is set") {
  const auto nothing = update({});
  REQUIRE(nothing);
  CHECK_FALSE(nothing->memory.limit);
  CHECK_FALSE(nothing->pids_limit);
  CHECK_FALSE(nothing->cpu.shares);
  const auto some = update({"--memory", "64m", "--memory-swap=-1", "--pids-limit", "20", "--cpu-share", "512",
                            "--cpu-quota=-1", "--cpuset-cpus", "0-1", "--blkio-weight", "100"});
  REQUIRE(some);
  CHECK(some->memory.limit == 64 << 20);
  CHECK(some->memory.swap == -1);
  CHECK(some->pids_limit == 20);
  CHECK(some->cpu.shares == 512U);
  CHECK(some->cpu.quota == -1);
  CHECK(some->cpu.cpus == "0-1");
  CHECK(some->blkio.weight == 100);
}

TEST_CASE("UP-02, UP-03, UP-05 bad values are named") {
  CHECK(error_of(update({"--cpu-period", "xx"})) ==
        "invalid value for cpu-period: strconv.ParseUint: parsing \"xx\": invalid syntax");
  CHECK(error_of(update({"--cpu-share=-1"})) ==
        "invalid value for cpu-share: strconv.ParseUint: parsing \"-1\": invalid syntax");
  CHECK(error_of(update({"--memory", "xx"})) == "invalid value for memory: invalid size: 'xx'");
  CHECK(error_of(update({"--l3-cache-schema", "x"})) == "Intel RDT/CAT: l3 cache schema is not enabled");
}

}  // namespace
}  // namespace gantry::cli
