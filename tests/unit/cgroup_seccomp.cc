// Compiled filters, judged by running them: a small interpreter of classic BPF against an evaluator of the profile.
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <cstring>

#include "engine/seccomp.h"
#include "engine/seccomp_stub.h"
#include "sys/fd.h"

namespace gantry {
namespace {

/// What the kernel would answer; 0xdead0000 for a program that reads or jumps where it must not.
uint32_t run(const std::vector<sock_filter>& program, const seccomp_data& data) {
  constexpr uint32_t kBroken = 0xdead0000;
  uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {};
  for (size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& i = program[pc];
    const uint32_t operand = BPF_SRC(i.code) == BPF_X ? x : i.k;
    const auto branch = [&](bool taken) { pc += taken ? i.jt : i.jf; };
    switch (BPF_CLASS(i.code)) {
      case BPF_LD:
        if (BPF_MODE(i.code) == BPF_ABS) {
          if (i.k % 4 != 0 || i.k + 4 > sizeof data) return kBroken;
          std::memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, 4);
        } else if (BPF_MODE(i.code) == BPF_IMM) {
          a = i.k;
        } else {
          a = memory[i.k];
        }
        break;
      case BPF_LDX:
        x = BPF_MODE(i.code) == BPF_IMM ? i.k : memory[i.k];
        break;
      case BPF_ST:
        memory[i.k] = a;
        break;
      case BPF_STX:
        memory[i.k] = x;
        break;
      case BPF_ALU:
        if (BPF_OP(i.code) != BPF_AND) return kBroken;
        a &= operand;
        break;
      case BPF_JMP:
        switch (BPF_OP(i.code)) {
          case BPF_JA:
            pc += i.k;
            break;
          case BPF_JEQ:
            branch(a == operand);
            break;
          case BPF_JGT:
            branch(a > operand);
            break;
          case BPF_JGE:
            branch(a >= operand);
            break;
          case BPF_JSET:
            branch((a & operand) != 0);
            break;
          default:
            return kBroken;
        }
        break;
      case BPF_RET:
        return i.k;
      default:
        if (BPF_MISCOP(i.code) == BPF_TAX) {
          x = a;
        } else {
          a = x;
        }
    }
  }
  return kBroken;
}

seccomp_data call(uint32_t number, uint64_t a0 = 0, uint64_t a1 = 0, uint64_t a2 = 0,
                  uint32_t arch = AUDIT_ARCH_X86_64) {
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = arch;
  data.args[0] = a0;
  data.args[1] = a1;
  data.args[2] = a2;
  return data;
}

uint32_t verdict_of(SeccompAction action, std::optional<uint32_t> err) {
  switch (action) {
    case SeccompAction::kKillThread:
      return SECCOMP_RET_KILL_THREAD;
    case SeccompAction::kKillProcess:
      return SECCOMP_RET_KILL_PROCESS;
    case SeccompAction::kTrap:
      return SECCOMP_RET_TRAP;
    case SeccompAction::kErrno:
      return SECCOMP_RET_ERRNO | err.value_or(EPERM);
    case SeccompAction::kTrace:
      return SECCOMP_RET_TRACE | err.value_or(EPERM);
    case SeccompAction::kAllow:
      return SECCOMP_RET_ALLOW;
    case SeccompAction::kLog:
      return SECCOMP_RET_LOG;
    case SeccompAction::kNotify:
      break;
  }
  return SECCOMP_RET_USER_NOTIF;
}

bool holds(const SeccompArg& arg, const seccomp_data& data) {
  const uint64_t value = data.args[arg.index];
  switch (arg.op) {
    case SeccompOp::kNotEqual:
      return value != arg.value;
    case SeccompOp::kLess:
      return value < arg.value;
    case SeccompOp::kLessEqual:
      return value <= arg.value;
    case SeccompOp::kEqual:
      return value == arg.value;
    case SeccompOp::kGreaterEqual:
      return value >= arg.value;
    case SeccompOp::kGreater:
      return value > arg.value;
    case SeccompOp::kMaskedEqual:
      break;
  }
  return (value & arg.value) == arg.value_two;
}

bool matches(const SeccompRule& rule, const seccomp_data& data) {
  const auto named = [&](const std::string& name) { return ::seccomp_syscall_resolve_name(name.c_str()) == data.nr; };
  if (std::none_of(rule.names.begin(), rule.names.end(), named)) return false;
  int uses[6] = {};
  bool alternatives = false;
  for (const SeccompArg& arg : rule.args) alternatives = ++uses[arg.index] > 1 || alternatives;
  const auto fits = [&](const SeccompArg& arg) { return holds(arg, data); };
  return alternatives ? std::any_of(rule.args.begin(), rule.args.end(), fits)
                      : std::all_of(rule.args.begin(), rule.args.end(), fits);
}

/// What the profile means, for calls that it may know.
uint32_t meant(const Seccomp& profile, const seccomp_data& data) {
  const uint32_t otherwise = verdict_of(profile.default_action, profile.default_errno_ret);
  for (const SeccompRule& rule : profile.rules) {
    const uint32_t verdict = verdict_of(rule.action, rule.errno_ret);
    if (verdict != otherwise && matches(rule, data)) return verdict;
  }
  return otherwise;
}

SeccompRule rule(std::vector<std::string> names, SeccompAction action, std::vector<SeccompArg> args = {},
                 std::optional<uint32_t> err = {}) {
  return {std::move(names), action, err, std::move(args)};
}

/// Shaped like the engines' default profiles: hundreds of calls allowed, some by their arguments, some with an errno.
Seccomp big_profile() {
  Seccomp profile;
  profile.default_action = SeccompAction::kErrno;
  profile.default_errno_ret = EPERM;
  profile.architectures = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"};
  const std::vector<std::string> special = {"personality", "clone",   "socket",     "ptrace", "bpf",
                                            "mount",       "umount2", "kexec_load", "clone3", "chmod"};
  SeccompRule allowed = rule({}, SeccompAction::kAllow);
  for (int number = 0; number < 440; ++number) {
    char* const name = ::seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, number);
    if (name != nullptr && std::find(special.begin(), special.end(), name) == special.end())
      allowed.names.emplace_back(name);
    ::free(name);
  }
  allowed.names.emplace_back("no_such_call");
  profile.rules.push_back(allowed);
  for (const uint64_t value : {0x0u, 0x8u, 0x20000u, 0x20008u, 0xffffffffu}) {
    profile.rules.push_back(rule({"personality"}, SeccompAction::kAllow, {{0, value, 0, SeccompOp::kEqual}}));
  }
  profile.rules.push_back(rule({"clone"}, SeccompAction::kAllow, {{0, 0x7e020000, 0, SeccompOp::kMaskedEqual}}));
  profile.rules.push_back(rule({"socket"}, SeccompAction::kAllow, {{0, 40, 0, SeccompOp::kNotEqual}}));
  profile.rules.push_back(rule({"clone3"}, SeccompAction::kErrno, {}, ENOSYS));
  profile.rules.push_back(rule({"bpf"}, SeccompAction::kErrno, {}, EPERM));
  profile.rules.push_back(rule({"kexec_load"}, SeccompAction::kKillProcess));
  return profile;
}

