"""Mounts (MT rows) and the propagation of the root (LX-14)."""
import os
import stat

import pytest

from lib import host
from lib.cgroups import needs_v1
from lib.marks import OLD, differs_from


def entries(seen):
    """mountinfo of the probe as {mount point: [parsed lines]}."""
    found = {}
    for line in seen["mounts"]:
        left, right = line.split(" - ", 1)
        words, tail = left.split(), right.split()
        found.setdefault(words[4].encode().decode("unicode_escape"), []).append({
            "root": words[3], "options": words[5].split(","), "optional": words[6:], "type": tail[0], "source": tail[1],
            "super": tail[2].split(",")})
    return found


def top(seen, path):
    return entries(seen)[path][-1]


@pytest.fixture
def source(work):
    """A directory with a file, a subdirectory and a sub-mount, to be bound into containers."""
    path = f"{work}/source"
    os.makedirs(f"{path}/sub")
    with open(f"{path}/file", "w", encoding="ascii") as file:
        file.write("content\n")
    host.mount("sub", f"{path}/sub", "tmpfs")
    yield path
    host.umount(f"{path}/sub")


# --- the default mounts ----------------------------------------------------------------------------------------------

def test_mt24_default_mounts(runtime, bundle):
    seen = runtime.probe(bundle())
    table = entries(seen)
    assert [table[path][-1]["type"] for path in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys")] == [
        "proc", "tmpfs", "devpts", "tmpfs", "mqueue", "sysfs"]
    assert {"nosuid", "noexec", "nodev", "ro"} <= set(table["/sys"][-1]["options"])
    assert {"nosuid", "noexec"} <= set(table["/dev/pts"][-1]["options"])
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= set(table["/dev/pts"][-1]["super"])
    assert "nosuid" in table["/dev"][-1]["options"] and "noexec" not in table["/dev"][-1]["options"]


def test_mt24_golden_modes(runtime, bundle):
    b = bundle("sh", "-c", "stat -c '%n %a %u %g' / /proc /dev /dev/pts /dev/shm /dev/mqueue /sys /dev/null")
    assert runtime.run(b).ok().out.splitlines() == [
        "/ 755 0 0", "/proc 555 0 0", "/dev 755 0 0", "/dev/pts 755 0 0", "/dev/shm 1777 0 0", "/dev/mqueue 1777 0 0",
        "/sys 555 0 0", "/dev/null 666 0 0"]


def test_host_mounts_are_gone(runtime, bundle):
    """After pivot_root nothing of the host's tree is left in the table."""
    seen = runtime.probe(bundle())
    allowed = ("/proc", "/dev", "/sys", "/")
    assert all(path == "/" or path.startswith(allowed) for path in entries(seen)), list(entries(seen))
    assert len(entries(seen)["/"]) == 1


def test_mt01_mounts_are_made_in_order(runtime, bundle, source):
    """A later mount covers an earlier one; a later destination may lie in an earlier mount."""
    b = bundle("sh", "-c", "ls /mnt /mnt/in")
    b.mount("/mnt", "one", "tmpfs").mount("/mnt", "two", "tmpfs").mount("/mnt/in", source, "bind", ["bind"])
    runtime.run(b).ok("/mnt:\nin\n\n/mnt/in:\nfile\nsub\n")


# --- destinations ----------------------------------------------------------------------------------------------------

def test_mt02_missing_destinations_are_made(runtime, bundle, source):
    b = bundle("sh", "-c", "cat /a/b/c; ls /d/e")
    b.mount("/a/b/c", f"{source}/file", "bind", ["bind"]).mount("/d/e", source, "bind", ["bind"])
    runtime.run(b, umask=0o22).ok("content\nfile\nsub\n")
    assert os.path.isfile(f"{b.rootfs}/a/b/c")
    assert stat.S_IMODE(os.stat(f"{b.rootfs}/d/e").st_mode) == 0o755


def test_mt02_relative_destination_is_relative_to_the_root(runtime, bundle):
    result = runtime.run(bundle("/bin/probe").mount("mnt", "x", "tmpfs")).ok()
    assert " /mnt " in result.out


@pytest.mark.parametrize("target", ["/inside", "../../../../inside", "inside", "/../../inside"])
def test_mt02_symlinked_destination_stays_inside(runtime, bundle, target):
    b = bundle()
    os.mkdir(f"{b.rootfs}/inside")
    os.symlink(target, f"{b.rootfs}/link")
    seen = runtime.probe(b.mount("/link", "here", "tmpfs"))
    assert top(seen, "/inside")["source"] == "here"


