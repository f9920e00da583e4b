// Logs and the copier's journal. The first byte of the input says what the rest is:
//   even: the contents of a log. Reading never crashes, forwards and backwards agree, and what a formatter makes of
//         these bytes reads back as them.
//   odd:  the shared batch of a journal, a slot's record and what is in the staging pipe, in the hands of somebody
//         hostile. Adopting it ends in an error or in a working copier.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "engine/supervisor/copier.h"
#include "engine/supervisor/log_reader.h"
#include "sys/text.h"

namespace gantry {
namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_format(std::string_view bytes, LogDriver driver) {
  BatchInput input;
  input.driver = driver;
  input.data = bytes.substr(0, kCopyBatch);
  input.time = {static_cast<int64_t>(bytes.size()) * 1'000'003, 7, -3600};
  BatchFormatter formatter(input);
  std::vector<char> room(kMaxRecord);
  std::string back;
  while (const size_t size = formatter.fill(room, 1)) {
    const LogRecord record = parse_log_record(std::string_view(room.data(), size - 1));
    require(record.kind == LogRecord::Kind::kPiece && record.time.seconds == input.time.seconds);
    back += record.text;
    if (record.newline) back += '\n';
  }
  require(back == input.data);
}

std::vector<std::string> read_all_records(const std::string& path, std::optional<uint64_t> tail) {
  LogQuery query;
  query.path = path;
  query.tail = tail;
  Result<LogReader> reader = LogReader::open(query);
  require(reader.has_value());
  std::vector<std::string> out;
  for (;;) {
    Result<std::optional<LogRecord>> next = reader->next();
    require(next.has_value());
    if (!*next) return out;
    out.push_back((*next)->text);
  }
}

void check_reader(std::string_view bytes) {
  static const std::string path = cat("/tmp/gantry-fuzz-log-", ::getpid());
  const sys::Fd fd(::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
  require(fd && ::write(fd.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
  const std::vector<std::string> all = read_all_records(path, std::nullopt);
  require(read_all_records(path, UINT64_MAX) == all);
  const std::vector<std::string> tail = read_all_records(path, 3);
  require(tail.size() <= all.size() && std::equal(tail.rbegin(), tail.rend(), all.rbegin()));
  ::unlink(path.c_str());
}

/// A log in memory that nobody can rotate.
class MemoryCalls final : public CopyCalls {
  int open(const std::string& path, int flags, mode_t mode) override {
    static_cast<void>(path), static_cast<void>(flags), static_cast<void>(mode);
    return ::memfd_create("log", MFD_CLOEXEC);
  }
  int lstat(const std::string& path, struct stat& into) override {
    static_cast<void>(path), static_cast<void>(into);
    errno = ENOENT;
    return -1;
  }
  int rename(const std::string& from, const std::string& to) override {
    static_cast<void>(from), static_cast<void>(to);
    errno = ENOENT;
    return -1;
  }
  int unlink(const std::string& path) override {
    static_cast<void>(path);
    return 0;
  }
};

void check_journal(std::string_view bytes) {
  MemoryCalls calls;
  Result<Copier> made = Copier::make(calls);
  require(made && made->open_slot(5));
  const Copier::Descriptors fds = made->descriptors();
  const auto take = [&bytes](size_t most) {
    const std::string_view part = bytes.substr(0, most);
    bytes.remove_prefix(part.size());
    return part;
  };
  const std::string_view batch = take(160);
  require(::pwrite(fds.journal, batch.data(), batch.size(), 4096) == static_cast<ssize_t>(batch.size()));
  const std::string_view slot = take(64);
  const off_t slot_at = 4096 + static_cast<off_t>(sizeof(CopyBatch)) + 5 * static_cast<off_t>(sizeof(SlotRecord));
  require(::pwrite(fds.journal, slot.data(), slot.size(), slot_at) == static_cast<ssize_t>(slot.size()));
  const std::string_view staged = take(4096);
  require(::write(fds.staging_write, staged.data(), staged.size()) == static_cast<ssize_t>(staged.size()));
  Result<Copier> copier = Copier::adopt(sys::Fd(::dup(fds.journal)), sys::Fd(::dup(fds.staging_read)),
                                        sys::Fd(::dup(fds.staging_write)), calls);
  if (!copier) return;
  LogOptions options;
  options.path = "/log";
  options.max_size = 500;
  LogFile log(options, calls);
  if (!copier->recover([&log](unsigned number) { return number == 5 ? &log : nullptr; })) return;
  int ends[2];
  require(::pipe2(ends, O_CLOEXEC) == 0);
  const sys::Fd source(ends[0]);
  sys::Fd writer(ends[1]);
  require(::write(writer.get(), "one\ntwo", 7) == 7);
  writer.reset();
  const Result<Copier::Moved> moved = copier->step({5, 0}, source.get(), log);
  require(!moved || *moved != Copier::Moved::kNothing);
  static_cast<void>(copier->finish_stream({5, 0}, log));
  copier->close_slot(5);
}

}  // namespace
}  // namespace gantry

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 != 0) {
    gantry::check_journal(bytes);
    return 0;
  }
  gantry::check_format(bytes, gantry::LogDriver::kCri);
  gantry::check_format(bytes, gantry::LogDriver::kJson);
  gantry::check_reader(bytes);
  return 0;
}
