#include "engine/supervisor/copy_journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/supervisor/log_options.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr uint64_t kMagic = 0x3179706f63746e67;  // "gntcopy1"
constexpr uint32_t kVersion = 2;
constexpr size_t kHeaderSize = 4096;
constexpr size_t kSharedAt = kHeaderSize;
constexpr size_t kSlotsAt = kSharedAt + sizeof(CopyBatch);
constexpr size_t kOwnAt = kSlotsAt + kCopySlots * sizeof(SlotRecord);
constexpr size_t kFileSize = kOwnAt + kCopySlots * sizeof(CopyBatch);
static_assert(kOwnAt % 4096 == 0 && sizeof(CopyHeader) <= kHeaderSize);
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

size_t own_at(unsigned slot) {
  return kOwnAt + slot * sizeof(CopyBatch);
}

std::unexpected<Error> broken(std::string_view what) {
  return fail(cat("journal of the copier: ", what));
}

}  // namespace

Result<CopyMemory> CopyMemory::map(sys::Fd fd, CopyCalls& calls) {
  void* const base = ::mmap(nullptr, kOwnAt, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return fail_errno(errno, "journal of the copier: mmap");
  return CopyMemory(std::move(fd), static_cast<char*>(base), calls);
}

Result<CopyMemory> CopyMemory::make(CopyCalls& calls) {
  sys::Fd fd(::memfd_create("gantry-copy", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail_errno(errno, "journal of the copier: memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(kFileSize)) != 0)
    return fail_errno(errno, "journal of the copier: ftruncate");
  // A page that cannot be had later would be SIGBUS.
  if (::fallocate(fd.get(), 0, 0, static_cast<off_t>(kSlotsAt)) != 0)
    return fail_errno(errno, "journal of the copier: fallocate");
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno(errno, "journal of the copier: F_ADD_SEALS");
  GANTRY_LET(CopyMemory memory, map(std::move(fd), calls));
  const CopyHeader header{kMagic, kVersion, kCopySlots};
  std::memcpy(memory.base_, &header, sizeof header);
  return memory;
}

Result<CopyMemory> CopyMemory::adopt(sys::Fd fd, CopyCalls& calls) {
  struct stat file{};
  if (::fstat(fd.get(), &file) != 0) return fail_errno(errno, "journal of the copier: fstat");
  if (file.st_size != static_cast<off_t>(kFileSize)) return broken(cat("is ", file.st_size, " bytes long"));
  // Whoever could shorten the file could kill us with SIGBUS.
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return broken("is no sealed memfd");
  GANTRY_LET(CopyMemory memory, map(std::move(fd), calls));
  CopyHeader header{};
  std::memcpy(&header, memory.base_, sizeof header);
  if (header.magic != kMagic) return broken("bad magic number");
  if (header.version != kVersion) return broken(cat("version ", header.version, ", not ", kVersion));
  if (header.slots != kCopySlots) return broken(cat(header.slots, " slots, not ", kCopySlots));
  GANTRY_TRY(check_batch(memory.shared()));
  return memory;
}

CopyMemory::CopyMemory(CopyMemory&& other) noexcept
    : fd_(std::move(other.fd_)), base_(std::exchange(other.base_, nullptr)), calls_(other.calls_) {}

CopyMemory& CopyMemory::operator=(CopyMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(base_, other.base_);
  std::swap(calls_, other.calls_);
  return *this;
}

CopyMemory::~CopyMemory() {
  if (base_ != nullptr) ::munmap(base_, kOwnAt);
}

CopyBatch& CopyMemory::shared() const {
  return *reinterpret_cast<CopyBatch*>(base_ + kSharedAt);
}

SlotRecord& CopyMemory::slot(unsigned slot) const {
  return reinterpret_cast<SlotRecord*>(base_ + kSlotsAt)[slot];
}

Result<CopyBatch*> CopyMemory::map_own(unsigned slot) const {
  void* const at = ::mmap(nullptr, sizeof(CopyBatch), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(),
                          static_cast<off_t>(own_at(slot)));
  if (at == MAP_FAILED) return fail_errno(errno, "journal of the copier: mmap");
  return static_cast<CopyBatch*>(at);
}

void CopyMemory::unmap_own(CopyBatch* batch) const {
  ::munmap(batch, sizeof(CopyBatch));
}

Result<> CopyMemory::reserve_own(unsigned slot, uint64_t count) const {
  if (calls_->fallocate(fd_.get(), 0, static_cast<off_t>(own_at(slot)),
                        static_cast<off_t>(offsetof(CopyBatch, data) + count)) != 0)
    return fail_errno(errno, "journal of the copier: fallocate");
  return {};
}

void CopyMemory::free_own(unsigned slot) const {
  calls_->fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(own_at(slot)),
                    sizeof(CopyBatch));
}

Result<> CopyMemory::reserve_slot(unsigned slot) const {
  const size_t at = kSlotsAt + slot * sizeof(SlotRecord);
  if (calls_->fallocate(fd_.get(), 0, static_cast<off_t>(at), sizeof(SlotRecord)) != 0)
    return fail_errno(errno, "journal of the copier: fallocate");
  return {};
}

Result<> check_batch(const CopyBatch& batch) {
  const uint64_t word = batch.word.load(std::memory_order_acquire);
  if (word == 0) return {};
  const auto phase = static_cast<uint8_t>(word);
  if (phase == 0 || phase > static_cast<uint8_t>(CopyPhase::kCut)) return broken(cat("phase ", phase));
  if (batch.id().slot >= kCopySlots) return broken(cat("slot ", batch.id().slot));
  if (batch.id().stream > 1) return broken(cat("stream ", batch.id().stream));
  if (batch.number() > kMaxLogFiles) return broken(cat("rotates file ", batch.number()));
  if (phase == static_cast<uint8_t>(CopyPhase::kFill) || phase == static_cast<uint8_t>(CopyPhase::kDirect)) return {};
  if (phase == static_cast<uint8_t>(CopyPhase::kShift) && batch.number() == 0) return broken("rotates file 0");
  if (batch.count > kCopyBatch) return broken(cat("a batch of ", batch.count, " bytes"));
  if (batch.driver > static_cast<uint8_t>(LogDriver::kJson)) return broken(cat("log format ", batch.driver));
  if (batch.nanoseconds < 0 || batch.nanoseconds > 999'999'999)
    return broken(cat("a time with ", batch.nanoseconds, " nanoseconds"));
  if (batch.utc_offset <= -86400 || batch.utc_offset >= 86400)
    return broken(cat("a time zone of ", batch.utc_offset, " seconds"));
  if (phase < static_cast<uint8_t>(CopyPhase::kWrite)) return {};
  constexpr uint64_t kMost = uint64_t{1} << 62U;
  if (batch.log_size > kMost || batch.keep_size > kMost) return broken("a log of more than 4 EiB");
  if (batch.keep_count > batch.count) return broken(cat("keeps ", batch.keep_count, " of ", batch.count, " bytes"));
  return {};
}

}  // namespace gantry
