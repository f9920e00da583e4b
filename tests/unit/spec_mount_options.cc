#include "engine/mount_options.h"

#include <linux/mount.h>
#include <sys/mount.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <initializer_list>

namespace gantry {
namespace {

Mount with(std::initializer_list<std::string_view> options) {
  Mount mount;
  for (const std::string_view option : options) REQUIRE(apply_mount_option(option, mount));
  return mount;
}

TEST_CASE("MT-07 attributes, the last of a pair wins") {
  const Mount mount = with({"ro", "nosuid", "nodev", "noexec", "nodiratime", "nosymfollow"});
  CHECK(mount.flags.set == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC |
                            MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW));
  CHECK(mount.flags.clear == 0);
  CHECK(mount.flags.superblock == MS_RDONLY);
  const Mount undone = with({"ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec"});
  CHECK(undone.flags.set == 0);
  CHECK(undone.flags.clear == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  CHECK(undone.flags.superblock == 0);
  CHECK(with({"rw", "ro"}).flags.clear == 0);
}

TEST_CASE("MT-07 MT-14 access times are one field") {
  CHECK(with({"noatime"}).flags.set == MOUNT_ATTR_NOATIME);
  CHECK(with({"noatime"}).flags.clear == MOUNT_ATTR__ATIME);
  CHECK(with({"noatime", "strictatime"}).flags.set == MOUNT_ATTR_STRICTATIME);
  CHECK(with({"strictatime", "relatime"}).flags.set == 0);
  CHECK(with({"relatime"}).flags.clear == MOUNT_ATTR__ATIME);
  CHECK(with({"noatime", "atime"}).flags.set == 0);
  CHECK(with({"strictatime", "nostrictatime"}).flags.set == 0);
  CHECK(with({"noatime", "ro"}).flags.set == (MOUNT_ATTR_NOATIME | MOUNT_ATTR_RDONLY));
}

TEST_CASE("MT-07 superblock flags and words without effect") {
  CHECK(with({"sync", "dirsync", "lazytime", "iversion", "silent", "mand"}).flags.superblock ==
        (MS_SYNCHRONOUS | MS_DIRSYNC | MS_LAZYTIME | MS_I_VERSION | MS_SILENT | MS_MANDLOCK));
  CHECK(with({"sync", "async", "lazytime", "nolazytime", "iversion", "noiversion", "silent", "loud", "mand", "nomand"})
            .flags.superblock == 0);
  const Mount plain = with({"defaults", "bind"});
  CHECK(plain.bind);
  CHECK_FALSE(plain.flags.any_attribute);
}

TEST_CASE("MT-08 propagation") {
  CHECK(with({"rshared"}).flags.propagation == MS_SHARED);
  CHECK(with({"rshared"}).flags.propagation_recursive);
  CHECK(with({"rshared", "private"}).flags.propagation == MS_PRIVATE);
  CHECK_FALSE(with({"rshared", "private"}).flags.propagation_recursive);
  CHECK(propagation_flags("runbindable") == (MS_UNBINDABLE | MS_REC));
  CHECK(propagation_flags("ro") == 0);
  CHECK_FALSE(with({"slave"}).flags.any_attribute);
}

TEST_CASE("MT-10 MT-12 words of their own") {
  const Mount mount = with({"rbind", "tmpcopyup", "remount", "ridmap"});
  CHECK(mount.bind);
  CHECK(mount.recursive_bind);
  CHECK(mount.tmpcopyup);
  CHECK(mount.remount);
  CHECK(mount.idmap);
  CHECK(mount.idmap_recursive);
  CHECK_FALSE(with({"idmap"}).idmap_recursive);
}

TEST_CASE("MT-11 recursive attributes are apart") {
  const Mount mount = with({"rro", "rnosuid", "rnoatime"});
  CHECK(mount.flags.rec_set == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME));
  CHECK(mount.flags.rec_clear == MOUNT_ATTR__ATIME);
  CHECK(mount.flags.set == 0);
  CHECK(mount.flags.superblock == 0);
  CHECK_FALSE(mount.flags.any_attribute);
  CHECK(with({"rro", "rrw"}).flags.rec_clear == MOUNT_ATTR_RDONLY);
}

TEST_CASE("MT-06 the rest is data, MT-23 attributes are remembered") {
  const Mount mount = with({"mode=755,size=64k", "newinstance", "", "context=\"a:b:c1,c2\"", "lowerdir=/a\\,b:/c"});
  CHECK(mount.data ==
        std::vector<std::string>{"mode=755", "size=64k", "newinstance", "context=\"a:b:c1,c2\"", "lowerdir=/a\\,b:/c"});
  CHECK_FALSE(mount.flags.any_attribute);
  CHECK(with({"rw"}).flags.any_attribute);
  CHECK(with({"atime"}).flags.any_attribute);
}

TEST_CASE("CX-07 words of crun are refused") {
  for (const char* word : {"copy-symlink", "src-nofollow", "dest-nofollow", "rsync", "idmap=uids=0-1-2"}) {
    Mount mount;
    CHECK_FALSE(apply_mount_option(word, mount));
  }
}

TEST_CASE("FE-03 the table is complete") {
  const auto names = mount_option_names();
  CHECK(names.size() == 60);
  CHECK(std::is_sorted(names.begin(), names.end()));
  for (const char* name : {"rro", "rbind", "tmpcopyup", "norelatime", "rnosymfollow", "nomand", "remount", "rw"}) {
    CHECK(std::binary_search(names.begin(), names.end(), std::string_view(name)));
  }
  CHECK_FALSE(std::binary_search(names.begin(), names.end(), std::string_view("idmap")));
}

}  // namespace
}  // namespace gantry