@differs_from(OLD, "fails on it")
def test_mt02_dangling_symlink_is_followed_inside(runtime, bundle):
    b = bundle()
    os.symlink("/later/made", f"{b.rootfs}/link")
    seen = runtime.probe(b.mount("/link", "here", "tmpfs"))
    assert top(seen, "/later/made")["source"] == "here"


def test_mt02_symlinked_parent_stays_inside(runtime, bundle, work):
    os.mkdir(f"{work}/outside")
    b = bundle()
    os.symlink(f"{work}/outside", f"{b.rootfs}/parent")
    runtime.run(b.args("true").mount("/parent/new", "x", "tmpfs"))
    assert os.listdir(f"{work}/outside") == []


def test_mt02_symlink_loop_is_an_error(runtime, bundle):
    b = bundle("true")
    os.symlink("loop", f"{b.rootfs}/loop")
    runtime.run(b.mount("/loop/x", "x", "tmpfs")).fails("/loop")


# --- bind mounts -----------------------------------------------------------------------------------------------------

def test_mt03_relative_source_belongs_to_the_bundle(runtime, bundle):
    b = bundle("cat", "/mnt/f")
    os.mkdir(f"{b.path}/data")
    with open(f"{b.path}/data/f", "w", encoding="ascii") as file:
        file.write("mine\n")
    runtime.run(b.mount("/mnt", "data", "bind", ["bind"])).ok("mine\n")


def test_mt04_type_of_a_bind_is_ignored(runtime, bundle, source):
    for fstype in ("none", "bind", "ext4", None):
        b = bundle("cat", "/mnt/file").mount("/mnt", source, fstype, ["rbind"])
        runtime.run(b).ok("content\n")


@differs_from(OLD, "ignores them")
def test_mt05_bind_with_data_is_refused(runtime, bundle, source):
    b = bundle("true").mount("/mnt", source, "bind", ["bind", "size=1k"])
    runtime.run(b).fails("bind mounts cannot have any filesystem-specific options applied")


@pytest.mark.parametrize("kind, visible", [("bind", False), ("rbind", True)])
def test_bind_and_rbind(runtime, bundle, source, kind, visible):
    seen = runtime.probe(bundle().mount("/mnt", source, "bind", [kind]))
    assert ("/mnt/sub" in entries(seen)) == visible


@pytest.mark.parametrize("options, flag, present", [
    (["bind", "ro"], "ro", True), (["bind", "rw"], "rw", True), (["bind", "nosuid"], "nosuid", True),
    (["bind", "nodev"], "nodev", True), (["bind", "noexec"], "noexec", True), (["bind", "noatime"], "noatime", True),
    (["bind", "nodiratime"], "nodiratime", True), (["bind", "relatime"], "relatime", True),
    (["bind", "ro", "rw"], "ro", False), (["bind", "noexec", "exec"], "noexec", False),
    pytest.param(["bind", "nosymfollow"], "nosymfollow", True, marks=differs_from(OLD, "unknown option"))],
    ids=lambda value: ",".join(value) if isinstance(value, list) else str(value))
def test_mt07_flags_of_binds(runtime, bundle, source, options, flag, present):
    seen = runtime.probe(bundle().mount("/mnt", source, "bind", options))
    assert (flag in top(seen, "/mnt")["options"]) == present, top(seen, "/mnt")


@pytest.mark.parametrize("option, flag", [
    ("ro", "ro"), ("rw", "rw"), ("nosuid", "nosuid"), ("nodev", "nodev"), ("noexec", "noexec"), ("noatime", "noatime"),
    ("nodiratime", "nodiratime"), ("relatime", "relatime"), ("strictatime", "rw"), ("norelatime", "rw"), ("defaults", "rw"),
    ("async", "rw"), ("dev", "rw"), ("exec", "rw"), ("suid", "rw"), ("atime", "rw"), ("diratime", "rw"),
    ("nostrictatime", "rw"), ("loud", "rw"), ("silent", "rw"), ("iversion", "rw"), ("noiversion", "rw"),
    ("lazytime", "rw"), ("nolazytime", "rw"), ("symfollow", "rw"), ("mand", "rw"), ("nomand", "rw"),
    ("nosymfollow", "nosymfollow")])
