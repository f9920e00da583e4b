"""Masked and read-only paths (LX-15, LX-16) and what an image may do to them (security classes C and D)."""
import os

import pytest

from lib import bundle as bundle_defaults
from lib import host
from lib.marks import OLD, differs_from


# A default masked file of procfs that this kernel has.
MASKED_FILE = next(path for path in bundle_defaults.MASKED if os.path.isfile(path))


def outcomes(text):
    return dict(line.rsplit(" ", 1) for line in text.splitlines())


def test_lx15_masked_files_are_null_and_directories_empty(runtime, bundle):
    b = bundle("sh", "-c", f"stat -c '%t:%T' {MASKED_FILE} /etc/file; ls -A /etc/dir; touch /etc/dir/x; echo $?").writable()
    b.file("etc/file", "secret")
    b.file("etc/dir/inner", "secret")
    b.linux["maskedPaths"] += ["/etc/file", "/etc/dir"]
    assert runtime.run(b).ok().out == "1:3\n1:3\n1\n"


def test_lx15_every_default_path(runtime, bundle):
    b = bundle("/bin/probe", "read", *filter(os.path.isfile, bundle_defaults.MASKED))
    assert set(outcomes(runtime.run(b).ok().out).values()) == {"EMPTY"}


def test_lx15_missing_paths_and_duplicates_are_fine(runtime, bundle):
    b = bundle("true", linux={"maskedPaths": ["/no/such", MASKED_FILE, MASKED_FILE, "/etc", "/etc/passwd"]})
    runtime.run(b).ok()


@differs_from("crun", "has no effect")
@pytest.mark.parametrize("path", ["/", pytest.param("/etc/..", marks=differs_from("runc", "knows it only by its name"))])
def test_lx16_the_root_itself_may_be_read_only(runtime, bundle, path):
    """A mount on / would be one that nobody walks into."""
    b = bundle("sh", "-c", "touch /x 2>&1; touch /dev/x /dev/shm/x && echo rest", linux={"readonlyPaths": [path]}).writable()
    assert runtime.run(b).ok().out == "touch: /x: Read-only file system\nrest\n"


def test_lx15_many(runtime, bundle):
    b = bundle("true", linux={"maskedPaths": [f"/no/such/{n}" for n in range(1000)] + [MASKED_FILE] * 50})
    runtime.run(b).ok()


@differs_from(OLD, "one tmpfs each, with the default size")
def test_lx15_masked_directories_hold_nothing(runtime, bundle):
    seen = runtime.probe(bundle(linux={"maskedPaths": ["/etc", "/home"]}))
    lines = [line for line in seen["mounts"] if line.split()[4] in ("/etc", "/home")]
    assert len(lines) == 2
    for line in lines:
        assert " - tmpfs " in line and "ro" in line.split()[5].split(",")


def test_lx16_read_only_paths(runtime, bundle):
    b = bundle("sh", "-c", "for p in /proc/sys/kernel/domainname /proc/irq/default_smp_affinity /data/f; do /bin/probe write $p; done")
    b.writable().file("data/f", "x")
    b.linux["readonlyPaths"].append("/data")
    seen = outcomes(runtime.run(b).ok().out)
    assert set(seen.values()) == {"EROFS"}


def test_lx16_missing_paths_are_fine_and_files_too(runtime, bundle):
    b = bundle("/bin/probe", "write", "/etc/one", "/etc/two", linux={"readonlyPaths": ["/nowhere", "/etc/one"]}).writable()
    b.file("etc/one", "x")
    b.file("etc/two", "x")
    assert outcomes(runtime.run(b).ok().out) == {"/etc/one": "EROFS", "/etc/two": "OK"}


def test_lx16_flags_are_kept(runtime, bundle):
    seen = runtime.probe(bundle(linux={"readonlyPaths": ["/dev/shm", "/sys/kernel"]}))
    options = [line.split()[5].split(",") for line in seen["mounts"] if line.split()[4] == "/dev/shm"][-1]
    assert {"ro", "nosuid", "noexec", "nodev"} <= set(options)


def test_lx16_sub_mounts_of_a_read_only_path(runtime, bundle):
    """rbind: what is mounted below stays visible."""
    b = bundle("sh", "-c", "mount | grep -c ' /mnt/in '", linux={"readonlyPaths": ["/mnt"]}).writable()
    b.mount("/mnt/in", "x", "tmpfs")
    assert int(runtime.run(b).ok().out) >= 1


# --- hostile images --------------------------------------------------------------------------------------------------

TARGETS = ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "regular", "fifo", "missing", "other device"]