constexpr uint64_t kValues[] = {0,          1,          7,          8,           40, 41,          0x20000,     0x20008,
                                0x7e020000, 0x10000000, 0xffffffff, 0x100000000, 5,  0x100000028, ~uint64_t{0}};

void compare(const Seccomp& profile, const CompiledSeccomp& compiled, uint32_t up_to) {
  for (uint32_t number = 0; number <= up_to; ++number) {
    for (const uint64_t a0 : kValues) {
      for (const uint64_t a1 : {uint64_t{0}, uint64_t{5}, uint64_t{0x100000005}}) {
        const seccomp_data data = call(number, a0, a1, a0 ^ a1);
        const uint32_t got = run(compiled.bpf, data), want = meant(profile, data);
        if (got != want) {
          INFO("call " << number << " args " << a0 << ", " << a1);
          REQUIRE(got == want);
        }
      }
    }
  }
}

Result<CompiledSeccomp> compile(SeccompAction otherwise, std::vector<SeccompRule> rules) {
  Seccomp profile;
  profile.default_action = otherwise;
  profile.rules = std::move(rules);
  return compile_seccomp(profile);
}

std::string error_of(const Seccomp& profile) {
  const auto done = compile_seccomp(profile);
  return done ? "" : done.error().text;
}

}  // namespace

