#include "engine/seccomp_stub.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cerrno>
#include <cstddef>

namespace gantry {

namespace {

constexpr uint32_t kX32Bit = 0x40000000;

sock_filter statement(int code, uint32_t k) {
  return {static_cast<uint16_t>(code), 0, 0, k};
}
sock_filter jump(int code, uint32_t k, size_t if_true, size_t if_false) {
  return {static_cast<uint16_t>(code), static_cast<uint8_t>(if_true), static_cast<uint8_t>(if_false), k};
}

constexpr int kLoad = BPF_LD | BPF_W | BPF_ABS;
constexpr int kAlways = BPF_JMP | BPF_JA;
constexpr int kReturn = BPF_RET | BPF_K;
constexpr uint32_t kToEnd = 0xffffffff;  // patched when the length is known

/// "Above `newest`: ENOSYS", then on to the end.
void append_limit(std::vector<sock_filter>& out, std::optional<uint32_t> newest) {
  if (newest) {
    out.push_back(jump(BPF_JMP | BPF_JGT | BPF_K, *newest, 0, 1));
    out.push_back(statement(kReturn, SECCOMP_RET_ERRNO | ENOSYS));
  }
  out.push_back(statement(kAlways, kToEnd));
}

std::vector<sock_filter> limits(const NewestSyscall& newest, bool has_x32) {
  std::vector<sock_filter> out;
  out.push_back(statement(kLoad, offsetof(seccomp_data, nr)));
  if (has_x32) {
    const size_t native = newest.number ? 3 : 1;
    out.push_back(jump(BPF_JMP | BPF_JGE | BPF_K, kX32Bit, native, 0));
  }
  append_limit(out, newest.number);
  if (has_x32) append_limit(out, newest.x32_number);
  return out;
}

}  // namespace

std::vector<sock_filter> enosys_stub(const std::vector<NewestSyscall>& newest) {
  std::vector<sock_filter> out;
  for (const NewestSyscall& one : newest) {
    if (!one.number && !one.x32_number) continue;
    const auto body = limits(one, one.audit_arch == AUDIT_ARCH_X86_64);
    if (out.empty()) out.push_back(statement(kLoad, offsetof(seccomp_data, arch)));
    out.push_back(jump(BPF_JMP | BPF_JEQ | BPF_K, one.audit_arch, 0, body.size()));
    out.insert(out.end(), body.begin(), body.end());
  }
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i].code == kAlways && out[i].k == kToEnd) out[i].k = static_cast<uint32_t>(out.size() - i - 1);
  }
  return out;
}

}  // namespace gantry
