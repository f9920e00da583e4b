#include "engine/mount_options.h"

#include <linux/mount.h>
// glibc's header after the kernel's: both define the MOUNT_ATTR names, with the same values.
#include <sys/mount.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>

#include "sys/text.h"

namespace gantry {

namespace {

enum class Effect : uint8_t {
  kNone,         // known and without effect
  kSet,          // attribute on
  kClear,        // attribute off
  kAtime,        // one value of the access time field
  kSuper,        // superblock flag on
  kSuperClear,   // superblock flag off
  kPropagation,  // MS_*, perhaps with MS_REC
  kBind,
  kRbind,
  kRemount,
  kTmpcopyup,
  kIdmap,
  kRidmap,
};

struct Word {
  std::string_view name;
  Effect effect;
  uint64_t bits = 0;
  bool recursive = false;
};

// Relatime is the kernel's zero: a word that takes another one back leads there.
constexpr Word kWords[] = {
    {"async", Effect::kSuperClear, MS_SYNCHRONOUS},
    {"atime", Effect::kAtime, MOUNT_ATTR_RELATIME},
    {"bind", Effect::kBind},
    {"defaults", Effect::kNone},
    {"dev", Effect::kClear, MOUNT_ATTR_NODEV},
    {"diratime", Effect::kClear, MOUNT_ATTR_NODIRATIME},
    {"dirsync", Effect::kSuper, MS_DIRSYNC},
    {"exec", Effect::kClear, MOUNT_ATTR_NOEXEC},
    {"idmap", Effect::kIdmap},
    {"iversion", Effect::kSuper, MS_I_VERSION},
    {"lazytime", Effect::kSuper, MS_LAZYTIME},
    {"loud", Effect::kSuperClear, MS_SILENT},
    {"mand", Effect::kSuper, MS_MANDLOCK},
    {"noatime", Effect::kAtime, MOUNT_ATTR_NOATIME},
    {"nodev", Effect::kSet, MOUNT_ATTR_NODEV},
    {"nodiratime", Effect::kSet, MOUNT_ATTR_NODIRATIME},
    {"noexec", Effect::kSet, MOUNT_ATTR_NOEXEC},
    {"noiversion", Effect::kSuperClear, MS_I_VERSION},
    {"nolazytime", Effect::kSuperClear, MS_LAZYTIME},
    {"nomand", Effect::kSuperClear, MS_MANDLOCK},
    {"norelatime", Effect::kAtime, MOUNT_ATTR_RELATIME},
    {"nostrictatime", Effect::kAtime, MOUNT_ATTR_RELATIME},
    {"nosuid", Effect::kSet, MOUNT_ATTR_NOSUID},
    {"nosymfollow", Effect::kSet, MOUNT_ATTR_NOSYMFOLLOW},
    {"private", Effect::kPropagation, MS_PRIVATE},
    {"ratime", Effect::kAtime, MOUNT_ATTR_RELATIME, true},
    {"rbind", Effect::kRbind},
    {"rdev", Effect::kClear, MOUNT_ATTR_NODEV, true},
    {"rdiratime", Effect::kClear, MOUNT_ATTR_NODIRATIME, true},
    {"relatime", Effect::kAtime, MOUNT_ATTR_RELATIME},
    {"remount", Effect::kRemount},
    {"rexec", Effect::kClear, MOUNT_ATTR_NOEXEC, true},
    {"ridmap", Effect::kRidmap},
    {"rnoatime", Effect::kAtime, MOUNT_ATTR_NOATIME, true},
    {"rnodev", Effect::kSet, MOUNT_ATTR_NODEV, true},
    {"rnodiratime", Effect::kSet, MOUNT_ATTR_NODIRATIME, true},
    {"rnoexec", Effect::kSet, MOUNT_ATTR_NOEXEC, true},
    {"rnorelatime", Effect::kAtime, MOUNT_ATTR_RELATIME, true},
    {"rnostrictatime", Effect::kAtime, MOUNT_ATTR_RELATIME, true},
    {"rnosuid", Effect::kSet, MOUNT_ATTR_NOSUID, true},
    {"rnosymfollow", Effect::kSet, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"ro", Effect::kSet, MOUNT_ATTR_RDONLY},
    {"rprivate", Effect::kPropagation, MS_PRIVATE | MS_REC},
    {"rrelatime", Effect::kAtime, MOUNT_ATTR_RELATIME, true},
    {"rro", Effect::kSet, MOUNT_ATTR_RDONLY, true},
    {"rrw", Effect::kClear, MOUNT_ATTR_RDONLY, true},
    {"rshared", Effect::kPropagation, MS_SHARED | MS_REC},
    {"rslave", Effect::kPropagation, MS_SLAVE | MS_REC},
    {"rstrictatime", Effect::kAtime, MOUNT_ATTR_STRICTATIME, true},
    {"rsuid", Effect::kClear, MOUNT_ATTR_NOSUID, true},
    {"rsymfollow", Effect::kClear, MOUNT_ATTR_NOSYMFOLLOW, true},
    {"runbindable", Effect::kPropagation, MS_UNBINDABLE | MS_REC},
    {"rw", Effect::kClear, MOUNT_ATTR_RDONLY},
    {"shared", Effect::kPropagation, MS_SHARED},
    {"silent", Effect::kSuper, MS_SILENT},
    {"slave", Effect::kPropagation, MS_SLAVE},
    {"strictatime", Effect::kAtime, MOUNT_ATTR_STRICTATIME},
    {"suid", Effect::kClear, MOUNT_ATTR_NOSUID},
    {"symfollow", Effect::kClear, MOUNT_ATTR_NOSYMFOLLOW},
    {"sync", Effect::kSuper, MS_SYNCHRONOUS},
    {"tmpcopyup", Effect::kTmpcopyup},
    {"unbindable", Effect::kPropagation, MS_UNBINDABLE},
};
static_assert(std::is_sorted(std::begin(kWords), std::end(kWords),
                             [](const Word& a, const Word& b) { return a.name < b.name; }));

constexpr std::string_view kRefused[] = {"copy-symlink", "src-nofollow", "dest-nofollow", "rsync",
                                         "rasync",       "rdirsync",     "rmand",         "rnomand"};

const Word* find_word(std::string_view name) {
  const auto* found = std::lower_bound(std::begin(kWords), std::end(kWords), name,
                                       [](const Word& word, std::string_view wanted) { return word.name < wanted; });
  return found != std::end(kWords) && found->name == name ? found : nullptr;
}

void change_attribute(const Word& word, MountFlags& flags) {
  uint64_t& set = word.recursive ? flags.rec_set : flags.set;
  uint64_t& clear = word.recursive ? flags.rec_clear : flags.clear;
  if (word.effect == Effect::kAtime) {
    // A field, not bits: mount_setattr(2) wants all of it cleared before one value is set.
    set = (set & ~uint64_t{MOUNT_ATTR__ATIME}) | word.bits;
    clear |= MOUNT_ATTR__ATIME;
  } else if (word.effect == Effect::kSet) {
    set |= word.bits;
    clear &= ~word.bits;
  } else {
    set &= ~word.bits;
    clear |= word.bits;
  }
  if (word.recursive) return;
  flags.any_attribute = true;
  if (word.bits == MOUNT_ATTR_RDONLY) {
    if (word.effect == Effect::kSet) flags.superblock |= MS_RDONLY;
    if (word.effect == Effect::kClear) flags.superblock &= ~static_cast<unsigned long>(MS_RDONLY);
  }
}

void apply_word(const Word& word, Mount& mount) {
  switch (word.effect) {
    case Effect::kNone:
      return;
    case Effect::kSet:
    case Effect::kClear:
    case Effect::kAtime:
      return change_attribute(word, mount.flags);
    case Effect::kSuper:
      mount.flags.superblock |= word.bits;
      return;
    case Effect::kSuperClear:
      mount.flags.superblock &= ~word.bits;
      return;
    case Effect::kPropagation:
      mount.flags.propagation = word.bits & ~uint64_t{MS_REC};
      mount.flags.propagation_recursive = (word.bits & MS_REC) != 0;
      return;
    case Effect::kRbind:
      mount.recursive_bind = true;
      [[fallthrough]];
    case Effect::kBind:
      mount.bind = true;
      return;
    case Effect::kRemount:
      mount.remount = true;
      return;
    case Effect::kTmpcopyup:
      mount.tmpcopyup = true;
      return;
    case Effect::kRidmap:
      mount.idmap_recursive = true;
      [[fallthrough]];
    case Effect::kIdmap:
      mount.idmap = true;
      return;
  }
}

}  // namespace

Result<> apply_mount_option(std::string_view option, Mount& mount) {
  if (const Word* word = find_word(option)) {
    apply_word(*word, mount);
    return {};
  }
  if (std::find(std::begin(kRefused), std::end(kRefused), option) != std::end(kRefused) ||
      option.starts_with("idmap=") || option.starts_with("ridmap=")) {
    return fail("is not supported yet");
  }
  // mount(2) would get all data in one text and the kernel would cut it at the commas; fsconfig(2) does not. A
  // backslash or a quote means that a comma may belong to a value, so such a text stays whole.
  if (option.find_first_of("\\\"") != std::string_view::npos) {
    mount.data.emplace_back(option);
    return {};
  }
  for (const std::string_view part : split(option, ',')) {
    if (!part.empty()) mount.data.emplace_back(part);
  }
  return {};
}

std::vector<std::string_view> mount_option_names() {
  std::vector<std::string_view> names;
  names.reserve(std::size(kWords));
  for (const Word& word : kWords) {
    if (word.effect != Effect::kIdmap && word.effect != Effect::kRidmap) names.push_back(word.name);
  }
  return names;
}

unsigned long propagation_flags(std::string_view name) {
  const Word* word = find_word(name);
  return word != nullptr && word->effect == Effect::kPropagation ? word->bits : 0;
}

}  // namespace gantry