#ifdef __x86_64__

TEST_CASE("a large profile means what it says for every call it knows") {
  const Seccomp profile = big_profile();
  const auto compiled = compile_seccomp(profile);
  REQUIRE(compiled);
  compare(profile, *compiled, 439);
  CHECK(compiled->flags == SECCOMP_FILTER_FLAG_SPEC_ALLOW);
  CHECK_FALSE(compiled->listener);
}

TEST_CASE("the filter gives what libseccomp alone gives, on each architecture, for all known calls") {
  const Seccomp profile = big_profile();
  const auto ours = compile_seccomp(profile);
  REQUIRE(ours);
  const scmp_filter_ctx plain = ::seccomp_init(SCMP_ACT_ERRNO(EPERM));
  ::seccomp_arch_add(plain, SCMP_ARCH_X86);
  ::seccomp_arch_add(plain, SCMP_ARCH_X32);
  for (const SeccompRule& one : profile.rules) {
    const uint32_t action = one.action == SeccompAction::kAllow         ? SCMP_ACT_ALLOW
                            : one.action == SeccompAction::kKillProcess ? SCMP_ACT_KILL_PROCESS
                                                                        : SCMP_ACT_ERRNO(one.errno_ret.value_or(EPERM));
    for (const std::string& name : one.names) {
      const int number = ::seccomp_syscall_resolve_name(name.c_str());
      if (number == __NR_SCMP_ERROR || action == SCMP_ACT_ERRNO(EPERM)) continue;
      if (one.args.empty()) {
        ::seccomp_rule_add(plain, action, number, 0);
      } else {
        const scmp_arg_cmp arg{0,
                               one.args[0].op == SeccompOp::kEqual      ? SCMP_CMP_EQ
                               : one.args[0].op == SeccompOp::kNotEqual ? SCMP_CMP_NE
                                                                        : SCMP_CMP_MASKED_EQ,
                               one.args[0].value, one.args[0].value_two};
        ::seccomp_rule_add_array(plain, action, number, 1, &arg);
      }
    }
  }
  const sys::Fd file(::memfd_create("plain", MFD_CLOEXEC));
  REQUIRE(::seccomp_export_bpf(plain, file.get()) == 0);
  ::seccomp_release(plain);
  std::vector<sock_filter> theirs(4096);
  const ssize_t got = ::pread(file.get(), theirs.data(), theirs.size() * sizeof(sock_filter), 0);
  theirs.resize(static_cast<size_t>(got) / sizeof(sock_filter));
  for (const uint32_t arch : {uint32_t{AUDIT_ARCH_X86_64}, uint32_t{AUDIT_ARCH_I386}, uint32_t{AUDIT_ARCH_AARCH64}}) {
    for (uint32_t number = 0; number < 430; ++number) {
      for (const uint64_t value : kValues) {
        for (const uint32_t x32 : {0u, 0x40000000u}) {
          if (x32 != 0 && arch != AUDIT_ARCH_X86_64) continue;
          const seccomp_data data = call(number | x32, value, 0, 0, arch);
          if (run(ours->bpf, data) != run(theirs, data)) {
            INFO("arch " << arch << " call " << (number | x32) << " arg " << value);
            REQUIRE(run(ours->bpf, data) == run(theirs, data));
          }
        }
      }
    }
  }
}

