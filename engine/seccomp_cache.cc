#include "engine/seccomp_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string_view>

#include "engine/spec_check_parts.h"
#include "sys/fd.h"
#include "sys/file.h"
#include "sys/text.h"

namespace gantry {

namespace {

constexpr uint32_t kMagic = 0x50434347;  // "GCCP"
constexpr size_t kMaxKey = 4u << 20;
constexpr int kMaxEntries = 256;

/// In front of an entry; then the key, then the instructions.
struct EntryHead {
  uint32_t magic = kMagic;
  uint32_t key_size = 0;
  uint32_t instructions = 0;
  uint32_t reserved = 0;
  uint64_t checksum = 0;  ///< of all that follows
};

/// Spreads keys over names and catches torn files. Not against forgers: they cannot write here, and the key is
/// compared.
uint64_t mix(std::string_view bytes, uint64_t hash) {
  constexpr uint64_t kOdd = 0x9e3779b97f4a7c15;
  const auto fold = [&hash](uint64_t word) {
    hash = (hash ^ word) * kOdd;
    hash ^= hash >> 29;
  };
  while (bytes.size() >= 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data(), 8);
    fold(word);
    bytes.remove_prefix(8);
  }
  uint64_t rest = 0;
  std::memcpy(&rest, bytes.data(), bytes.size());
  fold(rest);
  fold(bytes.size());
  return hash;
}

/// Appends values so that different profiles never give the same bytes: every text and list carries its length.
class KeyWriter {
 public:
  void number(uint64_t value) {
    char bytes[8];
    std::memcpy(bytes, &value, sizeof bytes);
    key_.append(bytes, sizeof bytes);
  }
  void text(std::string_view value) {
    const auto size = static_cast<uint32_t>(value.size());
    char bytes[4];
    std::memcpy(bytes, &size, sizeof bytes);
    key_.append(bytes, sizeof bytes).append(value);
  }
  void maybe(std::optional<uint32_t> value) { number(value ? uint64_t{*value} : ~uint64_t{0}); }
  std::string take() { return std::move(key_); }

