"""Fixtures of the client tests: the runtime under test, a private world around it, and one object per client.

GANTRY_RUNTIME chooses the runtime (default: build/release/gantry). Any runc-compatible one must pass.
"""

import ctypes
import os
import pathlib
import subprocess
import tempfile

import pytest

import guardian
import images
from daemons import Containerd, Docker
from podman import Podman

TOP = pathlib.Path(__file__).resolve().parents[2]
CLONE_NEWNS = 0x20000


def _world_of(guardian_pid):
    return pathlib.Path(tempfile.gettempdir()) / f"gantry-clients-{guardian_pid}"


def pytest_configure():
    guardian.stand_guard(_world_of)


class Runtime:
    """The runtime under test, as the clients are told about it."""

    def __init__(self, path):
        self.path = str(path)
        version = subprocess.run([self.path, "--version"], capture_output=True, text=True, timeout=10, check=True)
        self.version = version.stdout.splitlines()[0]
        self.is_crun = self.version.startswith("crun")
        # What Debian 12 ships has bugs that were fixed since; a test may forgive them by this, saying which.
        self.is_old_peer = self.version.startswith(("runc version 1.1.", "crun version 1.8."))


def _leave_mount_namespace():
    """Moves this process, and so every client and daemon, to a mount namespace that nobody else sees.

    The root is made shared again, as on a host with an init system: clients behave differently on a private one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    # /run holds what the clients cannot be told to put elsewhere, such as the sockets of containerd's shims.
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)


def _hide_unified_hierarchy():
    """crun refuses a hybrid host: it sees a pure v1 one instead."""
    unified = pathlib.Path("/sys/fs/cgroup/unified")
    if unified.is_mount():
        subprocess.run(["umount", str(unified)], check=True)


@pytest.fixture(scope="session")
def runtime():
    path = pathlib.Path(os.environ.get("GANTRY_RUNTIME", TOP / "build/release/gantry"))
    assert os.geteuid() == 0, "the client tests need root"
    assert os.access(path, os.X_OK), f"{path} is not a program: build it, or set GANTRY_RUNTIME"
    subprocess.run([TOP / "scripts/clients-install"], check=True)
    return Runtime(path.resolve())


@pytest.fixture(scope="session")
def world(runtime):
    """The directory of this run; the guardian removes it."""
    _leave_mount_namespace()
    if runtime.is_crun:
        _hide_unified_hierarchy()
    path = _world_of(os.getppid())
    path.mkdir(mode=0o711)
    # conmon notes there that a container was out of memory.
    os.chdir(path)
    return path


@pytest.fixture(scope="session")
def cgroup_parent(world):
    """The cgroup below which every container of this run is put."""
    return f"/gantry-test/{world.name}"


@pytest.fixture(scope="session")
def archive(world):
    path = world / "image.tar"
    images.build_archive(path)
    return path


@pytest.fixture(scope="session")
def podman(world, runtime, cgroup_parent, archive):
    return Podman(world / "podman", runtime, cgroup_parent, archive)


@pytest.fixture(scope="session")
def containerd(world, runtime, cgroup_parent, archive):
    with Containerd(world / "containerd", runtime, cgroup_parent, archive) as client:
        yield client


@pytest.fixture(scope="session")
def docker(world, runtime, cgroup_parent, archive, containerd):
    with Docker(world / "docker", runtime, cgroup_parent, archive, containerd) as client:
        yield client


@pytest.fixture
def tmp_path(world):
    """pytest's fixture of this name would leave its directories behind."""
    path = pathlib.Path(tempfile.mkdtemp(dir=world))
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def host_null_device(runtime):
    """No runtime may touch the host's /dev/null, which clients pass as standard input."""
    yield
    null = os.stat("/dev/null")
    if (null.st_uid, null.st_gid, null.st_mode & 0o777) != (0, 0, 0o666):
        os.chown("/dev/null", 0, 0)
        os.chmod("/dev/null", 0o666)
        # Both of Debian 12's runtimes hand it to the user of an exec.
        assert runtime.is_old_peer, "the host's /dev/null was given away"
