"""The runtime in a chroot, as build systems have it: what it makes is entered at the container's root, not the host's."""
import os
import subprocess

import pytest

from lib import host
from lib.marks import differs_from

MS_SHARED = 1 << 20


@pytest.fixture
def jail(runtime, work):
    """The runtime with the host's tree bound below it as its root, and a directory in that which the host lacks."""
    top, inside = f"{work}/top", f"{work}/inside"
    os.mkdir(top)
    os.mkdir(inside)
    host.mount("/", top, None, host.MS_BIND | host.MS_REC)
    host.mount("inside", f"{top}{inside}", "tmpfs")
    jailed = runtime.in_view(["chroot", top])
    jailed.inside = inside
    jailed.top = top
    yield jailed
    runtime.cleanup()
    host.umount(top)


@pytest.mark.parametrize("flags", [(), ("--no-pivot",)], ids=["pivot_root", "move"])
@differs_from("runc", "enters the host's root")
def test_exec_sees_the_container(jail, runtime, bundle, flags):
    b = bundle("/bin/probe", "idle")
    b.file("etc/mark", "the container's\n")
    jail.create(b, *flags).ok()
    jail.start(b).ok()
    host.eventually(lambda: "ready" in b.out(), what="idle program")
    for view in (jail, runtime):
        assert view.exec(b, ["cat", "/etc/mark"]).ok().out == "the container's\n"
        assert sorted(view.exec(b, ["ls", "/"]).ok().out.split()) == sorted(os.listdir(b.rootfs))
    # So does everybody else who joins its mount namespace.
    pid = runtime.state(b)["pid"]
    entered = subprocess.run(["nsenter", f"--mount=/proc/{pid}/ns/mnt", "/bin/busybox", "cat", "/etc/mark"],
                             capture_output=True, text=True, timeout=10, check=False)
    assert entered.stdout == "the container's\n", entered


def test_a_chroot_must_be_a_mount_point(runtime, bundle, work):
    """Nothing can be made private for the container alone in any other."""
    plain = f"{work}/plain"
    os.mkdir(plain)
    bound = []
    try:
        for entry in os.scandir("/"):
            here = f"{plain}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), here)
            elif entry.is_dir():
                os.mkdir(here)
                host.mount(entry.path, here, None, host.MS_BIND | host.MS_REC)
                bound.append(here)
        runtime.in_view(["chroot", plain]).run(bundle("true")).fails("/ is a chroot that is no mount point")
    finally:
        for here in bound:
            host.umount(here)


def test_the_hosts_mounts_stay(jail, bundle, work):
    """Not even those that propagate: all of the old root is let go of in the container's mount namespace alone."""
    shared = f"{work}/shared"
    os.mkdir(shared)
    host.mount("shared", shared, "tmpfs")
    host.mount(None, shared, None, MS_SHARED)
    os.mkdir(f"{shared}/below")
    host.mount("below", f"{shared}/below", "tmpfs")
    before = host.mount_table()
    try:
        jail.run(bundle("true")).ok()
        jail.run(bundle("true"), "--no-pivot").ok()
        assert host.mount_table() == before
    finally:
        host.umount(shared)


def test_hk04_create_container_hooks_are_those_of_the_chroot(jail, bundle):
    """Their paths are the caller's, though they run in the container's namespaces."""
    script = f"{jail.inside}/hook"
    with open(f"{jail.top}{script}", "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\nreadlink /proc/self/ns/mnt > {jail.inside}/seen\n")
    os.chmod(f"{jail.top}{script}", 0o755)
    b = bundle("true")
    b.config["hooks"] = {"createContainer": [{"path": script}]}
    jail.run(b).ok()
    seen = host.read(f"{jail.top}{jail.inside}/seen").strip()
    assert seen.startswith("mnt:") and seen != os.readlink("/proc/self/ns/mnt")
