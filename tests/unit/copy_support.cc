#include "tests/unit/copy_support.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <catch2/catch.hpp>

#include "engine/supervisor/log_record.h"
#include "sys/text.h"

namespace gantry::copy_test {

TempDir::TempDir(Where where) {
  const bool memory = where == Where::kMemory && ::access("/dev/shm", W_OK) == 0;
  std::string name =
      (memory ? std::filesystem::path("/dev/shm") : std::filesystem::temp_directory_path()) / "gantry-copy-XXXXXX";
  REQUIRE(::mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Pipe make_pipe() {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  return {sys::Fd(ends[0]), sys::Fd(ends[1])};
}

namespace {

// A call for each byte would be most of a test's time, as tests are not optimised.
constexpr size_t kPool = 64 << 10;

std::string make_pool(std::string_view alphabet) {
  std::mt19937 random(4711);
  std::string pool(kPool, '\0');
  for (char& byte : pool) byte = alphabet[random() % alphabet.size()];
  return pool;
}

std::string any_byte_but_newline() {
  std::string all;
  for (int byte = 0; byte < 256; ++byte)
    if (byte != '\n') all += static_cast<char>(byte);
  return all;
}

}  // namespace

std::string make_output(unsigned seed, size_t size, bool unfinished) {
  static const std::string letters = make_pool("abcdefghijklmnop"), bytes = make_pool(any_byte_but_newline());
  std::mt19937 random(seed);
  std::string out;
  out.reserve(size + 32'768);
  for (unsigned line = 0; out.size() < size; ++line) {
    out += cat("line ", line, " ");
    const unsigned kind = random() % 64;
    size_t length = random() % 160;
    if (kind == 0) length = 17000 + random() % 3000;
    if (kind == 1) length = 0;
    out.append(kind % 8 == 2 ? bytes : letters, random() % (kPool - 20'000), length);
    if (kind == 3) out += "quote \" backslash \\ caf\xc3\xa9 \xe2\x82\xac";
    out += '\n';
  }
  if (unfinished) out += "no newline here";
  return out;
}

std::string read_whole(const std::string& path) {
  std::string bytes;
  const sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info{};
  if (!file || ::fstat(file.get(), &info) != 0) return bytes;
  bytes.resize(static_cast<size_t>(info.st_size));
  const ssize_t got = ::read(file.get(), bytes.data(), bytes.size());
  REQUIRE(got == info.st_size);
  return bytes;
}

Decoded decode_log(const LogFile& log, const std::array<std::string, 2>& expected) {
  Decoded out;
  for (unsigned number = log.options().max_files; number-- > 0;) {
    const std::string whole = read_whole(log.name(number));
    for (size_t at = 0; at < whole.size();) {
      const size_t end = whole.find('\n', at);
      if (end == whole.npos) {
        ++out.foreign;
        break;
      }
      const LogRecord record = parse_log_record(std::string_view(whole).substr(at, end - at));
      at = end + 1;
      std::string& stream = out.streams[record.stream];
      switch (record.kind) {
        case LogRecord::Kind::kPiece:
          stream += record.text;
          if (record.newline) stream += '\n';
          break;
        case LogRecord::Kind::kLost:
          out.lost[record.stream] += record.lost;
          if (stream.size() <= expected[record.stream].size())
            stream += expected[record.stream].substr(stream.size(), record.lost);
          break;
        case LogRecord::Kind::kEnd:
          ++out.ends[record.stream];
          break;
        case LogRecord::Kind::kForeign:
          ++out.foreign;
          break;
      }
    }
  }
  return out;
}

std::string difference(const std::string& got, const std::string& wanted) {
  if (got == wanted) return {};
  const size_t both = std::min(got.size(), wanted.size());
  const auto [a, b] = std::mismatch(got.begin(), got.begin() + static_cast<ptrdiff_t>(both), wanted.begin());
  const auto at = static_cast<size_t>(a - got.begin());
  const auto part = [&](const std::string& text) {
    std::string shown;
    for (const char c : text.substr(at, 40)) shown += c >= ' ' && c < 127 ? c : '.';
    return shown;
  };
  return cat("got ", got.size(), " bytes, wanted ", wanted.size(), "; they differ at ", at, ": \"", part(got),
             "\", not \"", part(wanted), "\"");
}

}  // namespace gantry::copy_test
