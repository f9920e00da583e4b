#include <catch2/catch.hpp>
#include <string>

#include "sys/init/passwd.h"
#include "sys/init/text.h"

using namespace gantry::init;

namespace {

/// The home of `uid` in `file`, given in pieces of `piece` bytes; "-" when there is none.
std::string home(const std::string& file, uint32_t uid, size_t piece = 7) {
  HomeFinder finder(uid);
  bool found = false;
  for (size_t at = 0; at < file.size() && !found; at += piece) {
    const std::string part = file.substr(at, piece);
    found = finder.feed(part.data(), part.size());
  }
  if (!found) finder.finish();
  return finder.home() != nullptr ? finder.home() : "-";
}

}  // namespace

TEST_CASE("the first line with the uid gives the home, in pieces of any size") {
  const std::string file =
      "root:x:0:0:root:/root:/bin/sh\n"
      "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
      "other:x:1:1::/never:/bin/sh\n"
      "last:x:1000:1000:a:/home/last:/bin/sh";
  for (const size_t piece : {size_t{1}, size_t{2}, size_t{13}, size_t{4096}}) {
    CHECK(home(file, 0, piece) == "/root");
    CHECK(home(file, 1, piece) == "/usr/sbin");
    CHECK(home(file, 1000, piece) == "/home/last");
    CHECK(home(file, 2, piece) == "-");
  }
  CHECK(home("noshell:x:5:5::/five", 5) == "/five");
  CHECK(home("nohome:x:5:5:::/bin/sh\n", 5) == "-");
  CHECK(home("", 0) == "-");
}

TEST_CASE("a uid is digits only, in range, never a default") {
  for (const char* uid : {"", " 0", "0 ", "+0", "-0", "0x0", "zero", "00000000000", "4294967296", "4294967295", "1e1"})
    CHECK(home(std::string("a:x:") + uid + ":0::/wrong:/bin/sh\n", 0) == "-");
  CHECK(home("a:x:4294967294:0::/most:/bin/sh\n", 4294967294u) == "/most");
  CHECK(home("0:x:7:0::/named:/bin/sh\n", 0) == "-");
  CHECK(home("a:x:007:0::/seven:\n", 7) == "/seven");
}

TEST_CASE("lines that are too long, cut or with NUL are passed over") {
  const std::string huge(HomeFinder::kMaxLine + 1, 'x');
  CHECK(home(huge + "\nroot:x:0:0::/root:/bin/sh\n", 0) == "/root");
  CHECK(home("root:x:0:0:" + huge + ":/long:/bin/sh\nroot:x:0:0::/root:/bin/sh\n", 0, 100) == "/root");
  CHECK(home(std::string("ro\0ot:x:0:0::/nul:\nroot:x:0:0::/root:\n", 38), 0) == "/root");
  CHECK(home("root:x:0\nroot:x:0:0\n::::::\n\n\nroot:x:0:0::/root:\n", 0) == "/root");
  const std::string longest_home = "r:x:0:0::/" + std::string(HomeFinder::kMaxLine - 10, 'h');
  CHECK(home(longest_home + "\n", 0, 1000).size() == HomeFinder::kMaxLine - 9);
}

TEST_CASE("bounded texts cut, and know it") {
  Text<8> text("abc");
  text.add_number(12).add_signed(-3);
  CHECK(std::string(text.get()) == "abc12-3");
  CHECK_FALSE(text.cut());
  text.add("x");
  CHECK(text.cut());
  CHECK(std::string(text.get()) == "abc12-3");
  text.shorten(2);
  CHECK(std::string(text.get()) == "ab");
  Text<32> number;
  number.add_number(~uint64_t{0}).add(" ").add_number(01755, 8);
  CHECK(std::string(number.get()) == "18446744073709551615 1755");
  Text<32> least;
  least.add_signed(INT64_MIN);
  CHECK(std::string(least.get()) == "-9223372036854775808");
}