TEST_CASE("calls newer than the profile are unknown, not forbidden") {
  const auto compiled = compile_seccomp(big_profile());
  REQUIRE(compiled);
  const uint32_t unknown = SECCOMP_RET_ERRNO | ENOSYS, forbidden = SECCOMP_RET_ERRNO | EPERM;
  CHECK(run(compiled->bpf, call(440)) == unknown);
  CHECK(run(compiled->bpf, call(1000)) == unknown);
  CHECK(run(compiled->bpf, call(1000, 0, 0, 0, AUDIT_ARCH_I386)) == unknown);
  CHECK(run(compiled->bpf, call(0x40000000 + 1000)) == unknown);
  CHECK(run(compiled->bpf, call(1000, 0, 0, 0, AUDIT_ARCH_AARCH64)) == SECCOMP_RET_KILL_THREAD);
  CHECK(run(compiled->bpf, call(SYS_ptrace)) == forbidden);

  const auto permissive = compile(SeccompAction::kAllow, {rule({"getpid"}, SeccompAction::kErrno)});
  CHECK(run(permissive->bpf, call(1000)) == SECCOMP_RET_ALLOW);
  const auto logging = compile(SeccompAction::kLog, {rule({"getpid"}, SeccompAction::kErrno)});
  CHECK(run(logging->bpf, call(1000)) == SECCOMP_RET_LOG);
  // x32 calls are not this profile's: the architecture answers, not the stub.
  const auto native = compile(SeccompAction::kErrno, {rule({"getpid"}, SeccompAction::kAllow)});
  CHECK(run(native->bpf, call(0x40000000 + 39)) == SECCOMP_RET_KILL_THREAD);
  CHECK(run(native->bpf, call(SYS_getpid)) == SECCOMP_RET_ALLOW);
  CHECK(run(native->bpf, call(SYS_getpid + 1)) == unknown);
  CHECK(run(native->bpf, call(SYS_getpid - 1)) == forbidden);
}

TEST_CASE("every action has its verdict") {
  using enum SeccompAction;
  for (const SeccompAction action : {kKillThread, kKillProcess, kTrap, kErrno, kTrace, kLog}) {
    const auto compiled = compile(kAllow, {rule({"getpid"}, action)});
    REQUIRE(compiled);
    CHECK(run(compiled->bpf, call(SYS_getpid)) == verdict_of(action, {}));
    CHECK(run(compiled->bpf, call(SYS_getuid)) == SECCOMP_RET_ALLOW);
  }
  const auto traced = compile(kAllow, {rule({"getpid"}, kTrace, {}, 77)});
  CHECK(run(traced->bpf, call(SYS_getpid)) == (SECCOMP_RET_TRACE | 77u));
}

TEST_CASE("every comparison, alone and combined") {
  using enum SeccompOp;
  for (const SeccompOp op : {kNotEqual, kLess, kLessEqual, kEqual, kGreaterEqual, kGreater, kMaskedEqual}) {
    Seccomp profile;
    profile.default_action = SeccompAction::kErrno;
    profile.rules = {rule({"ioctl"}, SeccompAction::kAllow, {{0, 0x100000028, 0x28, op}}),
                     rule({"fcntl"}, SeccompAction::kAllow, {{0, 8, 8, op}, {1, 5, 0, kEqual}}),
                     rule({"mount"}, SeccompAction::kAllow, {{1, 4, 0, op}, {1, 0x100000005, 0x5, kEqual}})};
    const auto compiled = compile_seccomp(profile);
    REQUIRE(compiled);
    INFO("operator " << static_cast<int>(op));
    compare(profile, *compiled, SYS_mount);
  }
}

TEST_CASE("notify rules ask for a listener and its flags") {
  Seccomp profile;
  profile.default_action = SeccompAction::kAllow;
  profile.rules = {rule({"mkdir"}, SeccompAction::kNotify)};
  CHECK_THAT(error_of(profile), Catch::Contains("linux.seccomp.listenerPath: missing"));
  profile.listener_path = "/run/agent.sock";
  profile.flags = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
  const auto compiled = compile_seccomp(profile);
  REQUIRE(compiled);
  CHECK(compiled->listener);
  CHECK(compiled->flags == (1u | 8u | 16u | 32u));
  CHECK(run(compiled->bpf, call(SYS_mkdir)) == SECCOMP_RET_USER_NOTIF);

  profile.rules = {rule({"mkdir"}, SeccompAction::kErrno)};
  CHECK(compile_seccomp(profile)->flags == 1);
  CHECK_FALSE(compile_seccomp(profile)->listener);
  profile.flags = std::vector<std::string>{};
  CHECK(compile_seccomp(profile)->flags == 0);
}

