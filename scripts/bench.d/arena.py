"""Where the contest takes place: a private mount namespace, a temporary directory, a cgroup, and their removal."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import bundles

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_CLONE_NEWNS = 0x20000
_REMOVAL_SECONDS = 10


def enter_private_namespace():
    """Hides the cgroup2 mount of a hybrid host, on which crun does not start; for all contestants alike."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    if (_CGROUPS / "unified").is_mount():
        subprocess.run(["umount", str(_CGROUPS / "unified")], check=True)


def _remove_tree(top):
    """Removes a cgroup of ours with all below it, after killing what a failed contestant may have left there."""
    for directory, _, _ in os.walk(top, topdown=False):
        deadline = time.monotonic() + _REMOVAL_SECONDS
        # It stays busy for a moment after its last process is gone.
        while os.path.isdir(directory):
            for pid in pathlib.Path(directory, "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            try:
                os.rmdir(directory)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _copy_cpuset(directory):
    for name in ("cpuset.cpus", "cpuset.mems"):
        file = directory / name
        if file.exists() and not file.read_text().strip():
            file.write_text((directory.parent / name).read_text())


class Arena:
    """A context manager; `hierarchies` is empty on cgroup v2."""

    def __init__(self):
        self.is_v2 = (_CGROUPS / "cgroup.controllers").exists()
        self.hierarchies = [] if self.is_v2 else sorted(p.name for p in _CGROUPS.iterdir() if p.is_mount())
        self.cgroup = f"/gantry-test/bench-{os.getpid()}"
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gantry-bench-"))
        self.rootfs = self.directory / "rootfs"
        self.state = self.directory / "state"
        self._null = os.stat("/dev/null")

    def __enter__(self):
        bundles.make_rootfs(self.rootfs)
        # State lives on a tmpfs wherever runtimes are really used.
        self.state.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", str(self.state)], check=True)
        for name in self.hierarchies or [""]:
            directory = _CGROUPS / name / self.cgroup.lstrip("/")
            directory.mkdir(parents=True)
            if name == "cpuset":
                _copy_cpuset(directory.parent)
                _copy_cpuset(directory)
        return self

    def __exit__(self, *_):
        for name in self.hierarchies or [""]:
            top = _CGROUPS / name / self.cgroup.lstrip("/")
            _remove_tree(top)
            # The parent goes too unless somebody else uses it.
            with contextlib.suppress(OSError):
                top.parent.rmdir()
        subprocess.run(["umount", "-l", str(self.state)], check=False)
        shutil.rmtree(self.directory)
        self._restore_null()

    def _restore_null(self):
        """Peers are known to give the host's /dev/null to a container's user."""
        os.chown("/dev/null", self._null.st_uid, self._null.st_gid)
        os.chmod("/dev/null", self._null.st_mode & 0o7777)
