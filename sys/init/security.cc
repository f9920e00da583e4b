// Keyring, LSM profile, no_new_privs and the seccomp filter.
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr int kKeyctlJoinSession = 1, kKeyctlSetPerm = 5, kKeyctlDescribe = 6;
constexpr int kPrSetNoNewPrivs = 38;
constexpr unsigned kSeccompSetModeFilter = 1, kFilterNewListener = 1u << 3;
constexpr int kFGetfd = 1;

/// The permissions in "keyring;UID;GID;3f3f0000;name"; 0 when they cannot be told.
uint32_t parse_permissions(const char* description) {
  for (int fields = 0; fields < 3; ++description) {
    if (*description == '\0') return 0;
    if (*description == ';') ++fields;
  }
  uint32_t value = 0;
  for (; *description != ';' && *description != '\0'; ++description) {
    const char c = *description;
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) return 0;
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  return value;
}

long join_keyring(const Context& ctx, const char* name) {
  const long ring = call(__NR_keyctl, kKeyctlJoinSession, name);
  // An exec finds the ring of the container's init as it was made.
  if (ring < 0 || ctx.plan.header->kind == Kind::kExec) return ring;
  char description[256] = {};
  const long size = call(__NR_keyctl, kKeyctlDescribe, ring, description, sizeof description);
  if (size < 0) return size;
  description[sizeof description - 1] = '\0';
  // A later exec must find the ring by its name: search for the user and, from another user namespace, for all.
  constexpr uint32_t kUserSearch = 0x80000, kOtherSearch = 0x8;
  const uint32_t wanted = parse_permissions(description) | kUserSearch | (ctx.in_user_ns ? kOtherSearch : 0);
  return call(__NR_keyctl, kKeyctlSetPerm, ring, wanted);
}

/// Every number below `number` is taken, so that the kernel's next fd is `number` and nothing else was ever there.
void fill_below(Context& ctx, int number) {
  for (int fd = 3; fd < number; ++fd)
    if (call(__NR_fcntl, fd, kFGetfd, 0) == -kEBADF) must(ctx, duplicate_to(0, fd, kOCloexec), "dup3");
}

}  // namespace

void step_keyring(Context& ctx, const Step& step) {
  const long joined = join_keyring(ctx, text(ctx.plan, step.s[0]));
  if (joined == -kENOSYS || joined == -kEDQUOT || joined == -kEACCES) return warn(ctx, -joined, "keyctl");
  must(ctx, joined, "keyctl");
}

void step_apparmor(Context& ctx, const Step& step) {
  Message command("exec ");
  command.add(text(ctx.plan, step.s[0]));
  if (command.cut()) die(ctx, kENAMETOOLONG, "apparmor failed to apply profile");
  long file = open_proc_file(ctx, "thread-self/attr/apparmor/exec");
  if (file == -kENOENT) file = open_proc_file(ctx, "thread-self/attr/exec");
  must(ctx, file, "apparmor failed to apply profile: open attr/exec");
  must(ctx, write_fd(static_cast<int>(file), command.get(), command.size()), "apparmor failed to apply profile");
  close_fd(file);
}

void step_no_new_privs(Context& ctx, const Step&) {
  must(ctx, prctl(kPrSetNoNewPrivs, 1), "prctl PR_SET_NO_NEW_PRIVS");
}

void step_seccomp_announce(Context& ctx, const Step& step) {
  // The number must be empty from now until the load, or the engine could fetch something else: so not one that a
  // descriptor has today (the sync socket) or will have (the program's own).
  int number = static_cast<int>(step.n[0]);
  const int first = kSyncFd + static_cast<int>(ctx.placed_count);
  if (number < first) number = first;
  while (call(__NR_fcntl, number, kFGetfd, 0) != -kEBADF) ++number;
  ctx.listener = number;
  tell(ctx, Tag::kSeccompFd, static_cast<uint64_t>(number));
}

void step_seccomp(Context& ctx, const Step& step) {
  prepare_exec(ctx);
  struct {
    uint16_t length;
    const void* filter;
  } const program = {static_cast<uint16_t>(step.s[0].length / 8), ctx.plan.arena + step.s[0].offset};
  uint64_t flags = step.n[0];
  if ((step.flags & kStepListener) != 0) {
    flags |= kFilterNewListener;
    if (ctx.listener < 0) die(ctx, 0, "plan: a listener that was not announced");
    fill_below(ctx, ctx.listener);
  }
  const long loaded = must(ctx, call(__NR_seccomp, kSeccompSetModeFilter, flags, &program), "seccomp");
  if ((flags & kFilterNewListener) != 0 && loaded != ctx.listener)
    die(ctx, 0, "seccomp: the listener did not appear where it was announced");
}

}  // namespace gantry::init
