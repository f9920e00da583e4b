// gantry-init: the small program that becomes the container. One entry, one job for each argv[1].
#include "sys/init/steps.h"

extern "C" {

/// Compared by every function with a buffer on its stack (-mstack-protector-guard=global).
uintptr_t __stack_chk_guard = 0;  // NOLINT: the compiler's name

[[noreturn]] void __stack_chk_fail() {  // NOLINT: the compiler's name
  gantry::init::exit_now(134);
}

/// Where _start jumps to, with the stack as execve(2) left it.
[[noreturn]] __attribute__((no_stack_protector, used)) void gantry_start(long* stack);
}

#if defined(__x86_64__)
asm(".globl _start\n"
    "_start:\n"
    "  xorl %ebp, %ebp\n"
    "  movq %rsp, %rdi\n"
    "  andq $-16, %rsp\n"
    "  call gantry_start\n"
    "  hlt\n");
#elif defined(__aarch64__)
asm(".globl _start\n"
    "_start:\n"
    "  mov x29, #0\n"
    "  mov x30, #0\n"
    "  mov x0, sp\n"
    "  bl gantry_start\n");
#endif

namespace gantry::init {
namespace {

void step_join_cgroups(Context& ctx, const Step&) {
  await(ctx, Tag::kCgroup);
}

void step_setsid(Context& ctx, const Step&) {
  const long session = call(__NR_setsid);
  if (session != -kEPERM) must(ctx, session, "setsid");  // EPERM: we lead one already
}

void step_hooks(Context& ctx, const Step& step) {
  tell(ctx, Tag::kHooksPlease, step.n[0]);
  await(ctx, Tag::kGo);
}

void step_umask(Context& ctx, const Step& step) {
  call(__NR_umask, step.n[0] & 0777);
  ctx.umask_given = true;
}

void step_rlimit(Context& ctx, const Step& step) {
  const uint64_t limit[2] = {step.n[1], step.n[2]};
  must(ctx, call(__NR_prlimit64, 0, step.n[0], limit, 0), "setrlimit");
}

void step_place_fds(Context& ctx, const Step&) {
  prepare_exec(ctx);
}

struct Entry {
  Op op;
  StepFunction run;
};

constexpr Entry kSteps[] = {
    {Op::kJoinCgroups, step_join_cgroups},
    {Op::kUnshare, step_unshare},
    {Op::kMaps, step_maps},
    {Op::kTimeOffsets, step_time_offsets},
    {Op::kResetAffinity, step_reset_affinity},
    {Op::kSetsid, step_setsid},
    {Op::kKeyring, step_keyring},
    {Op::kLoopback, step_loopback},
    {Op::kPropagation, step_propagation},
    {Op::kRootfs, step_rootfs},
    {Op::kMount, step_mount},
    {Op::kMkdir, step_mkdir},
    {Op::kDevice, step_device},
    {Op::kSymlink, step_symlink},
    {Op::kHooks, step_hooks},
    {Op::kPivot, step_pivot},
    {Op::kRootPropagation, step_propagation},
    {Op::kConsole, step_console},
    {Op::kSetAttr, step_set_attr},
    {Op::kReadonlyPath, step_readonly_path},
    {Op::kMaskedPath, step_masked_path},
    {Op::kHostname, step_hostname},
    {Op::kDomainname, step_domainname},
    {Op::kSysctl, step_sysctl},
    {Op::kApparmor, step_apparmor},
    {Op::kUmask, step_umask},
    {Op::kNoNewPrivs, step_no_new_privs},
    {Op::kPidfdSocket, step_pidfd_socket},
    {Op::kRlimit, step_rlimit},
    {Op::kMkCwd, step_make_cwd},
    {Op::kIdentity, step_identity},
    {Op::kChdir, step_chdir},
    {Op::kLookPath, step_look_path},
    {Op::kSeccompAnnounce, step_seccomp_announce},
    {Op::kReady, step_ready},
    {Op::kSeccomp, step_seccomp},
    {Op::kFinalCaps, step_final_caps},
    {Op::kWaitStart, step_wait_start},
    {Op::kStartHooks, step_start_hooks},
    {Op::kPlaceFds, step_place_fds},
    {Op::kExec, step_exec},
};

constexpr bool is_in_order() {
  for (size_t i = 0; i < sizeof kSteps / sizeof kSteps[0]; ++i)
    if (static_cast<size_t>(kSteps[i].op) != i + 1) return false;
  return sizeof kSteps / sizeof kSteps[0] + 1 == static_cast<size_t>(Op::kCount);
}
static_assert(is_in_order(), "one entry for each Op, in the order of plan.h");

void seed_guard(const long* auxiliary) {
  constexpr long kAtRandom = 25;
  for (; auxiliary[0] != 0; auxiliary += 2) {
    if (auxiliary[0] != kAtRandom) continue;
    __builtin_memcpy(&__stack_chk_guard, reinterpret_cast<const void*>(auxiliary[1]), sizeof __stack_chk_guard);
    __stack_chk_guard &= ~uintptr_t{0xff};  // a NUL first: string overflows cannot write it
  }
}

}  // namespace

void reset_context(Context& ctx) {
  ctx.plan = {};
  ctx.step = kNoStep;
  ctx.sync = kSyncFd;
  ctx.launcher = ctx.start_fifo = ctx.status = -1;
  ctx.awaits_born = ctx.born_sent = ctx.in_user_ns = false;
  ctx.launcher_here = 0;
  ctx.root = ctx.proc = ctx.null_mount = ctx.empty_mount = ctx.parent_fd = ctx.listener = -1;
  ctx.null_used = ctx.empty_used = false;
  ctx.propagation = 0;
  for (int& kept : ctx.kept) kept = -1;
  ctx.umask_given = ctx.in_cwd = ctx.needs_final_caps = ctx.placed = false;
  ctx.placed_count = 0;
  ctx.argv = ctx.envp = nullptr;
  for (const char*& place : ctx.places) place = nullptr;
  ctx.places_left = sizeof ctx.places / sizeof ctx.places[0];
}

void run_steps(Context& ctx) {
  for (uint32_t i = 0; i < ctx.plan.header->step_count; ++i) {
    const Step& step = ctx.plan.steps[i];
    ctx.step = i;
    kSteps[static_cast<size_t>(step.op) - 1].run(ctx, step);
  }
  exit_now(0);  // a Plan without a program (LC-09)
}

namespace {

/// A frame of its own: the context is large, and a keeper lives for long.
[[noreturn]] __attribute__((noinline)) void launch() {
  Context ctx;
  reset_context(ctx);
  run_launcher(ctx);
}

[[noreturn]] __attribute__((no_stack_protector)) void start(long argc, const char** argv, const long* auxiliary) {
  seed_guard(auxiliary);
  if (argc == 2 && same_text(argv[1], "launch")) launch();
  if (argc == 2 && same_text(argv[1], "keeper")) run_keeper();
  exit_now(2);
}

}  // namespace
}  // namespace gantry::init

void gantry_start(long* stack) {
  const long argc = stack[0];
  auto** argv = reinterpret_cast<const char**>(stack + 1);
  long* environment = stack + 1 + argc + 1;
  while (*environment != 0) ++environment;
  gantry::init::start(argc, argv, environment + 1);
}