def test_mt07_every_flag_word_is_known(runtime, bundle, option, flag):
    if runtime.peer == OLD and option in ("loud", "silent", "iversion", "noiversion", "lazytime", "nolazytime", "symfollow",
                                          "nosymfollow", "defaults"):
        pytest.skip("unknown to runc 1.1.5")
    if option in ("mand", "iversion"):
        # Filesystems or kernels may refuse them; known means that they are not passed on as data.
        result = runtime.run(bundle("true").mount("/mnt", "x", "tmpfs", [option]))
        assert result.code == 0 or "EINVAL" not in result.message or option == "mand", result
        return
    seen = runtime.probe(bundle().mount("/mnt", "x", "tmpfs", [option]))
    assert flag in top(seen, "/mnt")["options"]


@pytest.mark.parametrize("option", ["sync", "dirsync"])
def test_mt07_super_block_flags(runtime, bundle, option):
    seen = runtime.probe(bundle().mount("/mnt", "x", "tmpfs", [option]))
    assert option in top(seen, "/mnt")["super"] + top(seen, "/mnt")["options"]


def test_mt06_unknown_options_are_data(runtime, bundle):
    seen = runtime.probe(bundle().mount("/mnt", "x", "tmpfs", ["size=64k", "nr_inodes=10", "mode=0700"]))
    assert {"size=64k", "nr_inodes=10", "mode=700"} <= set(top(seen, "/mnt")["super"])


@pytest.mark.parametrize("option, marks", [
    ("private", []), ("rprivate", []), ("shared", ["shared"]), ("rshared", ["shared"]), ("slave", ["master"]),
    ("rslave", ["master"]), ("unbindable", ["unbindable"]), ("runbindable", ["unbindable"])])
def test_mt08_propagation(runtime, bundle, work, option, marks):
    path = f"{work}/tree"
    os.mkdir(path)
    host.mount("tree", path, "tmpfs")
    host.mount("none", path, None, host.MS_SHARED)
    try:
        seen = runtime.probe(bundle().mount("/mnt", path, "bind", ["bind", option]))
    finally:
        host.umount(path)
    optional = [word.split(":")[0] for word in top(seen, "/mnt")["optional"]]
    assert optional == marks or (option.endswith("shared") and "shared" in optional)


def test_mt08_shared_volume_propagates_to_the_host(runtime, bundle, work):
    path = f"{work}/tree"
    os.mkdir(path)
    host.mount("tree", path, "tmpfs")
    host.mount("none", path, None, host.MS_SHARED)
    try:
        b = bundle("sh", "-c", "mkdir /mnt/in && mount -t tmpfs fromcontainer /mnt/in && sleep 1000")
        b.add_capabilities("CAP_SYS_ADMIN").mount("/mnt", path, "bind", ["bind", "rshared"])
        b.linux["rootfsPropagation"] = "shared"
        runtime.up(b)
        host.eventually(lambda: "fromcontainer" in host.read("/proc/self/mountinfo"))
        runtime.stop(b)
    finally:
        host.umount(path)  # lazily, with what is mounted below


@differs_from(OLD, "unknown options")
@pytest.mark.parametrize("options, sub_flag", [
    (["rbind", "rro"], "ro"), (["rbind", "rnosuid"], "nosuid"), (["rbind", "rnodev"], "nodev"),
    (["rbind", "rnoexec"], "noexec"), (["rbind", "rnoatime"], "noatime"), (["rbind", "rnodiratime"], "nodiratime"),
    (["rbind", "rnosymfollow"], "nosymfollow"), (["rbind", "rrelatime"], "relatime")], ids=lambda v: ",".join(v) if v else "")
def test_mt11_recursive_flags(runtime, bundle, source, options, sub_flag):
    seen = runtime.probe(bundle().mount("/mnt", source, "bind", options))
    assert sub_flag in top(seen, "/mnt")["options"]
    assert sub_flag in top(seen, "/mnt/sub")["options"]


def test_mt11_rbind_ro_is_not_recursive(runtime, bundle, source):
    seen = runtime.probe(bundle().mount("/mnt", source, "bind", ["rbind", "ro"]))
    assert "ro" in top(seen, "/mnt")["options"] and "rw" in top(seen, "/mnt/sub")["options"]


