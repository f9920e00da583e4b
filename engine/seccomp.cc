#include "engine/seccomp.h"

#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <memory>
#include <utility>

#include "engine/seccomp_stub.h"
#include "engine/spec_check_parts.h"
#include "engine/spec_names.h"
#include "sys/fd.h"
#include "sys/seccomp.h"
#include "sys/text.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)  // 5.19
#endif

namespace gantry {

namespace {

constexpr size_t kTreeThreshold = 32;  // calls from which a binary tree beats a list (SC-13)
constexpr unsigned kNotifyApi = 6;     // libseccomp's API level with notify and tsync

struct ContextCloser {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Context = std::unique_ptr<void, ContextCloser>;

constexpr std::pair<std::string_view, uint32_t> kFlags[] = {
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
};

/// libseccomp's action word; EPERM where the profile names no errno.
uint32_t action_word(SeccompAction action, std::optional<uint32_t> errno_ret) {
  switch (action) {
    case SeccompAction::kKillThread:
      return SCMP_ACT_KILL_THREAD;
    case SeccompAction::kKillProcess:
      return SCMP_ACT_KILL_PROCESS;
    case SeccompAction::kTrap:
      return SCMP_ACT_TRAP;
    case SeccompAction::kErrno:
      return SCMP_ACT_ERRNO(errno_ret.value_or(EPERM));
    case SeccompAction::kTrace:
      return SCMP_ACT_TRACE(errno_ret.value_or(EPERM));
    case SeccompAction::kAllow:
      return SCMP_ACT_ALLOW;
    case SeccompAction::kLog:
      return SCMP_ACT_LOG;
    case SeccompAction::kNotify:
      break;
  }
  return SCMP_ACT_NOTIFY;
}

scmp_compare compare_word(SeccompOp op) {
  switch (op) {
    case SeccompOp::kNotEqual:
      return SCMP_CMP_NE;
    case SeccompOp::kLess:
      return SCMP_CMP_LT;
    case SeccompOp::kLessEqual:
      return SCMP_CMP_LE;
    case SeccompOp::kEqual:
      return SCMP_CMP_EQ;
    case SeccompOp::kGreaterEqual:
      return SCMP_CMP_GE;
    case SeccompOp::kGreater:
      return SCMP_CMP_GT;
    case SeccompOp::kMaskedEqual:
      break;
  }
  return SCMP_CMP_MASKED_EQ;
}

/// libseccomp's word for "SCMP_ARCH_X86_64"; 0 when it has none.
uint32_t arch_token(std::string_view name) {
  constexpr std::string_view prefix = "SCMP_ARCH_";
  if (!name.starts_with(prefix)) return 0;
  std::string word(name.substr(prefix.size()));
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return ::seccomp_arch_resolve_name(word.c_str());
}

std::vector<scmp_arg_cmp> arg_words(const SeccompRule& rule) {
  std::vector<scmp_arg_cmp> words;
  words.reserve(rule.args.size());
  for (const SeccompArg& arg : rule.args) {
    words.push_back({arg.index, compare_word(arg.op), arg.value, arg.value_two});
  }
  return words;
}

/// libseccomp takes one condition for each argument. SC-06: several for one make the whole rule a list of alternatives.
bool has_repeated_index(const SeccompRule& rule) {
  std::array<int, 6> seen{};
  return std::ranges::any_of(rule.args, [&seen](const SeccompArg& arg) { return ++seen[arg.index] > 1; });
}

Result<> add_words(void* context, uint32_t action, const std::string& name, int number, const scmp_arg_cmp* args,
                   size_t count) {
  const int err = -::seccomp_rule_add_array(context, action, number, static_cast<unsigned>(count), args);
  if (err != 0) return fail_errno(err, cat("linux.seccomp.syscalls: rule for ", name));
  return {};
}

Result<> add_rule(void* context, const SeccompRule& rule, uint32_t default_word) {
  const uint32_t action = action_word(rule.action, rule.errno_ret);
  if (action == default_word) return {};  // SC-07; libseccomp would refuse it
  const auto args = arg_words(rule);
  const bool alternatives = has_repeated_index(rule);
  for (const std::string& name : rule.names) {
    const int number = ::seccomp_syscall_resolve_name(name.c_str());
    if (number == __NR_SCMP_ERROR) continue;  // SC-05
    if (!alternatives) {
      GANTRY_TRY(add_words(context, action, name, number, args.data(), args.size()));
      continue;
    }
    for (const scmp_arg_cmp& arg : args) GANTRY_TRY(add_words(context, action, name, number, &arg, 1));
  }
  return {};
}

Result<std::vector<uint32_t>> architectures(const Seccomp& profile) {
  std::vector<uint32_t> tokens{::seccomp_arch_native()};
  for (const std::string& name : profile.architectures) {
    const uint32_t token = arch_token(name);
    if (token == 0) return fail(cat("linux.seccomp.architectures: this libseccomp does not know ", name));
    if (std::ranges::find(tokens, token) == tokens.end()) tokens.push_back(token);
  }
  return tokens;
}

/// Whether calls without a rule fail, so that it matters how they fail.
bool is_strict(const Seccomp& profile) {
  if (profile.default_action == SeccompAction::kAllow || profile.default_action == SeccompAction::kLog) return false;
  return !(profile.default_action == SeccompAction::kErrno && profile.default_errno_ret == uint32_t{ENOSYS});
}

std::vector<NewestSyscall> newest_syscalls(const Seccomp& profile, const std::vector<uint32_t>& tokens) {
  std::vector<NewestSyscall> newest;
  for (const uint32_t token : tokens) {
    std::optional<uint32_t> number;
    for (const SeccompRule& rule : profile.rules) {
      for (const std::string& name : rule.names) {
        const int one = ::seccomp_syscall_resolve_name_arch(token, name.c_str());
        if (one >= 0) number = std::max(number.value_or(0), static_cast<uint32_t>(one));
      }
    }
    const uint32_t audit_arch = token == SCMP_ARCH_X32 ? AUDIT_ARCH_X86_64 : token;
    auto entry = std::ranges::find(newest, audit_arch, &NewestSyscall::audit_arch);
    if (entry == newest.end()) entry = newest.insert(entry, {audit_arch, {}, {}});
    (token == SCMP_ARCH_X32 ? entry->x32_number : entry->number) = number;
  }
  return newest;
}

/// libseccomp writes its program to a file only (2.6 also to memory).
Result<> append_program(void* context, std::vector<sock_filter>& bpf) {
  const sys::Fd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return fail_errno(errno, "memfd_create");
  if (const int err = -::seccomp_export_bpf(context, file.get()); err != 0)
    return fail_errno(err, "compile linux.seccomp");
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  const size_t count = size < 0 ? 0 : static_cast<size_t>(size) / sizeof(sock_filter);
  const size_t before = bpf.size();
  bpf.resize(before + count);
  if (::pread(file.get(), bpf.data() + before, count * sizeof(sock_filter), 0) != size)
    return fail_errno(errno, "read filter");
  return {};
}

Result<Context> build(const Seccomp& profile, const std::vector<uint32_t>& tokens, uint32_t default_word) {
  Context context(::seccomp_init(default_word));
  if (!context) return fail("linux.seccomp: libseccomp refuses the default action");
  for (const uint32_t token : tokens) {
    const int err = -::seccomp_arch_add(context.get(), token);
    if (err != 0 && err != EEXIST) return fail_errno(err, "linux.seccomp.architectures");
  }
  size_t calls = 0;
  for (const SeccompRule& rule : profile.rules) calls += rule.names.size();
  if (calls > kTreeThreshold) ::seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const SeccompRule& rule : profile.rules) GANTRY_TRY(add_rule(context.get(), rule, default_word));
  return context;
}

bool kernel_takes(uint32_t flag) {
  // It is an error on its own.
  if (flag == SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) flag |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
  return sys::seccomp_takes_flags(flag);
}

}  // namespace

bool seccomp_notifies(const Seccomp& profile) {
  return std::ranges::any_of(profile.rules,
                             [](const SeccompRule& rule) { return rule.action == SeccompAction::kNotify; });
}

Result<uint32_t> seccomp_flag_bits(const Seccomp& profile) {
  const bool notifies = seccomp_notifies(profile);
  uint32_t bits = notifies ? uint32_t{SECCOMP_FILTER_FLAG_NEW_LISTENER} : 0;
  // SC-04: an absent list means the default of older versions, an empty one none.
  if (!profile.flags) return bits | uint32_t{SECCOMP_FILTER_FLAG_SPEC_ALLOW};
  for (const std::string& name : *profile.flags) {
    const auto known = std::ranges::find(kFlags, name, &std::pair<std::string_view, uint32_t>::first);
    if (known == std::end(kFlags)) return fail(cat("seccomp flag \"", name, "\" not supported"));
    bits |= known->second;
  }
  if (!notifies) return bits & ~uint32_t{SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV};
  if ((bits & SECCOMP_FILTER_FLAG_TSYNC) != 0) bits |= SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
  return bits;
}

Result<CompiledSeccomp> compile_seccomp(const Seccomp& profile) {
  GANTRY_TRY(check_seccomp_profile(profile));
  CompiledSeccomp out;
  out.listener = seccomp_notifies(profile);
  GANTRY_LET(out.flags, seccomp_flag_bits(profile));
  if (const unsigned api = out.listener ? ::seccomp_api_get() : kNotifyApi; api < kNotifyApi) {
    return fail(cat("seccomp notify unsupported: API level: got ", api, ", want at least ", kNotifyApi));
  }
  GANTRY_LET(const auto tokens, architectures(profile));
  const uint32_t default_word = action_word(profile.default_action, profile.default_errno_ret);
  GANTRY_LET(const Context context, build(profile, tokens, default_word));
  if (is_strict(profile)) out.bpf = enosys_stub(newest_syscalls(profile, tokens));
  GANTRY_TRY(append_program(context.get(), out.bpf));
  if (out.bpf.size() > BPF_MAXINSNS) {
    return fail(
        cat("linux.seccomp: the profile needs ", out.bpf.size(), " instructions, the kernel takes ", BPF_MAXINSNS));
  }
  return out;
}

std::string seccomp_compiler() {
  const scmp_version* const library = ::seccomp_version();
  return cat("gantry-seccomp-1 libseccomp-", library->major, '.', library->minor, '.', library->micro, " arch-",
             ::seccomp_arch_native());
}

std::vector<std::string> known_seccomp_actions() {
  std::vector<std::string> names;
  for (const auto& row : seccomp_actions()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> known_seccomp_operators() {
  std::vector<std::string> names;
  for (const auto& row : seccomp_operators()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> known_seccomp_architectures() {
  std::vector<std::string> names;
  for (const std::string_view name : seccomp_architectures()) {
    if (arch_token(name) != 0) names.emplace_back(name);
  }
  return names;
}

std::vector<std::string> known_seccomp_flags() {
  std::vector<std::string> names;
  for (const auto& [name, bit] : kFlags) names.emplace_back(name);
  return names;
}

std::vector<std::string> supported_seccomp_flags() {
  std::vector<std::string> names;
  for (const auto& [name, bit] : kFlags) {
    if (kernel_takes(bit)) names.emplace_back(name);
  }
  return names;
}

}  // namespace gantry
