#include "engine/supervisor/suspects.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <utility>

namespace gantry {
namespace {

constexpr uint32_t kMagic = 0x50535553;  // "SUSP"

}  // namespace

struct Suspects::Place {
  uint32_t key;  ///< 0 = free
  uint32_t active;
  uint32_t crashes;
  uint32_t reserved;
  int64_t first_ns;  ///< of the crashes counted
};

struct Suspects::Table {
  uint32_t magic, places;
  Place place[kPlaces];
};

Result<Suspects> Suspects::map(sys::Fd memfd) {
  void* const at = ::mmap(nullptr, sizeof(Table), PROT_READ | PROT_WRITE, MAP_SHARED, memfd.get(), 0);
  if (at == MAP_FAILED) return fail_errno(errno, "mmap of the suspects");
  return Suspects(std::move(memfd), static_cast<Table*>(at));
}

Result<Suspects> Suspects::make() {
  sys::Fd memfd(::memfd_create("gantry-suspects", MFD_CLOEXEC));
  if (!memfd) return fail_errno(errno, "memfd_create");
  if (::ftruncate(memfd.get(), sizeof(Table)) < 0) return fail_errno(errno, "ftruncate of a memfd");
  GANTRY_LET(Suspects made, map(std::move(memfd)));
  made.table_->places = kPlaces;
  made.table_->magic = kMagic;
  return made;
}

Result<Suspects> Suspects::adopt(sys::Fd memfd) {
  struct stat info;
  if (::fstat(memfd.get(), &info) < 0) return fail_errno(errno, "fstat of the suspects");
  if (info.st_size != sizeof(Table)) return fail("the suspects of the last supervisor have another size than ours");
  GANTRY_LET(Suspects adopted, map(std::move(memfd)));
  if (adopted.table_->magic != kMagic || adopted.table_->places != kPlaces)
    return fail("the suspects of the last supervisor have another layout than ours");
  return adopted;
}

Suspects::Suspects(Suspects&& other) noexcept
    : memfd_(std::move(other.memfd_)), table_(std::exchange(other.table_, nullptr)) {}

Suspects::~Suspects() {
  if (table_ != nullptr) ::munmap(table_, sizeof(Table));
}

std::vector<uint32_t> Suspects::after_crash(int64_t now_ns) {
  std::vector<uint32_t> guilty;
  for (Place& place : table_->place) {
    if (place.key == 0 || place.active == 0) continue;
    if (place.crashes == 0 || now_ns - place.first_ns > kWithinNs) {
      place.crashes = 0;
      place.first_ns = now_ns;
    }
    place.active = 0;
    if (++place.crashes >= kCrashes) {
      guilty.push_back(place.key);
      place.key = 0;
    }
  }
  return guilty;
}

void Suspects::after_kill() {
  for (Place& place : table_->place) place.active = 0;
}

Suspects::Place* Suspects::find(uint32_t key) {
  const size_t start = key % kPlaces;
  for (size_t step = 0; step < kPlaces; ++step) {
    Place& place = table_->place[(start + step) % kPlaces];
    if (place.key == key) return &place;
  }
  return nullptr;
}

void Suspects::begin(uint32_t key) {
  Place* place = find(key);
  if (place == nullptr) {
    place = find(0);
    if (place == nullptr) return;
    place->active = 0;
    place->crashes = 0;
    // The key last: a successor must not see it with the counts of somebody else.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    place->key = key;
  }
  place->active = 1;
}

void Suspects::end(uint32_t key, bool well) {
  Place* const place = find(key);
  if (place == nullptr) return;
  place->active = 0;
  if (well) place->key = 0;
}

}  // namespace gantry