@differs_from(OLD, "vulnerable (CVE-2025-31133)")
@pytest.mark.parametrize("kind", TARGETS)
def test_d_null_of_the_image_is_not_the_mask(runtime, bundle, kind):
    """CVE-2025-31133: nothing is mounted on /dev and the image's own /dev/null is not a null device."""
    core_pattern = host.read("/proc/sys/kernel/core_pattern")
    b = bundle("sh", "-c", f"stat -c '%t:%T' {MASKED_FILE} /etc/secret; echo hacked > /etc/secret; "
                           "echo hacked > /proc/sys/kernel/core_pattern; true")
    b.without_mount("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue").writable()
    b.file("etc/secret", "x")
    b.linux["maskedPaths"].append("/etc/secret")
    path = f"{b.rootfs}/dev/null"
    if kind.startswith("/"):
        os.symlink(kind, path)
    elif kind == "regular":
        b.file("dev/null", "")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "other device":
        os.mknod(path, 0o20666, os.makedev(1, 5))
    result = runtime.run(b, timeout=10)
    assert host.read("/proc/sys/kernel/core_pattern") == core_pattern
    if result.code == 0:
        assert result.out.split()[:2] == ["1:3", "1:3"], result
    else:
        assert result.message, result


def test_c_symlinked_proc_is_refused(runtime, bundle):
    """CVE-2019-19921, CVE-2023-27561, CVE-2025-54867."""
    b = bundle("true")
    os.rename(f"{b.rootfs}/proc", f"{b.rootfs}/fake")
    os.symlink("/fake", f"{b.rootfs}/proc")
    assert runtime.run(b).code == 1


def test_c_symlinked_proc_made_by_an_earlier_mount(runtime, bundle, work):
    """The link comes from a volume mounted before: /vol/link → /; /vol/link/proc must not become the container's."""
    os.makedirs(f"{work}/vol")
    os.symlink("/", f"{work}/vol/link")
    b = bundle("sh", "-c", "readlink /proc/self").mount("/mnt", f"{work}/vol", "bind", ["bind"])
    b.config["mounts"].append({"destination": "/mnt/link/tmp", "type": "tmpfs", "source": "tmpfs"})
    result = runtime.run(b)
    assert result.code == 1 or result.out == "1\n", result
    assert os.listdir(f"{work}/vol") == ["link"]


def test_c_masked_symlink_is_not_followed_out(runtime, bundle, work):
    """A masked path that is a link in the image: the target on the host must not be touched."""
    with open(f"{work}/canary", "w", encoding="ascii") as file:
        file.write("intact")
    b = bundle("true").writable()
    os.symlink(f"{work}/canary", f"{b.rootfs}/etc/link")
    b.linux["maskedPaths"].append("/etc/link")
    b.linux["readonlyPaths"].append("/etc/link")
    runtime.run(b)
    assert host.read(f"{work}/canary") == "intact"


@pytest.mark.parametrize("destination", ["/proc/.", "/proc/self", "/proc/self/attr", "/proc/thread-self/attr/exec", "/x/attr"])
def test_c_label_files_cannot_be_covered(runtime, bundle, work, destination):
    """CVE-2019-16884."""
    os.mkdir(f"{work}/fake")
    b = bundle("true")
    if destination == "/x/attr":
        os.symlink("/proc/self", f"{b.rootfs}/x")
    b.mount(destination, f"{work}/fake", "bind", ["bind"])
    assert runtime.run(b).code == 1


def test_c_program_cannot_undo_masks(runtime, bundle):
    b = bundle("sh", "-c", f"umount {MASKED_FILE} 2>/dev/null; mount -o remount,rw /proc/sys 2>/dev/null; "
                           f"stat -c '%t:%T' {MASKED_FILE}; /bin/probe write /proc/sys/kernel/domainname")
    assert runtime.run(b).ok().out == "1:3\n/proc/sys/kernel/domainname EROFS\n"


def test_c_masks_hold_for_exec(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    out = runtime.exec(b, ["sh", "-c", f"stat -c '%t:%T' {MASKED_FILE}; /bin/probe write /proc/sys/kernel/domainname"]).ok().out
    assert out == "1:3\n/proc/sys/kernel/domainname EROFS\n"


def test_d_read_only_root_with_a_forged_proc(runtime, bundle, work):
    """CVE-2026-115521: the root must become read-only although /proc of the container lies."""
    os.makedirs(f"{work}/forged/self/fd")
    for number in range(40):
        os.symlink("/tmp", f"{work}/forged/self/fd/{number}")
    b = bundle("sh", "-c", "touch /new; echo $?").without_mount("/proc")
    b.linux["maskedPaths"], b.linux["readonlyPaths"] = [], []
    for name in os.listdir(f"{work}/forged"):
        os.rename(f"{work}/forged/{name}", f"{b.rootfs}/proc/{name}")
    result = runtime.run(b)
    assert result.code != 0 or result.out == "1\n", result
    assert not os.path.exists(f"{b.rootfs}/new")
