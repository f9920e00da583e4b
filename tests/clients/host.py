"""What the client tests need from the host: cgroups, mounts, and waiting with a deadline."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

POLL_SECONDS = 0.02


def eventually(condition, what, seconds=20):
    """Polls `condition` until it is true and returns its value; fails naming `what` at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(POLL_SECONDS)


def container_name(test_name):
    """A container name that all clients accept, made of a test's name with its parameters."""
    return re.sub("[^a-z0-9]+", "-", test_name.lower()).strip("-")


def _mountinfo():
    """Yields (mount point, file system type, super options) of every mount of this namespace."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        front, back = line.split(" - ", 1)
        point = front.split()[4].encode().decode("unicode_escape")
        kind, _, options = back.split(" ", 2)
        yield point, kind, options.split(",")


def cgroup_mounts():
    """The mount points of all cgroup hierarchies below /sys/fs/cgroup, as controller list -> path; v2 is ("",)."""
    mounts = {}
    for point, kind, options in _mountinfo():
        if point != "/sys/fs/cgroup" and not point.startswith("/sys/fs/cgroup/"):
            continue
        if kind == "cgroup2":
            mounts[("",)] = pathlib.Path(point)
        elif kind == "cgroup":
            mounts[tuple(options)] = pathlib.Path(point)
    return mounts


def _cgroup_dir(pid, controller):
    """The directory of a process's cgroup in the hierarchy that has `controller`, and whether that is v2."""
    mounts = cgroup_mounts()
    unified = None
    for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            unified = path
        elif controller in controllers.split(","):
            for names, point in mounts.items():
                if controller in names:
                    return point / path.lstrip("/"), False
    assert unified is not None and ("",) in mounts, f"no hierarchy has the controller {controller}"
    return mounts[("",)] / unified.lstrip("/"), True


def cgroup_value(pid, controller, v1_file, v2_file):
    """Reads a cgroup file of a process, whichever version carries the controller here."""
    directory, is_v2 = _cgroup_dir(pid, controller)
    return (directory / (v2_file if is_v2 else v1_file)).read_text().strip()


def is_frozen(pid):
    """True when the process's cgroup is frozen, asked of the kernel and not of the client."""
    directory, is_v2 = _cgroup_dir(pid, "freezer")
    if is_v2:
        return "frozen 1" in (directory / "cgroup.events").read_text()
    return (directory / "freezer.state").read_text().strip() == "FROZEN"


def cgroup_leaves(parent):
    """All cgroups below `parent` (a path such as /gantry-test/x), in all hierarchies, deepest first."""
    found = []
    for point in cgroup_mounts().values():
        top = point / parent.lstrip("/")
        found += [pathlib.Path(directory) for directory, _, _ in os.walk(top, topdown=False) if directory != str(top)]
    return found


def _empty_cgroup(directory):
    """Thaws a cgroup and kills what is in it: a frozen process would not die."""
    for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        with contextlib.suppress(OSError):
            if (directory / name).exists():
                (directory / name).write_text(value)
    with contextlib.suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def _rmdir(directory):
    try:
        directory.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True


def remove_cgroups(parent):
    """Kills everything in `parent` and below, in all hierarchies, and removes it; its own parent too, if now empty."""
    for point in cgroup_mounts().values():
        top = point / parent.lstrip("/")
        for directory, _, _ in os.walk(top, topdown=False):
            path = pathlib.Path(directory)
            _empty_cgroup(path)
            eventually(lambda path=path: _rmdir(path), f"{path} can be removed")
        _rmdir(top.parent)


def overlay_works(directory):
    """Whether overlayfs can be mounted on this directory's file system (not on another overlay)."""
    with tempfile.TemporaryDirectory(dir=directory) as top:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{top}/{name}")
        options = f"lowerdir={top}/lower,upperdir={top}/upper,workdir={top}/work"
        argv = ["mount", "-t", "overlay", "-o", options, "overlay", f"{top}/merged"]
        done = subprocess.run(argv, capture_output=True, check=False)
        if done.returncode == 0:
            subprocess.run(["umount", f"{top}/merged"], check=True)
        return done.returncode == 0