def test_mt14_flags_of_the_source_are_kept(runtime, bundle, work):
    """A plain `ro` must not lift the nosuid, nodev, noexec of the source mount."""
    path = f"{work}/tree"
    os.mkdir(path)
    host.mount("tree", path, "tmpfs", 2 | 4 | 8)  # nosuid, nodev, noexec
    try:
        seen = runtime.probe(bundle().mount("/mnt", path, "bind", ["bind"]))
    finally:
        host.umount(path)
    assert {"nosuid", "nodev", "noexec"} <= set(top(seen, "/mnt")["options"])


def test_mt14_read_only_bind_is_enforced(runtime, bundle, source):
    b = bundle("sh", "-c", "echo x > /mnt/file; echo $?").mount("/mnt", source, "bind", ["bind", "ro"])
    assert runtime.run(b).ok().out == "1\n"
    assert host.read(f"{source}/file") == "content\n"


# --- tmpfs, proc, sysfs, mqueue --------------------------------------------------------------------------------------

@differs_from(OLD, "other modes")
def test_mt19_tmpfs_takes_the_mode_of_the_directory(runtime, bundle):
    b = bundle("sh", "-c", "stat -c %a /mnt /fresh").mount("/mnt", "x", "tmpfs").mount("/fresh", "x", "tmpfs")
    os.chmod(f"{b.rootfs}/mnt", 0o710)
    assert runtime.run(b).ok().out.split()[0] == "710"


def test_mt10_tmpcopyup(runtime, bundle):
    b = bundle("sh", "-c", "cat /data/file; stat -c '%a %u' /data/file /data/dir; touch /data/new && ls /data")
    b.file("data/file", "copied\n", 0o640)
    os.mkdir(f"{b.rootfs}/data/dir", 0o750)
    os.chown(f"{b.rootfs}/data/file", 7, 8)
    b.add_capabilities("CAP_DAC_OVERRIDE")
    out = runtime.run(b.mount("/data", "x", "tmpfs", ["tmpcopyup"])).ok().out
    assert out == "copied\n640 7\n750 0\ndir\nfile\nnew\n"
    assert sorted(os.listdir(f"{b.rootfs}/data")) == ["dir", "file"]


def test_mt19_read_only_tmpfs(runtime, bundle):
    b = bundle("sh", "-c", "touch /mnt/x; echo $?").mount("/mnt", "x", "tmpfs", ["ro"])
    assert runtime.run(b).ok().out == "1\n"


def test_mt19_read_only_dev_still_has_its_nodes(runtime, bundle):
    b = bundle("sh", "-c", "test -c /dev/null && touch /dev/x; echo $?")
    next(m for m in b.config["mounts"] if m["destination"] == "/dev")["options"].append("ro")
    assert runtime.run(b).ok().out == "1\n"


def test_mt19_dev_remounted_read_only_still_has_its_nodes(runtime, bundle):
    b = bundle("sh", "-c", "test -c /dev/null && touch /dev/x; echo $?")
    b.mount("/dev", "tmpfs", "tmpfs", ["remount", "ro", "nosuid"])
    assert runtime.run(b).ok().out == "1\n"


def test_ct05_file_on_a_directory_is_no_directory(runtime, bundle, source):
    """Callers tell a mistaken volume by these words."""
    runtime.run(bundle("true").mount("/mnt", f"{source}/file", "bind", ["bind"])).fails("/mnt", "not a directory")
    runtime.run(bundle("true").mount("/etc/passwd", source, "bind", ["bind"])).fails("/etc/passwd", "not a directory")


@differs_from(OLD, "follows or words it differently")
@pytest.mark.parametrize("name", ["proc", "sys"])
def test_mt17_symlinked_proc_or_sys_is_refused(runtime, bundle, name):
    """CVE-2019-19921, CVE-2023-27561."""
    b = bundle("true")
    os.rename(f"{b.rootfs}/{name}", f"{b.rootfs}/other")
    os.symlink("other", f"{b.rootfs}/{name}")
    runtime.run(b).fails("must be mounted on ordinary directory")


@pytest.mark.parametrize("destination", ["/proc/self/attr", "/proc/sys/kernel", "/proc/1", "/proc/sysrq-trigger"])
def test_mt18_mounts_into_proc_are_refused(runtime, bundle, source, destination):
    """CVE-2019-16884."""
    b = bundle("true").mount(destination, source, "bind", ["bind"])
    runtime.run(b).fails("/proc")


