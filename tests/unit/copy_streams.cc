// Copying on the loop: turns, stalls, ends, terminals.
#include <fcntl.h>
#include <pty.h>
#include <termios.h>

#include <catch2/catch.hpp>
#include <fstream>

#include "engine/supervisor/copy_stream.h"
#include "io/scope.h"
#include "io/timer.h"
#include "tests/unit/copy_support.h"

namespace gantry::copy_test {
namespace {

LogOptions options_at(const std::string& path) {
  LogOptions options;
  options.path = path;
  return options;
}

Copier make_copier() {
  Result<Copier> copier = Copier::make();
  REQUIRE(copier);
  return *std::move(copier);
}

void put(const Pipe& pipe, std::string_view text) {
  REQUIRE(::write(pipe.write.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string logged(const LogFile& log) {
  return decode_log(log, {}).streams[0];
}

/// What the flood has come to when the other stream's line is in its log.
io::Task<> note_first(io::Loop& loop, Copier& copier, StreamId quiet, StreamId flood, uint64_t& offset) {
  while (copier.progress(quiet).offset == 0) co_await io::yield_now(loop);
  offset = copier.progress(flood).offset;
}

io::Task<Result<>> run_both(io::Loop& loop, io::Task<Result<>> a, io::Task<Result<>> b, io::Task<> c) {
  io::Scope scope(loop);
  scope.spawn(std::move(a));
  scope.spawn(std::move(b));
  scope.spawn(std::move(c));
  Result<> joined = co_await scope.join();
  co_return joined;
}

io::Task<> make_room(io::Loop& loop, std::string directory, const Copier& copier, bool& stalled, bool& other_done) {
  while (!copier.stalled(1)) co_await io::yield_now(loop);
  stalled = true;
  while (copier.progress({2, 0}).offset == 0) co_await io::yield_now(loop);
  other_done = !copier.stalled(2) && copier.stalled(1);
  std::filesystem::create_directory(directory);
}

}  // namespace

TEST_CASE("a flood gives way after each batch") {
  TempDir dir;
  io::Loop loop;
  Copier copier = make_copier();
  LogFile flood_log(options_at(dir.file("flood")));
  LogFile quiet_log(options_at(dir.file("quiet")));
  REQUIRE(copier.open_slot(1));
  REQUIRE(copier.open_slot(2));
  Pipe flood = make_pipe();
  const int size = ::fcntl(flood.write.get(), F_SETPIPE_SZ, 1 << 20);
  REQUIRE(size >= 1 << 20);
  const std::string much = make_output(1, 900'000, false).substr(0, 900'000);
  put(flood, much);
  flood.write.reset();
  Pipe quiet = make_pipe();
  put(quiet, "tick\n");
  quiet.write.reset();
  uint64_t offset = 0;
  const Result<> done = loop.run(run_both(loop, copy_stream(loop, copier, {1, 0}, flood.read.get(), flood_log),
                                          copy_stream(loop, copier, {2, 0}, quiet.read.get(), quiet_log),
                                          note_first(loop, copier, {2, 0}, {1, 0}, offset)));
  CHECK(done);
  CHECK(offset <= 2 * kCopyBatch);
  CHECK(difference(logged(flood_log), much) == "");
  CHECK(logged(quiet_log) == "tick\n");
}

TEST_CASE("several floods take smaller turns, and so does one with a small log") {
  TempDir dir;
  Copier copier = make_copier();
  LogOptions small = options_at(dir.file("small"));
  small.max_size = 1 << 20;
  LogFile log(options_at(dir.file("log")));
  LogFile small_log(small);
  REQUIRE(copier.open_slot(0));
  REQUIRE(copier.open_slot(1));
  const Pipe pipe = make_pipe();
  REQUIRE(::fcntl(pipe.write.get(), F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
  put(pipe, make_output(1, 900'000, false).substr(0, 900'000));
  REQUIRE(*copier.step({0, 0}, pipe.read.get(), log) == Copier::Moved::kBytes);
  CHECK(copier.progress({0, 0}).offset == kCopyBatch);
  copier.floods() = 2;
  REQUIRE(*copier.step({0, 0}, pipe.read.get(), log) == Copier::Moved::kBytes);
  CHECK(copier.progress({0, 0}).offset == kCopyBatch + kSmallBatch);
  copier.floods() = 1;
  REQUIRE(*copier.step({1, 0}, pipe.read.get(), small_log) == Copier::Moved::kBytes);
  CHECK(copier.progress({1, 0}).offset == kSmallBatch);
}

/// The largest size of the pipe and the most floods while `id` comes to `bytes`.
io::Task<> watch(io::Loop& loop, Copier& copier, StreamId id, uint64_t bytes, int pipe, int& size, unsigned& floods) {
  while (copier.progress(id).offset < bytes) {
    co_await io::yield_now(loop);
    size = std::max(size, ::fcntl(pipe, F_GETPIPE_SZ));
    floods = std::max(floods, copier.floods());
  }
}

io::Task<Result<>> run_watched(io::Loop& loop, io::Task<Result<>> a, io::Task<Result<>> b, io::Task<> c, io::Task<> d) {
  io::Scope scope(loop);
  scope.spawn(std::move(a));
  scope.spawn(std::move(b));
  scope.spawn(std::move(c));
  scope.spawn(std::move(d));
  Result<> joined = co_await scope.join();
  co_return joined;
}

TEST_CASE("floods are counted, and their pipes are large as long as they last") {
  TempDir dir;
  io::Loop loop;
  Copier copier = make_copier();
  LogFile first_log(options_at(dir.file("first")));
  LogFile second_log(options_at(dir.file("second")));
  REQUIRE(copier.open_slot(1));
  REQUIRE(copier.open_slot(2));
  Pipe first = make_pipe();
  Pipe second = make_pipe();
  constexpr int kSize = 512 << 10;
  const std::string much = make_output(1, 400'000, false).substr(0, 400'000);
  for (Pipe* const pipe : {&first, &second}) {
    REQUIRE(::fcntl(pipe->write.get(), F_SETPIPE_SZ, kSize) == kSize);
    put(*pipe, much);
    pipe->write.reset();
  }
  int sizes[2] = {};
  unsigned floods = 0;
  const Result<> done =
      loop.run(run_watched(loop, copy_stream(loop, copier, {1, 0}, first.read.get(), first_log),
                           copy_stream(loop, copier, {2, 0}, second.read.get(), second_log),
                           watch(loop, copier, {1, 0}, 400'000, first.read.get(), sizes[0], floods),
                           watch(loop, copier, {2, 0}, 400'000, second.read.get(), sizes[1], floods)));
  CHECK(done);
  CHECK(floods == 2);
  CHECK(copier.floods() == 0);
  CHECK(sizes[0] == 1 << 20);
  CHECK(sizes[1] == 1 << 20);
  CHECK(::fcntl(first.read.get(), F_GETPIPE_SZ) == kSize);
  CHECK(difference(logged(first_log), much) == "");
  CHECK(difference(logged(second_log), much) == "");
}

TEST_CASE("a log that takes no bytes stops only its own container, and goes on when it can") {
  TempDir dir;
  io::Loop loop;
  Copier copier = make_copier();
  LogFile stuck_log(options_at(dir.file("missing/log")));
  LogFile other_log(options_at(dir.file("other")));
  REQUIRE(copier.open_slot(1));
  REQUIRE(copier.open_slot(2));
  Pipe stuck = make_pipe();
  put(stuck, "kept\nand kept");
  stuck.write.reset();
  Pipe other = make_pipe();
  put(other, "passes\n");
  other.write.reset();
  bool stalled = false;
  bool other_done = false;
  const Result<> done = loop.run(run_both(loop, copy_stream(loop, copier, {1, 0}, stuck.read.get(), stuck_log),
                                          copy_stream(loop, copier, {2, 0}, other.read.get(), other_log),
                                          make_room(loop, dir.file("missing"), copier, stalled, other_done)));
  CHECK(done);
  CHECK(stalled);
  CHECK(other_done);
  CHECK(copier.stall().text.find("missing/log: no such file or directory") != std::string::npos);
  CHECK(logged(stuck_log) == "kept\nand kept");
  CHECK(logged(other_log) == "passes\n");
}

TEST_CASE("the last bytes arrive although a grandchild holds the pipe") {
  TempDir dir;
  io::Loop loop;
  Copier copier = make_copier();
  LogFile log(options_at(dir.file("log")));
  REQUIRE(copier.open_slot(0));
  const Pipe pipe = make_pipe();
  REQUIRE(::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) == 0);
  put(pipe, "last words");
  const Result<bool> all =
      loop.run(drain_stream(loop, copier, {0, 0}, pipe.read.get(), log, io::Deadline::in_ms(10'000)));
  REQUIRE(all);
  CHECK(*all);
  CHECK(logged(log) == "last words");
  REQUIRE(*copier.finish_stream({0, 0}, log) == Copier::Moved::kEnd);
  CHECK(decode_log(log, {}).ends[0] == 1);
}

io::Task<Result<bool>> drain_when_there_is_room(io::Loop& loop, Copier& copier, int source, LogFile& log,
                                                std::string directory) {
  const io::Deadline soon = io::Deadline::in_ms(0);
  GANTRY_CO_LET(const bool early, co_await drain_stream(loop, copier, {0, 0}, source, log, soon));
  if (early) co_return fail("there was no room");
  std::filesystem::create_directory(directory);
  const io::Deadline later = io::Deadline::in_ms(10'000);
  Result<bool> all = co_await drain_stream(loop, copier, {0, 0}, source, log, later);
  co_return all;
}

TEST_CASE("what waited for the log does not count for what is in the pipe") {
  TempDir dir;
  io::Loop loop;
  Copier copier = make_copier();
  LogFile log(options_at(dir.file("missing/log")));
  REQUIRE(copier.open_slot(0));
  const Pipe pipe = make_pipe();
  REQUIRE(::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK) == 0);
  REQUIRE(::fcntl(pipe.write.get(), F_SETPIPE_SZ, 1 << 20) >= 1 << 20);
  const std::string much = make_output(1, 1'800'000, false);
  put(pipe, std::string_view(much).substr(0, 900'000));
  REQUIRE(*copier.step({0, 0}, pipe.read.get(), log) == Copier::Moved::kStalled);
  put(pipe, std::string_view(much).substr(900'000, 200'000));
  // The other end stays open: a grandchild has it.
  const Result<bool> all = loop.run(drain_when_there_is_room(loop, copier, pipe.read.get(), log, dir.file("missing")));
  REQUIRE(all);
  CHECK(*all);
  CHECK(difference(logged(log), much.substr(0, 1'100'000)) == "");
}

TEST_CASE("a log is there when any of its files is, or when nobody can tell") {
  TempDir dir;
  const LogFile log(options_at(dir.file("log")));
  CHECK_FALSE(log.has_files());
  CHECK_FALSE(LogFile(options_at(dir.file("missing/log"))).has_files());
  std::ofstream(dir.file("log.3")) << "kept\n";
  CHECK(log.has_files());
  class Broken final : public CopyCalls {
    int lstat(const std::string&, struct stat&) override {
      errno = EIO;
      return -1;
    }
  } broken;
  CHECK(LogFile(options_at(dir.file("other")), broken).has_files());
}

TEST_CASE("a terminal is copied to its last byte") {
  TempDir dir;
  io::Loop loop;
  Copier copier = make_copier();
  LogFile log(options_at(dir.file("log")));
  REQUIRE(copier.open_slot(0));
  int master = -1;
  int slave = -1;
  REQUIRE(::openpty(&master, &slave, nullptr, nullptr, nullptr) == 0);
  const sys::Fd source(master);
  REQUIRE(::fcntl(master, F_SETFL, O_NONBLOCK) == 0);
  termios raw{};
  REQUIRE(::tcgetattr(slave, &raw) == 0);
  ::cfmakeraw(&raw);
  REQUIRE(::tcsetattr(slave, TCSANOW, &raw) == 0);
  const std::string output = make_output(3, 3000, true).substr(0, 3000);
  REQUIRE(::write(slave, output.data(), output.size()) == static_cast<ssize_t>(output.size()));
  ::close(slave);
  const Result<> done = loop.run(copy_stream(loop, copier, {0, 0}, master, log));
  CHECK(done);
  CHECK(difference(logged(log), output) == "");
}

TEST_CASE("logs are refused where an append can hang, and where they are no files") {
  class OnNfs final : public CopyCalls {
    int filesystem_type(int fd, int64_t& magic) override {
      static_cast<void>(fd);
      magic = 0x6969;
      return 0;
    }
  } nfs;
  TempDir dir;
  LogFile remote(options_at(dir.file("log")), nfs);
  REQUIRE(remote.prepare());
  CHECK(remote.check_local().error().text.find("is on NFS, where an append can hang") != std::string::npos);
  LogFile local(options_at(dir.file("log")));
  REQUIRE(local.prepare());
  CHECK(local.check_local());
  std::filesystem::create_symlink(dir.file("log"), dir.file("link"));
  CHECK(
      LogFile(options_at(dir.file("link"))).prepare().error().text.ends_with("is a symlink; give the file's own path"));
  CHECK(LogFile(options_at("/dev/null")).prepare().error().text == "log /dev/null: is not a regular file");
  LogFile deep(options_at(dir.file("a/b/log")));
  REQUIRE(deep.prepare());
  struct stat made{};
  REQUIRE(::stat(dir.file("a/b").c_str(), &made) == 0);
  CHECK((made.st_mode & 07777) == 0750);
}

TEST_CASE("output without a log is read and forgotten") {
  Copier copier = make_copier();
  LogOptions none;
  none.driver = LogDriver::kNone;
  LogFile log(none);
  REQUIRE(log.prepare());
  REQUIRE(copier.open_slot(9));
  Pipe pipe = make_pipe();
  put(pipe, "nobody reads this");
  pipe.write.reset();
  CHECK(*copier.step({9, 1}, pipe.read.get(), log) == Copier::Moved::kBytes);
  CHECK(*copier.step({9, 1}, pipe.read.get(), log) == Copier::Moved::kEnd);
  CHECK(copier.progress({9, 1}).offset == 17);
}

}  // namespace gantry::copy_test