 private:
  std::string key_;
};

/// All of a profile that ends up in the program, and what turns it into one.
std::string key_of(const Seccomp& profile) {
  KeyWriter key;
  key.text(seccomp_compiler());
  key.number(static_cast<uint64_t>(profile.default_action));
  key.maybe(profile.default_errno_ret);
  key.number(profile.architectures.size());
  for (const std::string& name : profile.architectures) key.text(name);
  key.number(profile.rules.size());
  for (const SeccompRule& rule : profile.rules) {
    key.number(static_cast<uint64_t>(rule.action));
    key.maybe(rule.errno_ret);
    key.number(rule.args.size());
    for (const SeccompArg& arg : rule.args) {
      key.number(arg.index);
      key.number(static_cast<uint64_t>(arg.op));
      key.number(arg.value);
      key.number(arg.value_two);
    }
    key.number(rule.names.size());
    for (const std::string& name : rule.names) key.text(name);
  }
  return key.take();
}

std::string name_of(const std::string& key) {
  constexpr char digits[] = "0123456789abcdef";
  std::string name;
  for (const uint64_t seed : {uint64_t{0x1234567}, uint64_t{0x89abcdef}}) {
    const uint64_t hash = mix(key, seed);
    for (int shift = 60; shift >= 0; shift -= 4) name.push_back(digits[(hash >> shift) & 15]);
  }
  return name;
}

bool is_ours(const struct stat& info, mode_t type) {
  return (info.st_mode & S_IFMT) == type && info.st_uid == ::geteuid() && (info.st_mode & 077) == 0;
}

sys::Fd open_dir(const std::string& path) {
  sys::Fd dir(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info{};
  if (!dir || ::fstat(dir.get(), &info) < 0 || !is_ours(info, S_IFDIR)) return sys::Fd();
  return dir;
}

sys::Fd make_dir(const std::string& path) {
  sys::Fd dir = open_dir(path);
  if (dir) return dir;
  // Does nothing to one that is there but is not to be trusted.
  ::mkdir(path.substr(0, path.rfind('/')).c_str(), 0700);
  ::mkdir(path.c_str(), 0700);
  return open_dir(path);
}

std::string_view bytes_of(const std::vector<sock_filter>& bpf) {
  return {reinterpret_cast<const char*>(bpf.data()), bpf.size() * sizeof(sock_filter)};
}

/// A program the kernel would take: of legal length, ending in a return.
bool is_plausible(const std::vector<sock_filter>& bpf) {
  return !bpf.empty() && bpf.size() <= BPF_MAXINSNS && BPF_CLASS(bpf.back().code) == BPF_RET;
}

std::optional<std::vector<sock_filter>> parse_entry(std::string_view entry, const std::string& key) {
  EntryHead head;
  if (entry.size() < sizeof head + key.size()) return std::nullopt;
  std::memcpy(&head, entry.data(), sizeof head);
  const std::string_view body = entry.substr(sizeof head);
  if (head.magic != kMagic || head.key_size != key.size() || head.reserved != 0) return std::nullopt;
  if (head.instructions > BPF_MAXINSNS || body.size() != key.size() + head.instructions * sizeof(sock_filter))
    return std::nullopt;
  if (body.substr(0, key.size()) != key || mix(body, kMagic) != head.checksum) return std::nullopt;
  std::vector<sock_filter> bpf(head.instructions);
  std::memcpy(bpf.data(), body.data() + key.size(), body.size() - key.size());
  if (!is_plausible(bpf)) return std::nullopt;
  return bpf;
}

std::optional<std::vector<sock_filter>> load(const sys::Fd& dir, const std::string& name, const std::string& key) {
  const sys::Fd file(::openat(dir.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat info{};
  if (!file || ::fstat(file.get(), &info) < 0 || !is_ours(info, S_IFREG) || info.st_nlink != 1) return std::nullopt;
  const size_t most = sizeof(EntryHead) + key.size() + BPF_MAXINSNS * sizeof(sock_filter);
  const auto size = static_cast<size_t>(info.st_size);
  if (size > most) return std::nullopt;
  std::string entry(size, '\0');
  if (::pread(file.get(), entry.data(), size, 0) != static_cast<ssize_t>(size)) return std::nullopt;
  return parse_entry(entry, key);
}

/// Removes everything when there are too many entries: profiles that really are in use come back at once.
void trim_dir(const sys::Fd& dir) {
  auto names = sys::list_names(dir);
  if (!names) return;
  std::erase_if(*names, [](const std::string& name) { return name.starts_with('.'); });
  if (names->size() < kMaxEntries) return;
  for (const std::string& name : *names) ::unlinkat(dir.get(), name.c_str(), 0);
}

void store(const sys::Fd& dir, const std::string& name, const std::string& key, const std::vector<sock_filter>& bpf) {
  if (key.size() > kMaxKey) return;
  std::string body = key;
  body.append(bytes_of(bpf));
  EntryHead head;
  head.key_size = static_cast<uint32_t>(key.size());
  head.instructions = static_cast<uint32_t>(bpf.size());
  head.checksum = mix(body, kMagic);
  body.insert(0, reinterpret_cast<const char*>(&head), sizeof head);
  trim_dir(dir);
  const std::string temp = cat(".new-", name, '-', ::getpid());
  {
    const sys::Fd file(::openat(dir.get(), temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file || !sys::write_all(file, body)) {
      ::unlinkat(dir.get(), temp.c_str(), 0);  // ours, half written, or of a dead process with our pid
      return;
    }
  }
  if (::renameat(dir.get(), temp.c_str(), dir.get(), name.c_str()) < 0) ::unlinkat(dir.get(), temp.c_str(), 0);
}

}  // namespace

Result<CompiledSeccomp> cached_seccomp(const Seccomp& profile, const std::string& dir_path) {
  if (dir_path.empty()) return compile_seccomp(profile);
  const sys::Fd dir = make_dir(dir_path);
  if (!dir) return compile_seccomp(profile);
  GANTRY_TRY(check_seccomp_profile(profile));
  const std::string key = key_of(profile);
  const std::string name = name_of(key);
  if (auto bpf = load(dir, name, key)) {
    CompiledSeccomp out{std::move(*bpf), 0, seccomp_notifies(profile)};
    GANTRY_LET(out.flags, seccomp_flag_bits(profile));
    return out;
  }
  GANTRY_LET(CompiledSeccomp compiled, compile_seccomp(profile));
  store(dir, name, key, compiled.bpf);
  return compiled;
}

}  // namespace gantry