def test_mt18_only_procfs_over_proc(runtime, bundle, source):
    b = bundle("true").without_mount("/proc").mount("/proc", source, "bind", ["bind"])
    runtime.run(b).fails("/proc")


@pytest.mark.parametrize("name", ["cpuinfo", "meminfo", "stat", "uptime", "loadavg", "diskstats", "swaps"])
def test_mt18_listed_files_may_be_covered(runtime, bundle, source, name):
    b = bundle("cat", f"/proc/{name}").mount(f"/proc/{name}", f"{source}/file", "bind", ["bind", "ro"])
    runtime.run(b).ok("content\n")


@pytest.mark.parametrize("options", [["ro"], ["nosuid", "noexec", "nodev"]], ids=str)
def test_proc_options(runtime, bundle, options):
    b = bundle()
    next(m for m in b.config["mounts"] if m["destination"] == "/proc")["options"] = options
    assert set(options) <= set(top(runtime.probe(b), "/proc")["options"])


@differs_from(OLD, "fails")
def test_mt17_sysfs_without_network_namespace(runtime, bundle):
    """In a user namespace that does not own the network namespace, sysfs cannot be mounted: the host's is bound."""
    b = bundle().user_namespace().without_namespace("network")
    seen = runtime.probe(b)
    assert top(seen, "/sys")["type"] == "sysfs" and "ro" in top(seen, "/sys")["options"]


def test_mt20_devpts_is_a_new_instance(runtime, bundle):
    result = runtime.run(bundle("sh", "-c", "ls /dev/pts; readlink /dev/ptmx"))
    assert result.ok().out == "ptmx\npts/ptmx\n"


def test_overlay(runtime, bundle, work):
    for name in ("lower", "upper", "worker"):
        os.mkdir(f"{work}/{name}")
    host.mount("scratch", f"{work}/upper", "tmpfs")
    os.mkdir(f"{work}/upper/u")
    os.mkdir(f"{work}/upper/w")
    with open(f"{work}/lower/f", "w", encoding="ascii") as file:
        file.write("low\n")
    try:
        b = bundle("sh", "-c", "cat /mnt/f; echo new > /mnt/f; cat /mnt/f").mount("/mnt", "overlay", "overlay", [
            f"lowerdir={work}/lower", f"upperdir={work}/upper/u", f"workdir={work}/upper/w"])
        runtime.run(b).ok("low\nnew\n")
        assert host.read(f"{work}/lower/f") == "low\n"
    finally:
        host.umount(f"{work}/upper")


# --- id-mapped mounts ------------------------------------------------------------------------------------------------

@pytest.fixture
def owned(work):
    """A tmpfs with files of uids 0, 5 and 1000, and a sub-mount with one of uid 5."""
    path = f"{work}/owned"
    os.mkdir(path)
    host.mount("owned", path, "tmpfs", data="mode=755")
    for uid in (0, 5, 1000):
        open(f"{path}/{uid}", "wb").close()
        os.chown(f"{path}/{uid}", uid, uid)
    os.mkdir(f"{path}/sub")
    host.mount("sub", f"{path}/sub", "tmpfs", data="mode=755")
    open(f"{path}/sub/5", "wb").close()
    os.chown(f"{path}/sub/5", 5, 5)
    yield path
    host.umount(f"{path}/sub")
    host.umount(path)


SHIFT = [{"containerID": 0, "hostID": 100000, "size": 65536}]


@differs_from(OLD, "no id-mapped mounts")
@pytest.mark.parametrize("options, sub", [(["rbind", "idmap"], "5"), (["rbind", "ridmap"], "100005")], ids=str)
def test_mt12_idmap_with_own_mapping(runtime, bundle, owned, options, sub):
    b = bundle("sh", "-c", "stat -c %u:%g /mnt/0 /mnt/5 /mnt/1000; stat -c %u /mnt/sub/5")
    b.mount("/mnt", owned, "bind", options, uidMappings=SHIFT, gidMappings=SHIFT)
    out = runtime.run(b).ok().out.split()
    assert out == ["100000:100000", "100005:100005", "101000:101000", sub]


@differs_from(OLD, "no id-mapped mounts")
def test_mt13_mappings_imply_idmap(runtime, bundle, owned):
    b = bundle("stat", "-c", "%u", "/mnt/5").mount("/mnt", owned, "bind", ["bind"], uidMappings=SHIFT, gidMappings=SHIFT)
    runtime.run(b).ok("100005\n")


