// Both sides of a handover, over a socket pair.
#include "engine/supervisor/handover.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "io/scope.h"
#include "io/stream.h"
#include "io_support.h"

namespace gantry {
namespace {

using init::KeeperFrame;
using init::KeeperTag;

KeeperFrame frame_of(KeeperTag tag, uint32_t slot = 0, uint32_t mask = 0, int err = 0) {
  KeeperFrame frame{};
  frame.magic = init::kKeeperFrameMagic;
  frame.tag = tag;
  frame.slot = slot;
  frame.mask = mask;
  frame.err = err;
  return frame;
}

bool same_file(int a, int b) {
  struct stat of_a{}, of_b{};
  return ::fstat(a, &of_a) == 0 && ::fstat(b, &of_b) == 0 && of_a.st_ino == of_b.st_ino;
}

/// A frame of whoever gives away, with so many descriptors.
struct Said {
  KeeperFrame frame;
  size_t fds;
};

struct Room {
  io::Loop loop;
  io::test::Pair sockets = io::test::make_sockets(SOCK_SEQPACKET);
  sys::Fd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};

  io::Task<Result<>> say(Said said) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(&said.frame, 1));
    const std::vector<int> fds(said.fds, null.get());
    const std::span<const int> passed(fds);
    const io::Deadline limit = io::Deadline::in_ms(5000);
    Result<> sent = co_await io::send_msg(loop, sockets.b.get(), bytes, passed, limit);
    co_return sent;
  }
  /// What the next keeper makes of it; the other side hangs up behind it.
  io::Task<Result<Inheritance>> take(std::vector<Said> all) {
    for (const Said& said : all) GANTRY_CO_TRY(co_await say(said));
    (void)::shutdown(sockets.b.get(), SHUT_WR);
    const io::Deadline limit = io::Deadline::in_ms(5000);
    Result<Inheritance> got = co_await take_everything(loop, std::move(sockets.a), limit);
    co_return std::move(got);
  }
};

Error error_of(std::vector<Said> all) {
  Room room;
  Result<Inheritance> got = room.loop.run(room.take(std::move(all)));
  REQUIRE_FALSE(got);
  return got.error();
}

TEST_CASE("handover: descriptors come under their slot and position") {
  Room room;
  std::vector<Said> all{{frame_of(KeeperTag::kHandoverTable, 2), 1},
                        {frame_of(KeeperTag::kHandoverSlot, 7, 0b0101), 2},
                        {frame_of(KeeperTag::kHandoverSlot, 9), 0}};
  const Result<Inheritance> got = room.loop.run(room.take(std::move(all)));
  REQUIRE(got);
  CHECK(got->table);
  CHECK(got->peer);
  REQUIRE(got->slots.size() == 2);
  const KeptSlot& slot = got->slots.front();
  CHECK(slot.slot == 7);
  CHECK(same_file(slot.fds[0], room.null.get()));
  CHECK(slot.fds[1] == -1);
  CHECK(same_file(slot.fds[2], room.null.get()));
  CHECK(slot.fds[3] == -1);
  CHECK(got->slots[1].slot == 9);
}

TEST_CASE("handover: what cannot be is refused") {
  const Said table{frame_of(KeeperTag::kHandoverTable, 1), 1};
  CHECK(error_of({}).sys_errno == ECONNRESET);
  CHECK(error_of({table}).sys_errno == ECONNRESET);
  CHECK(error_of({{frame_of(KeeperTag::kRefused, 0, 0, EBUSY), 0}}).sys_errno == EBUSY);
  CHECK(error_of({{frame_of(KeeperTag::kRefused, 0, 0, EPERM), 0}}).sys_errno == EPERM);
  CHECK(error_of({table, {frame_of(KeeperTag::kRefused, 0, 0, EPERM), 0}}).sys_errno == EPERM);
  const std::string other = "handover: another frame than expected";
  CHECK(error_of({{frame_of(KeeperTag::kHandoverTable, 1), 0}}).text == other);
  CHECK(error_of({{frame_of(KeeperTag::kHandoverTable, 1), 2}}).text == other);
  CHECK(error_of({{frame_of(KeeperTag::kHandoverTable, init::kKeeperMaxSlots + 1), 1}}).text == other);
  CHECK(error_of({{frame_of(KeeperTag::kHandoverSlot, 1), 1}}).text == other);
  CHECK(error_of({table, table}).text == other);
  CHECK(error_of({table, {frame_of(KeeperTag::kHandoverSlot, 3, 0b10000), 1}}).text == other);
  CHECK(error_of({table, {frame_of(KeeperTag::kHandoverSlot, 3, 0b0011), 1}}).text ==
        "handover: slot 3 came with too few descriptors");
  CHECK(error_of({table, {frame_of(KeeperTag::kHandoverSlot, 3, 0b0001), 2}}).text ==
        "handover: slot 3 came with too many descriptors");
  KeeperFrame alien = frame_of(KeeperTag::kHandoverSlot);
  alien.magic = 1;
  CHECK(error_of({table, {alien, 0}}).text == "handover: keeper frame: wrong magic");
}

