// Reading a log back: rotated files, tail, since, following.
#include <poll.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "engine/supervisor/log_reader.h"
#include "sys/text.h"
#include "tests/unit/copy_support.h"

namespace gantry::copy_test {
namespace {

std::string record(int second, std::string_view stream, std::string_view tag, std::string_view text) {
  return cat("2026-08-19T12:34:", second / 10, second % 10, ".000000000+00:00 ", stream, " ", tag, " ", text, "\n");
}

void append(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::app | std::ios::binary) << text;
}

std::string read_rest(LogReader& reader) {
  std::string out;
  for (;;) {
    const Result<std::optional<LogRecord>> next = reader.next();
    REQUIRE(next);
    if (!*next) return out;
    append_raw(**next, out);
  }
}

std::string read_log(LogQuery query) {
  Result<LogReader> reader = LogReader::open(std::move(query));
  REQUIRE(reader);
  return read_rest(*reader);
}

LogQuery query_of(const std::string& path) {
  LogQuery query;
  query.path = path;
  return query;
}

bool news(const LogReader& reader) {
  pollfd wait{reader.watch().get(), POLLIN, 0};
  return ::poll(&wait, 1, 0) == 1;
}

}  // namespace

TEST_CASE("a log is read over its rotated files, oldest first") {
  TempDir dir;
  const std::string path = dir.file("log");
  append(path + ".2", record(1, "stdout", "F", "one"));
  append(path + ".1",
         record(2, "stdout", "P", "tw") + record(2, "stderr", "F", "error") + record(3, "stdout", "F", "o"));
  append(path, record(4, "stdout", "P", "three") + record(4, "stdout", "F:eof", ""));
  LogQuery query = query_of(path);
  CHECK(read_log(query) == "one\ntwerror\no\nthree");
  query.streams[1] = false;
  CHECK(read_log(query) == "one\ntwo\nthree");
  query.since = parse_log_time("2026-08-19T12:34:03Z");
  CHECK(read_log(query) == "o\nthree");
  CHECK(LogReader::open(query_of(dir.file("none"))).error().sys_errno == ENOENT);
}

TEST_CASE("the tail of a log is found from its end") {
  TempDir dir;
  const std::string path = dir.file("log");
  std::string old;
  for (int i = 0; i < 5000; ++i) old += record(i % 60, "stdout", "F", cat("old ", i));
  append(path + ".1", old);
  append(path, record(1, "stdout", "F", "new 0") + record(1, "stdout", "P", std::string(16000, 'x')) +
                   record(1, "stdout", "F", "new 1") + record(1, "stderr", "F", "error"));
  LogQuery query = query_of(path);
  query.streams[1] = false;
  query.tail = 1;
  CHECK(read_log(query) == std::string(16000, 'x') + "new 1\n");
  query.tail = 3;
  CHECK(read_log(query) == "old 4999\nnew 0\n" + std::string(16000, 'x') + "new 1\n");
  query.tail = 0;
  CHECK(read_log(query).empty());
  query.tail = 3000;
  CHECK(read_log(query).starts_with("old 2002\n"));
  query.tail = 1'000'000;
  CHECK(read_log(query).starts_with("old 0\n"));
  append(path, record(2, "stdout", "P", "unfinished"));
  query.tail = 1;
  CHECK(read_log(query) == "unfinished");
}

TEST_CASE("a log is followed over rotations, ours and others'") {
  TempDir dir;
  const std::string path = dir.file("log");
  append(path, record(1, "stdout", "F", "one"));
  Result<LogReader> reader = LogReader::open(query_of(path), true);
  REQUIRE(reader);
  CHECK(read_rest(*reader) == "one\n");
  reader->drain_watch();
  CHECK(!news(*reader));
  append(path, record(2, "stdout", "F", "two") + "2026-08-19T12:34:5");
  CHECK(news(*reader));
  CHECK(read_rest(*reader) == "two\n");
  // The torn record is cut off and another one written: OnFull::kDrop does so.
  std::filesystem::resize_file(path, 2 * record(1, "stdout", "F", "one").size());
  append(path, record(3, "stdout", "F", "three"));
  CHECK(read_rest(*reader) == "three\n");
  append(path, record(3, "stdout", "F", "last"));
  std::filesystem::rename(path, path + ".1");
  append(path, record(4, "stdout", "F", "four"));
  std::filesystem::rename(path + ".1", path + ".2");
  std::filesystem::rename(path, path + ".1");
  reader->drain_watch();
  append(path, record(5, "stdout", "F", "five"));
  CHECK(news(*reader));
  CHECK(read_rest(*reader) == "last\nfour\nfive\n");
  std::filesystem::rename(path, path + "-20260819");
  CHECK(read_rest(*reader).empty());
  append(path, record(6, "stdout", "F", "six"));
  CHECK(read_rest(*reader) == "six\n");
  reader->drain_watch();
  append(path, record(7, "stdout", "F", "seven"));
  CHECK(news(*reader));
  CHECK(read_rest(*reader) == "seven\n");
  std::filesystem::resize_file(path, 0);
  append(path, record(8, "stdout", "F", "8"));
  CHECK(read_rest(*reader) == "8\n");
}

TEST_CASE("what a copier writes can be followed while it rotates") {
  TempDir dir;
  LogOptions options;
  options.path = dir.file("log");
  options.max_size = 10000;
  options.max_files = 3;
  LogFile log(options);
  REQUIRE(log.prepare());
  Result<Copier> copier = Copier::make();
  REQUIRE(copier);
  REQUIRE(copier->open_slot(0));
  Result<LogReader> reader = LogReader::open(query_of(options.path), true);
  REQUIRE(reader);
  Pipe pipe = make_pipe();
  const std::string output = make_output(5, 200000, true);
  std::string got;
  for (size_t at = 0; at < output.size(); at += 3000) {
    const std::string piece = output.substr(at, 3000);
    REQUIRE(::write(pipe.write.get(), piece.data(), piece.size()) == static_cast<ssize_t>(piece.size()));
    REQUIRE(*copier->step({0, 0}, pipe.read.get(), log) == Copier::Moved::kBytes);
    got += read_rest(*reader);
  }
  CHECK(difference(got, output) == "");
  struct stat file{};
  CHECK(::stat(log.name(0).c_str(), &file) == 0);
  CHECK((file.st_mode & 07777) == 0640);
  CHECK(::stat(log.name(2).c_str(), &file) == 0);
  CHECK(::stat(log.name(3).c_str(), &file) != 0);
}

}  // namespace gantry::copy_test
