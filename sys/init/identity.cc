// Who the program will be: capabilities, groups, ids, working directory.
#include "sys/init/capability_names.h"
#include "sys/init/steps.h"

namespace gantry::init {
namespace {

constexpr int kPrSetKeepcaps = 8, kPrCapbsetRead = 23, kPrCapbsetDrop = 24, kPrCapAmbient = 47;
constexpr unsigned long kAmbientRaise = 2, kAmbientClearAll = 4;
constexpr int kCapSysAdmin = 21;
constexpr uint32_t kCapVersion3 = 0x20080522;

struct CapHeader {
  uint32_t version;
  int pid;
};
struct CapWords {
  uint32_t effective, permitted, inheritable;
};

uint64_t bit(unsigned number) {
  return uint64_t{1} << number;
}

Capabilities current_caps(Context& ctx) {
  CapHeader header = {kCapVersion3, 0};
  CapWords words[2];
  must(ctx, call(__NR_capget, &header, words), "capget");
  return {words[0].effective | uint64_t{words[1].effective} << 32,
          words[0].permitted | uint64_t{words[1].permitted} << 32,
          words[0].inheritable | uint64_t{words[1].inheritable} << 32};
}

void set_caps(Context& ctx, const Capabilities& caps) {
  CapHeader header = {kCapVersion3, 0};
  const CapWords words[2] = {
      {static_cast<uint32_t>(caps.effective), static_cast<uint32_t>(caps.permitted),
       static_cast<uint32_t>(caps.inheritable)},
      {static_cast<uint32_t>(caps.effective >> 32), static_cast<uint32_t>(caps.permitted >> 32),
       static_cast<uint32_t>(caps.inheritable >> 32)},
  };
  must(ctx, call(__NR_capset, &header, words), "capset");
}

void add_cap_name(Message& message, unsigned number) {
  if (number < kCapabilityCount) {
    message.add(kCapabilityNames[number]);
  } else {
    message.add("capability ").add_number(number);
  }
}

/// Of the capabilities asked for, those that can be had: what our own bounding set lacks is gone for good, which is a
/// warning and not an error (runtime-spec, "capabilities").
uint64_t available_caps(Context& ctx, const IdentityArgs& args, uint64_t owned) {
  const uint64_t wanted = args.bounding | args.permitted | args.effective | args.inheritable | args.ambient;
  uint64_t missing = 0;
  Message message("ignoring unknown or unavailable capabilities: [");
  for (unsigned number = 0; number < 64; ++number) {
    if ((wanted & ~owned & bit(number)) == 0 || prctl(kPrCapbsetRead, number) == 1) continue;
    if (missing != 0) message.add(" ");
    missing |= bit(number);
    add_cap_name(message, number);
  }
  if (missing != 0) warn(ctx, 0, message.add("]").get());
  return ~missing;
}

void drop_bounding(Context& ctx, uint64_t keep) {
  for (unsigned number = 0; number < 64; ++number) {
    if ((keep & bit(number)) != 0) continue;
    const long dropped = prctl(kPrCapbsetDrop, number);
    if (dropped == -kEINVAL) return;  // beyond the last capability of this kernel
    must(ctx, dropped, "prctl PR_CAPBSET_DROP");
  }
}

void raise_ambient(Context& ctx, uint64_t wanted) {
  must(ctx, prctl(kPrCapAmbient, kAmbientClearAll), "prctl PR_CAP_AMBIENT_CLEAR_ALL");
  for (unsigned number = 0; number < 64; ++number) {
    if ((wanted & bit(number)) == 0) continue;
    const long raised = prctl(kPrCapAmbient, kAmbientRaise, number);
    if (raised >= 0) continue;
    Message message("can't raise ambient capability ");
    add_cap_name(message, number);
    const char* words = errno_words(-raised);
    warn(ctx, 0, message.add(": ").add(words != nullptr ? words : "unknown error").get());
  }
}

bool is_device(const Stat& object) {
  return (object.st_mode & kSIfmt) == kSIfchr;
}

/// The program must be able to reopen its stdio. But /dev/null is everybody's, and the caller's terminal must not
/// belong to the program's user, who may be one of the host, for the time after it. A terminal of our own has its
/// owner.
void chown_stdio(Context& ctx, uint32_t uid) {
  for (int fd = 0; fd < 3; ++fd) {
    Stat object;
    if (stat_fd(fd, &object) < 0 || object.st_uid == uid || is_device(object)) continue;
    const long changed = call(__NR_fchown, fd, uid, -1);
    // Not ours to give, or an id that the file system or namespace does not know.
    if (changed == -kEINVAL || changed == -kEPERM || changed == -kEROFS) continue;
    must(ctx, changed, "fchown of stdio");
  }
}

[[noreturn]] void die_unmapped(Context& ctx, const char* call_name, const char* kind, uint32_t id) {
  Message message("cannot ");
  message.add(call_name).add(" to unmapped ").add(kind).add(" ").add_number(id).add(" in user namespace");
  die(ctx, 0, message.get());
}

void set_ids(Context& ctx, const IdentityArgs& args) {
  if ((args.flags & kIdentitySetGroups) != 0) {
    const auto* groups = args.group_count > 0 ? blob<uint32_t>(ctx.plan, args.groups) : nullptr;
    const long set = call(__NR_setgroups, args.group_count, groups);
    const bool denied_anyway = set == -kEPERM && args.group_count == 0 && ctx.in_user_ns;
    if (!denied_anyway) must(ctx, set, "setgroups");
  }
  const long gid = call(__NR_setresgid, args.gid, args.gid, args.gid);
  if (gid == -kEINVAL) die_unmapped(ctx, "setgid", "gid", args.gid);
  must(ctx, gid, "setresgid");
  const long uid = call(__NR_setresuid, args.uid, args.uid, args.uid);
  if (uid == -kEINVAL) die_unmapped(ctx, "setuid", "uid", args.uid);
  must(ctx, uid, "setresuid");
}

/// What the sets will be, and (in ctx) what they must be once the filter is loaded.
Capabilities wanted_caps(Context& ctx, const IdentityArgs& args, const Capabilities& own, uint64_t available) {
  Capabilities caps = {args.effective & available, args.permitted & available, args.inheritable & available};
  if ((args.flags & kIdentityKeepSysAdmin) == 0) return caps;
  ctx.final_caps = caps;
  const uint64_t admin = bit(kCapSysAdmin) & own.permitted;
  ctx.needs_final_caps = (admin & ~(caps.effective & caps.permitted)) != 0;
  caps.effective |= admin;
  caps.permitted |= admin;
  return caps;
}

bool inside_root(Context& ctx) {
  char cwd[kPathMax];
  const long size = call(__NR_getcwd, cwd, sizeof cwd);
  if (size == -kENAMETOOLONG || size == -34 /* ERANGE */) return true;  // deep, but it has a path
  if (size == -kENOENT) return false;
  must(ctx, size, "getcwd");
  return cwd[0] == '/';
}

}  // namespace

void step_identity(Context& ctx, const Step& step) {
  const auto& args = *blob<IdentityArgs>(ctx.plan, step.s[0]);
  const Capabilities own = current_caps(ctx);
  const uint64_t available = available_caps(ctx, args, own.permitted);
  drop_bounding(ctx, args.bounding);
  if ((args.flags & kIdentityChownStdio) != 0) chown_stdio(ctx, args.uid);

  if (args.uid != 0) must(ctx, prctl(kPrSetKeepcaps, 1), "prctl PR_SET_KEEPCAPS");
  set_ids(ctx, args);
  if (args.uid != 0) must(ctx, prctl(kPrSetKeepcaps, 0), "prctl PR_SET_KEEPCAPS");
  set_caps(ctx, wanted_caps(ctx, args, own, available));
  raise_ambient(ctx, args.ambient & available);
}

void step_final_caps(Context& ctx, const Step&) {
  if (ctx.needs_final_caps) set_caps(ctx, ctx.final_caps);
}

void step_chdir(Context& ctx, const Step& step) {
  const bool early = (step.flags & kStepChdirEarly) != 0;
  const char* path = text(ctx.plan, step.s[0]);
  const long changed = ctx.in_cwd ? 0 : call(__NR_chdir, path);
  if (early && changed == -kEACCES) return;
  if (changed < 0) {
    Message message("chdir to cwd (\"");
    message.add(path).add("\") set in config.json failed: ");
    const char* words = errno_words(-changed);
    die(ctx, 0, message.add(words != nullptr ? words : "unknown error").get());
  }
  ctx.in_cwd = true;
  if (!inside_root(ctx))
    die(ctx, 0,
        "current working directory is outside of container mount namespace root -- possible container breakout "
        "detected");
}

}  // namespace gantry::init