@differs_from(OLD, "no id-mapped mounts")
def test_mt12_idmap_with_the_containers_mapping(runtime, bundle, owned):
    """The file owner's number inside is the one on disk."""
    b = bundle("stat", "-c", "%u", "/mnt/0", "/mnt/5").user_namespace().mount("/mnt", owned, "bind", ["bind", "idmap"])
    runtime.run(b).ok("0\n5\n")


@differs_from(OLD, "no id-mapped mounts")
@pytest.mark.parametrize("more", [{}, {"uidMappings": SHIFT}, {"gidMappings": SHIFT}], ids=lambda v: str(list(v)))
def test_mt12_idmap_needs_both_mappings(runtime, bundle, owned, more):
    b = bundle("true").mount("/mnt", owned, "bind", ["bind", "idmap"], **more)
    runtime.run(b).fails("mapping")


@differs_from(OLD, "no id-mapped mounts")
def test_mt12_idmap_only_for_binds(runtime, bundle):
    b = bundle("true").mount("/mnt", "x", "tmpfs", ["idmap"], uidMappings=SHIFT, gidMappings=SHIFT)
    runtime.run(b).fails("run failed: ")


# --- cgroup mounts ---------------------------------------------------------------------------------------------------

@needs_v1
def test_mt15_cgroup_v1_hierarchies(runtime, bundle):
    b = bundle()
    seen = runtime.probe(b)
    table = entries(seen)
    assert table["/sys/fs/cgroup"][-1]["type"] == "tmpfs"
    assert "ro" in table["/sys/fs/cgroup"][-1]["options"] or runtime.peer == OLD
    for controller in ("memory", "pids", "cpu", "devices", "freezer"):
        entry = table[f"/sys/fs/cgroup/{controller}"][-1]
        assert entry["type"] == "cgroup" and "ro" in entry["options"], controller
        assert entry["root"] == b.linux["cgroupsPath"], controller


@needs_v1
def test_mt15_writable_cgroup_mount_with_namespace(runtime, bundle):
    b = bundle("sh", "-c", "mkdir /sys/fs/cgroup/pids/sub && ls -d /sys/fs/cgroup/pids/sub").namespace("cgroup")
    mount = next(m for m in b.config["mounts"] if m["destination"] == "/sys/fs/cgroup")
    mount["options"].remove("ro")
    runtime.run(b).ok("/sys/fs/cgroup/pids/sub\n")


# --- propagation of the root -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("value, mark", [("private", None), ("rprivate", None), ("shared", "shared"), ("rshared", "shared"),
                                         ("unbindable", "unbindable"), ("runbindable", "unbindable")])
def test_lx14_rootfs_propagation(runtime, bundle, value, mark):
    if runtime.peer == OLD and mark:
        pytest.skip("runc 1.1.5 sets it before the pivot")
    seen = runtime.probe(bundle(linux={"rootfsPropagation": value}))
    optional = [word.split(":")[0] for word in top(seen, "/")["optional"]]
    assert (mark in optional) if mark else ("shared" not in optional and "unbindable" not in optional)


def test_lx14_default_receives_host_mounts_but_sends_none(runtime, bundle, work):
    """rslave: what the container mounts stays there."""
    before = host.mount_table()
    b = bundle("sh", "-c", "mount -t tmpfs inner /mnt && grep -c inner /proc/self/mountinfo")
    b.add_capabilities("CAP_SYS_ADMIN")
    runtime.run(b).ok("1\n")
    assert host.mount_table() == before


def test_hosts_propagation_is_untouched(runtime, bundle, work):
    """The mount below the bundle keeps its shared mark while and after a container runs on it."""
    path = f"{work}/shared"
    os.mkdir(path)
    host.mount("shared", path, "tmpfs")
    host.mount("none", path, None, host.MS_SHARED)
    try:
        before = host.mount_table()
        b = bundle("true").mount("/mnt", path, "bind", ["rbind", "rprivate"])
        runtime.run(b).ok()
        assert host.mount_table() == before
    finally:
        host.umount(path)


def test_many_mounts(runtime, bundle):
    b = bundle("/bin/probe")
    for number in range(200):
        b.mount(f"/mnt/{number}", "x", "tmpfs", ["size=4k"])
    b.writable()
    b.config["mounts"].insert(0, {"destination": "/mnt", "type": "tmpfs", "source": "x"})
    assert len(entries(runtime.probe(b))) >= 200
