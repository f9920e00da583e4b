#include "engine/supervisor/keeper_start.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <set>
#include <utility>

#include "sys/file.h"
#include "sys/launch.h"
#include "sys/text.h"

namespace gantry {
namespace {

Result<sys::Fd> make_memfd(const char* name) {
  sys::Fd fd(::memfd_create(name, MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "memfd_create");
  return fd;
}

/// A keeper's table, mapped for as long as it is prepared.
class TableMap {
 public:
  static Result<TableMap> open(const sys::Fd& fd) {
    struct stat object{};
    if (::fstat(fd.get(), &object) < 0) return fail_errno(errno, "keeper table: fstat");
    const auto size = static_cast<size_t>(object.st_size);
    if (size < init::kKeeperTableHead) return fail("keeper table: shorter than its head");
    void* const at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (at == MAP_FAILED) return fail_errno(errno, "keeper table: mmap");
    TableMap map(at, size);
    if (const char* const wrong = init::check_keeper_table(at, size)) return fail(wrong);
    return map;
  }
  TableMap(TableMap&& other) noexcept : at_(std::exchange(other.at_, nullptr)), size_(other.size_) {}
  TableMap& operator=(TableMap&&) = delete;
  ~TableMap() {
    if (at_ != nullptr) ::munmap(at_, size_);
  }
  init::KeeperTable& head() { return *static_cast<init::KeeperTable*>(at_); }
  init::KeeperSlot& slot(uint32_t index) { return init::keeper_slots(&head())[index]; }

 private:
  TableMap(void* at, size_t size) : at_(at), size_(size) {}
  void* at_;
  size_t size_;
};

// -- what the keeper needs

Result<sys::Fd> make_args(const KeeperOptions& options, const rlimit& launchers) {
  std::string strings = options.program;
  strings += '\0';
  for (const auto* const list : {&options.args, &options.env})
    for (const std::string& each : *list) strings.append(each) += '\0';
  if (options.args.size() + options.env.size() > init::kKeeperMaxStrings)
    return fail(cat("keeper: more than ", init::kKeeperMaxStrings, " arguments and environment variables"));
  init::KeeperArgs head{};
  if (strings.size() > init::kKeeperMaxArgs - sizeof head)
    return fail(cat("keeper: arguments and environment are longer than ", init::kKeeperMaxArgs, " bytes"));
  head.magic = init::kKeeperArgsMagic;
  head.size = static_cast<uint32_t>(sizeof head + strings.size());
  head.argc = static_cast<uint32_t>(options.args.size());
  head.envc = static_cast<uint32_t>(options.env.size());
  head.nofile_soft = launchers.rlim_cur;
  head.nofile_hard = launchers.rlim_max;
  GANTRY_LET(sys::Fd fd, make_memfd("gantry-keeper-args"));
  GANTRY_TRY(sys::write_all(fd, std::string_view(reinterpret_cast<const char*>(&head), sizeof head)));
  GANTRY_TRY(sys::write_all(fd, strings));
  return fd;
}

Result<sys::Fd> make_table(uint32_t slot_count) {
  if (slot_count == 0 || slot_count > init::kKeeperMaxSlots)
    return fail(cat("keeper: ", slot_count, " slots; from 1 to ", init::kKeeperMaxSlots, " are possible"));
  GANTRY_LET(sys::Fd fd, make_memfd("gantry-keeper"));
  if (::ftruncate(fd.get(), static_cast<off_t>(init::keeper_table_size(slot_count))) < 0)
    return fail_errno(errno, "keeper table: ftruncate");
  init::KeeperTable head{};
  init::make_keeper_table(head, slot_count);
  GANTRY_TRY(sys::write_all(fd, std::string_view(reinterpret_cast<const char*>(&head), sizeof head)));
  return fd;
}

/// The table of a keeper that is gone. Whoever hands it over needs its own as it is, until the end of the handover.
Result<sys::Fd> copy_table(const sys::Fd& from) {
  GANTRY_LET(TableMap map, TableMap::open(from));
  const uint32_t used = std::min(map.head().used, map.head().slot_count);
  const size_t size = init::keeper_table_size(used);
  GANTRY_LET(sys::Fd fd, make_memfd("gantry-keeper"));
  if (::ftruncate(fd.get(), static_cast<off_t>(init::keeper_table_size(map.head().slot_count))) < 0)
    return fail_errno(errno, "keeper table: ftruncate");
  GANTRY_TRY(sys::write_all(fd, std::string_view(reinterpret_cast<const char*>(&map.head()), size)));
  return fd;
}

/// -1: there is no service manager, or it cannot be reached.
sys::Fd connect_notify(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.empty() || name.size() >= sizeof address.sun_path) return sys::Fd();
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name.front() == '@') address.sun_path[0] = '\0';
  sys::Fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return socket;
  const size_t end = name.front() == '@' ? name.size() : name.size() + 1;
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + end);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), length) < 0) socket.reset();
  return socket;
}