/// Takes and, when that is wanted, confirms as the next keeper does.
io::Task<Result<>> take_and_confirm(Room& room, size_t& count, bool confirm) {
  const io::Deadline limit = io::Deadline::in_ms(5000);
  GANTRY_CO_LET(const Inheritance taken, co_await take_everything(room.loop, std::move(room.sockets.a), limit));
  count = taken.slots.size();
  if (!confirm) co_return Result<>();
  const KeeperFrame frame = frame_of(KeeperTag::kHandoverTaken);
  const std::span<const std::byte> bytes = std::as_bytes(std::span(&frame, 1));
  const std::span<const int> none;
  Result<> sent = co_await io::send_msg(room.loop, taken.peer.get(), bytes, none, limit);
  co_return sent;
}

io::Task<Result<>> give_and_take(Room& room, size_t& count, bool confirm) {
  std::vector<KeptSlot> slots(600);  // more than the socket takes at once
  for (size_t i = 0; i < slots.size(); ++i) {
    slots[i].slot = static_cast<uint32_t>(i);
    slots[i].fds = {room.null.get(), -1, room.null.get(), -1};
  }
  io::Scope scope(room.loop);
  scope.spawn(take_and_confirm(room, count, confirm));
  KeeperFrame please{};
  std::vector<sys::Fd> fds;
  const std::span<std::byte> into = std::as_writable_bytes(std::span(&please, 1));
  const io::Deadline limit = io::Deadline::in_ms(5000);
  GANTRY_CO_TRY(co_await io::recv_msg(room.loop, room.sockets.b.get(), into, fds, limit));
  if (please.tag != KeeperTag::kHandoverPlease) co_return fail("nobody has asked");
  const int peer = room.sockets.b.get(), table = room.null.get();
  Result<> given = co_await give_everything(room.loop, peer, table, std::move(slots));
  Result<> joined = co_await scope.join();
  if (!joined) co_return joined;
  co_return given;
}

TEST_CASE("handover: given is what was confirmed, and nothing else") {
  size_t count = 0;
  Room well;
  const Result<> given = well.loop.run(give_and_take(well, count, true));
  if (!given) FAIL(given.error().text);
  CHECK(count == 600);
  Room badly;
  const Result<> lost = badly.loop.run(give_and_take(badly, count, false));
  REQUIRE_FALSE(lost);
  CHECK(lost.error().sys_errno == ECONNRESET);
}

/// Takes everything and says nothing until the giver has lost patience.
io::Task<Result<>> take_too_slowly(Room& room, io::Event& given_up, int& refusal, int& late) {
  const io::Deadline limit = io::Deadline::in_ms(5000);
  GANTRY_CO_LET(const Inheritance taken, co_await take_everything(room.loop, std::move(room.sockets.a), limit));
  (void)co_await given_up.wait(limit);
  KeeperFrame frame = frame_of(KeeperTag::kHandoverTaken);
  late = ::send(taken.peer.get(), &frame, sizeof frame, MSG_NOSIGNAL) < 0 ? errno : 0;
  if (::recv(taken.peer.get(), &frame, sizeof frame, MSG_DONTWAIT) == sizeof frame && frame.tag == KeeperTag::kRefused)
    refusal = frame.err;
  co_return Result<>();
}

io::Task<Result<>> give_with_little_patience(Room& room, int& refusal, int& late) {
  io::Scope scope(room.loop);
  io::Event given_up(room.loop);
  scope.spawn(take_too_slowly(room, given_up, refusal, late));
  const int peer = room.sockets.b.get(), table = room.null.get();
  KeeperFrame please{};
  std::vector<sys::Fd> fds;
  const std::span<std::byte> into = std::as_writable_bytes(std::span(&please, 1));
  const io::Deadline limit = io::Deadline::in_ms(5000);
  GANTRY_CO_TRY(co_await io::recv_msg(room.loop, peer, into, fds, limit));
  Result<> given = co_await give_everything(room.loop, peer, table, std::vector<KeptSlot>(3), 20);
  given_up.set();
  Result<> joined = co_await scope.join();
  if (!joined) co_return joined;
  co_return given;
}

TEST_CASE("handover: what was called off cannot be confirmed any more") {
  Room room;
  int refusal = 0, late = 0;
  const Result<> given = room.loop.run(give_with_little_patience(room, refusal, late));
  REQUIRE_FALSE(given);
  CHECK(given.error().sys_errno == ETIMEDOUT);
  CHECK(late == EPIPE);
  CHECK(refusal == ETIMEDOUT);
}

}  // namespace
}  // namespace gantry
