#include "engine/supervisor/connection.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <span>

#include "io/readable.h"
#include "io/stream.h"
#include "sys/text.h"

namespace gantry {
namespace {

constexpr size_t kSmallRead = 4096;
constexpr size_t kLargeRead = size_t{64} << 10;

}  // namespace

bool Connection::is_closed(const Error& error) {
  return error.sys_errno == ECONNRESET || error.sys_errno == EPIPE;
}

/// Cuts the first whole message off the buffer.
bool Connection::take_message(Message& message) {
  const size_t end = buffer_.find('\0', searched_);
  if (end == std::string::npos) {
    searched_ = buffer_.size();
    return false;
  }
  message.text = buffer_.substr(0, end);
  message.fds.clear();
  const size_t used = end + 1;
  if (!parcels_.empty() && parcels_.front().start == 0) {
    message.fds = std::move(parcels_.front().fds);
    parcels_.pop_front();
  }
  for (Parcel& parcel : parcels_) parcel.start -= used;
  buffer_.erase(0, used);
  if (buffer_.capacity() > kLargeRead && buffer_.size() <= kSmallRead) buffer_.shrink_to_fit();
  searched_ = 0;
  return true;
}

/// Gives descriptors to the message with the last byte, which must begin at `before` or behind it: what was in the
/// buffer until then is the beginning of another one.
Result<> Connection::file_fds(size_t before, std::vector<sys::Fd> fds) {
  if (fds.empty()) return {};
  const size_t last = buffer_.size() - 1;
  const size_t nul = last == 0 ? std::string::npos : buffer_.rfind('\0', last - 1);
  const size_t start = nul == std::string::npos ? 0 : nul + 1;
  if (start >= before) parcels_.push_back({start, std::move(fds)});
  return {};
}

io::Task<Result<>> Connection::fill(io::Deadline deadline) {
  const size_t before = buffer_.size();
  const size_t piece = std::min(before < kSmallRead ? kSmallRead : kLargeRead, api::kMaxMessage - before);
  buffer_.resize(before + piece);
  const std::span<std::byte> into = std::as_writable_bytes(std::span(buffer_)).subspan(before);
  std::vector<sys::Fd> fds;
  Result<size_t> got = co_await io::recv_msg(*loop_, socket_.get(), into, fds, deadline);
  buffer_.resize(before + got.value_or(0));
  if (!got) co_return forward(std::move(got));
  if (*got > 0) co_return file_fds(before, std::move(fds));
  if (before == 0) co_return std::unexpected(Error{"the connection was closed", ECONNRESET});
  co_return std::unexpected(Error{cat("the connection was closed after ", before, " bytes of a message"), ECONNRESET});
}

io::Task<Result<Message>> Connection::receive(io::Deadline deadline) {
  Message message;
  while (!take_message(message)) {
    if (buffer_.size() >= api::kMaxMessage) {
      co_return std::unexpected(
          Error{cat("message longer than ", api::kMaxMessage, " bytes, or without a NUL at its end"), EMSGSIZE});
    }
    GANTRY_CO_TRY(co_await fill(deadline));
  }
  co_return std::move(message);
}

io::Task<Result<Message>> Connection::receive_whole(int64_t limit_ms) {
  if (buffer_.empty()) {
    const io::Deadline never = io::Deadline::never();
    const io::Wake wake = co_await io::wait_fd(*loop_, socket_.get(), POLLIN, never);
    if (wake != io::Wake::kReady) co_return io::fail_wake(wake, "waiting for a message");
  }
  const io::Deadline deadline = io::Deadline::in_ms(limit_ms);
  Result<Message> message = co_await receive(deadline);
  co_return std::move(message);
}

io::Task<Result<>> Connection::send(std::string text, std::vector<int> fds, io::Deadline deadline) {
  if (text.size() >= api::kMaxMessage) {
    co_return std::unexpected(
        Error{cat("message of ", text.size(), " bytes; at most ", api::kMaxMessage - 1, " can be sent"), EMSGSIZE});
  }
  text.push_back('\0');
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  Result<> sent = co_await io::send_msg(*loop_, socket_.get(), bytes, fds, deadline);
  co_return sent;
}

io::Task<io::Wake> Connection::hung_up() {
  // POLLPRI never comes on a Unix socket; POLLHUP, which cannot be asked for, does when both directions are shut.
  const io::Deadline never = io::Deadline::never();
  return io::wait_fd(*loop_, socket_.get(), POLLPRI, never);
}

Result<Peer> peer_of(const sys::Fd& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
    return fail_errno(errno, "getsockopt SO_PEERCRED");
  return Peer{credentials.pid, credentials.uid, credentials.gid};
}

}  // namespace gantry