/// The keeper's own limit; what the launchers get is the one before.
rlimit raise_files(const KeeperOptions& options) {
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  rlimit wanted = before;
  if (options.nofile > wanted.rlim_max) {
    wanted.rlim_cur = wanted.rlim_max = options.nofile;
    if (::setrlimit(RLIMIT_NOFILE, &wanted) < 0) wanted.rlim_max = before.rlim_max;
  }
  wanted.rlim_cur = wanted.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &wanted);
  if (options.nofile_hard == 0) return before;
  return rlimit{options.nofile_soft, options.nofile_hard};
}

/// Held descriptors have numbers from kFirstHeld on; some must be left for containers.
Result<> check_files() {
  constexpr rlim_t kLeast = init::kFirstHeld + 64;
  rlimit own{};
  ::getrlimit(RLIMIT_NOFILE, &own);
  if (own.rlim_cur >= kLeast) return {};
  return fail(cat("keeper: RLIMIT_NOFILE is ", own.rlim_cur, ", and at least ", kLeast,
                  " descriptors are needed: raise the hard limit (LimitNOFILE= of the unit, ulimit -Hn)"));
}

// -- the held descriptors

/// Gives `fd` a number that the keeper may hold it under, and lets it survive the exec.
Result<int> hold_number(int fd) {
  if (fd >= init::kFirstHeld) {
    if (::fcntl(fd, F_SETFD, 0) < 0) return fail_errno(errno, cat("keeper: held descriptor ", fd));
    return fd;
  }
  const int number = ::fcntl(fd, F_DUPFD, init::kFirstHeld);
  if (number < 0) return fail_errno(errno, cat("keeper: held descriptor ", fd));
  return number;
}

Result<> fill_slot(init::KeeperSlot& slot, const KeptSlot& kept, bool is_new) {
  if (is_new) {
    slot.kind = kept.kind;
    slot.owner = kept.owner;
    slot.pid = kept.pid;
    slot.state = init::SlotState::kHeld;
  }
  for (uint32_t i = 0; i < init::kKeeperFds; ++i) {
    if (kept.fds[i] < 0) continue;
    GANTRY_LET(slot.fds[i], hold_number(kept.fds[i]));
  }
  return {};
}

/// After close_range(CLOSE_RANGE_CLOEXEC): from now on only what is placed here survives.
Result<> fill_table(const sys::Fd& fd, const std::vector<KeptSlot>& slots, bool is_new) {
  GANTRY_LET(TableMap map, TableMap::open(fd));
  init::KeeperTable& head = map.head();
  if (head.used > head.slot_count) head.used = head.slot_count;
  for (uint32_t i = 0; i < head.used; ++i)
    for (int32_t& number : map.slot(i).fds) number = -1;
  for (const KeptSlot& kept : slots) {
    if (kept.slot >= head.slot_count) return fail(cat("keeper: slot ", kept.slot, " of a table of ", head.slot_count));
    init::KeeperSlot& slot = map.slot(kept.slot);
    if (is_new)
      for (int32_t& number : slot.fds) number = -1;
    GANTRY_TRY(fill_slot(slot, kept, is_new || slot.state == init::SlotState::kFree));
    if (kept.slot >= head.used) head.used = kept.slot + 1;
  }
  return {};
}

