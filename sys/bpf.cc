#include "sys/bpf.h"

#include <sys/syscall.h>

#include <cstring>
#include <string>
#include <string_view>

#include "sys/text.h"

namespace gantry::sys {

namespace {

constexpr uint32_t kMaxAttached = 64;  // BPF_CGROUP_MAX_PROGS

/// The kernel may know a longer union than our headers and, from 6.17 on, writes query.revision whatever size it is
/// told: so the whole union goes down, zeroed, with room behind it.
/// (memset, because "{}" need not clear all of a union.)
struct Attr {
  Attr() { std::memset(this, 0, sizeof *this); }
  union bpf_attr value;
  char slack[256];
};

int bpf(int command, Attr& attr) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attr.value, sizeof attr.value));
}

uint64_t address(const void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

int load(std::span<const bpf_insn> program, std::span<char> log) {
  Attr attr;
  attr.value.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.value.insns = address(program.data());
  attr.value.insn_cnt = static_cast<uint32_t>(program.size());
  attr.value.license = address("GPL");
  if (!log.empty()) {
    attr.value.log_buf = address(log.data());
    attr.value.log_size = static_cast<uint32_t>(log.size());
    attr.value.log_level = 1;
  }
  return bpf(BPF_PROG_LOAD, attr);
}

int attach(const Fd& cgroup, const Fd& program, uint32_t flags, const Fd& replaced) {
  Attr attr;
  attr.value.target_fd = static_cast<uint32_t>(cgroup.get());
  attr.value.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attr.value.attach_type = BPF_CGROUP_DEVICE;
  attr.value.attach_flags = flags;
  if (replaced) attr.value.replace_bpf_fd = static_cast<uint32_t>(replaced.get());
  return bpf(BPF_PROG_ATTACH, attr);
}

int detach(const Fd& cgroup, const Fd& program) {
  Attr attr;
  attr.value.target_fd = static_cast<uint32_t>(cgroup.get());
  attr.value.attach_bpf_fd = static_cast<uint32_t>(program.get());
  attr.value.attach_type = BPF_CGROUP_DEVICE;
  return bpf(BPF_PROG_DETACH, attr);
}

Fd open_program(uint32_t id) {
  Attr attr;
  attr.value.prog_id = id;
  return Fd(bpf(BPF_PROG_GET_FD_BY_ID, attr));
}

}  // namespace

Result<Fd> bpf_load_device_program(std::span<const bpf_insn> program) {
  Fd fd(load(program, {}));
  if (fd) return fd;
  const int err = errno;
  if (err != EINVAL && err != EACCES) return fail_errno(err, "load device program");
  std::vector<char> log(16384);
  fd = Fd(load(program, log));
  if (fd) return fd;
  std::string_view words = trim(std::string_view(log.data()));
  if (words.size() > 300) words.remove_prefix(words.size() - 300);
  std::string line(words);
  for (char& c : line) c = c == '\n' ? ';' : c;
  return fail_errno(err, cat("load device program (", line, ")"));
}

Result<std::vector<uint32_t>> bpf_device_programs(const Fd& cgroup) {
  std::vector<uint32_t> ids(kMaxAttached);
  Attr attr;
  attr.value.query.target_fd = static_cast<uint32_t>(cgroup.get());
  attr.value.query.attach_type = BPF_CGROUP_DEVICE;
  attr.value.query.prog_ids = address(ids.data());
  attr.value.query.prog_cnt = kMaxAttached;
  if (bpf(BPF_PROG_QUERY, attr) < 0) return fail_errno(errno, "query device programs");
  ids.resize(attr.value.query.prog_cnt);
  return ids;
}

Result<> bpf_attach_device_program(const Fd& cgroup, const Fd& program, bool fresh) {
  std::vector<Fd> old;
  if (!fresh) {
    GANTRY_LET(const auto ids, bpf_device_programs(cgroup));
    for (const uint32_t id : ids) {
      if (Fd fd = open_program(id); fd) old.push_back(std::move(fd));
    }
  }
  if (old.size() == 1 && attach(cgroup, program, BPF_F_ALLOW_MULTI | BPF_F_REPLACE, old.front()) == 0) return {};
  if (attach(cgroup, program, BPF_F_ALLOW_MULTI, Fd()) < 0) return fail_errno(errno, "attach device program");
  for (const Fd& one : old) {
    if (detach(cgroup, one) < 0 && errno != ENOENT) return fail_errno(errno, "detach an old device program");
  }
  return {};
}

}  // namespace gantry::sys