TEST_CASE("profiles that cannot mean anything are refused by name") {
  Seccomp profile;
  profile.default_action = SeccompAction::kNotify;
  CHECK_THAT(error_of(profile), Catch::EndsWith("SCMP_ACT_NOTIFY cannot be used as default action"));
  profile.default_action = SeccompAction::kAllow;
  profile.default_errno_ret = 1;
  CHECK_THAT(error_of(profile), Catch::EndsWith("errno value specified for action SCMP_ACT_ALLOW"));
  profile.default_errno_ret.reset();
  profile.rules = {rule({"getpid"}, SeccompAction::kTrap, {}, 1)};
  CHECK_THAT(error_of(profile), Catch::EndsWith("errno value specified for action SCMP_ACT_TRAP"));
  profile.rules = {rule({"read", "write"}, SeccompAction::kNotify)};
  CHECK_THAT(error_of(profile), Catch::EndsWith("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
  profile.rules = {rule({}, SeccompAction::kErrno)};
  CHECK_THAT(error_of(profile), Catch::Contains("linux.seccomp.syscalls[0].names: name at least one"));
  profile.rules = {rule({"read"}, SeccompAction::kErrno, {{6, 0, 0, SeccompOp::kEqual}})};
  CHECK_THAT(error_of(profile), Catch::EndsWith("linux.seccomp.syscalls[0].args: index 6 is not 0 to 5"));
  profile.rules.clear();
  profile.listener_metadata = "x";
  CHECK_THAT(error_of(profile), Catch::Contains("linux.seccomp.listenerMetadata: useless without listenerPath"));
  profile.listener_metadata.clear();
  profile.flags = {"SECCOMP_FILTER_FLAG_MAGIC"};
  CHECK(error_of(profile) == "seccomp flag \"SECCOMP_FILTER_FLAG_MAGIC\" not supported");
  profile.flags.reset();
  profile.architectures = {"SCMP_ARCH_VAX"};
  CHECK(error_of(profile) == "linux.seccomp.architectures: this libseccomp does not know SCMP_ARCH_VAX");
}

#endif

TEST_CASE("repeated, redundant and unknown names are no trouble") {
  const auto compiled = compile(SeccompAction::kErrno,
                                {rule({"getpid", "getpid", "nonsense"}, SeccompAction::kAllow),
                                 rule({"getpid"}, SeccompAction::kAllow), rule({"getuid"}, SeccompAction::kErrno)});
  REQUIRE(compiled);
}

TEST_CASE("the stub is empty when no call is known, and jumps stay inside") {
  CHECK(enosys_stub({}).empty());
  CHECK(enosys_stub({{AUDIT_ARCH_I386, {}, {}}}).empty());
  const auto stub = enosys_stub({{AUDIT_ARCH_X86_64, 10, {}}, {AUDIT_ARCH_I386, 5, {}}});
  for (size_t i = 0; i < stub.size(); ++i) {
    const size_t jump = BPF_CLASS(stub[i].code) != BPF_JMP ? 0
                        : BPF_OP(stub[i].code) == BPF_JA   ? stub[i].k
                                                           : std::max(stub[i].jt, stub[i].jf);
    CHECK(i + 1 + jump <= stub.size());
  }
}

TEST_CASE("features lists what is accepted") {
  CHECK(known_seccomp_actions().size() >= 8);
  CHECK(known_seccomp_operators().size() == 7);
  CHECK(known_seccomp_flags().size() == 4);
  const auto archs = known_seccomp_architectures();
  CHECK(std::find(archs.begin(), archs.end(), "SCMP_ARCH_X86_64") != archs.end());
  CHECK(std::find(archs.begin(), archs.end(), "SCMP_ARCH_S390X") != archs.end());
  CHECK(supported_seccomp_flags().size() >= 3);
}

}  // namespace gantry