// -- the arrangement

/// Fds of ours that are to lie at the numbers of keeper.h. All are moved up first, so that none is overwritten.
Result<> arrange(std::array<sys::Fd*, 5> placed) {
  constexpr std::array numbers{init::kKeeperTableFd, init::kKeeperProgramFd, init::kKeeperArgsFd, init::kKeeperNotifyFd,
                               init::kKeeperHandoverFd};
  for (sys::Fd* const fd : placed) {
    if (!*fd) continue;
    sys::Fd moved(::fcntl(fd->get(), F_DUPFD_CLOEXEC, init::kKeeperOwnFds));
    if (!moved) return fail_errno(errno, "keeper: descriptors");
    *fd = std::move(moved);
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!*placed[i]) {
      ::close(numbers[i]);
    } else if (::dup2(placed[i]->get(), numbers[i]) < 0) {
      return fail_errno(errno, "keeper: descriptors");
    }
  }
  return {};
}

/// Held descriptors below kKeeperOwnFds would be overwritten.
Result<> move_low(std::vector<KeptSlot>& slots) {
  for (KeptSlot& kept : slots) {
    for (int& fd : kept.fds) {
      if (fd < 0 || fd >= init::kKeeperOwnFds) continue;
      fd = ::fcntl(fd, F_DUPFD_CLOEXEC, init::kFirstHeld);
      if (fd < 0) return fail_errno(errno, "keeper: held descriptors");
    }
  }
  return {};
}

/// close_range(CLOSE_RANGE_CLOEXEC), or by number where the seccomp filter of a container around us hides it.
Result<> close_on_exec(int first) {
  if (::close_range(static_cast<unsigned>(first), ~0u, CLOSE_RANGE_CLOEXEC) == 0) return {};
  if (errno != ENOSYS && errno != EPERM) return fail_errno(errno, "close_range");
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  for (int fd = first; fd < static_cast<int>(std::min<rlim_t>(limit.rlim_cur, 1u << 20)); ++fd)
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return {};
}

Result<> prepare(KeeperOptions& options) {
  if (!options.program.starts_with('/'))
    return fail(cat("keeper: program '", options.program, "' is no absolute path"));
  if (options.args.empty()) return fail("keeper: the supervisor has no arguments");
  const rlimit launchers = raise_files(options);
  GANTRY_TRY(check_files());
  GANTRY_LET(sys::Fd args, make_args(options, launchers));
  GANTRY_LET(sys::Fd program, sys::open_file(options.program, O_PATH));
  sys::Fd notify = connect_notify(options.notify_socket);
  const bool is_new = !options.table;
  if (is_new) {
    GANTRY_LET(options.table, make_table(options.slot_count));
  } else {
    GANTRY_LET(options.table, copy_table(options.table));
  }
  GANTRY_TRY(move_low(options.slots));
  GANTRY_TRY(sys::reserve_init_image(init::kKeeperOwnFds));
  GANTRY_TRY(arrange({&options.table, &program, &args, &notify, &options.handover}));
  GANTRY_TRY(close_on_exec(init::kKeeperOwnFds));
  return fill_table(options.table, options.slots, is_new);
}

}  // namespace

Error become_keeper(KeeperOptions options) {
  if (Result<> prepared = prepare(options); !prepared) return std::move(prepared).error();
  return sys::exec_init("keeper", init::kKeeperImageFd);
}

Result<> keep_only(const sys::Fd& table, const std::vector<KeptSlot>& slots) {
  GANTRY_LET(TableMap map, TableMap::open(table));
  std::set<uint32_t> wanted;
  for (const KeptSlot& kept : slots) wanted.insert(kept.slot);
  for (uint32_t i = 0; i < map.head().used && i < map.head().slot_count; ++i)
    if (!wanted.contains(i)) map.slot(i).state = init::SlotState::kFree;
  return {};
}

}  // namespace gantry
