"""Fixtures of the integration tests.

They need root. The program is build/release/gantry or $GANTRY_RUNTIME; against another runtime the tests marked
differs_from() for it are skipped, so that what passes everywhere is the contract of callers and not our own habit.
"""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

from lib import host  # noqa: E402
from lib.bundle import Bundle  # noqa: E402
from lib.runtime import Runtime  # noqa: E402
from lib.supervised import Supervised  # noqa: E402

PROGRAM = os.path.abspath(os.environ.get("GANTRY_RUNTIME") or f"{HERE}/../../build/release/gantry")


def peer_name():
    """"runc 1.1.5", "crun 1.8.1" …; empty for gantry."""
    if os.path.basename(os.path.realpath(PROGRAM)).startswith("gantry"):
        return ""
    words = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return f"{words[0]} {words[2].split('+')[0]}"


def pytest_configure(config):
    config.addinivalue_line("markers", "differs_from(peer, why): skip when the runtime under test is that peer")
    config.addinivalue_line("markers", "ours(why): skip with every peer")
    config.addinivalue_line("markers", "alone: not while other tests run (scripts/test runs the others two at a time)")
    if os.geteuid() != 0:
        pytest.exit("integration tests need root", 2)
    if not os.access(PROGRAM, os.X_OK):
        pytest.exit(f"{PROGRAM} is missing: build it, or name a runtime in GANTRY_RUNTIME", 2)
    config.gantry_peer = peer_name()
    # A run in the background of a shell has these ignored, and what it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


OURS = {"keeper", "stage", "supervised"}  # fixtures of what no peer has


def pytest_collection_modifyitems(config, items):
    if not config.gantry_peer:
        return
    for item in items:
        if OURS.intersection(item.fixturenames):
            item.add_marker(pytest.mark.skip(reason="about gantry's own supervisor"))
        for mark in item.iter_markers("ours"):
            item.add_marker(pytest.mark.skip(reason=mark.args[0]))
        for mark in item.iter_markers("differs_from"):
            if config.gantry_peer.startswith(mark.args[0]):
                item.add_marker(pytest.mark.skip(reason=f"{mark.args[0]}: {mark.args[1]}"))


@pytest.fixture(scope="session")
def peer(request):
    """Name and version of the runtime under test when it is not gantry, else empty."""
    return request.config.gantry_peer


@pytest.fixture(scope="session")
def session_dir(peer):
    host.become_subreaper()
    host.private_mount_namespace()
    host.keep_parent()
    path = tempfile.mkdtemp(prefix="gt-", dir="/tmp")
    # Making and removing a thousand root file systems on a journaled disk would be half of the run.
    host.mount("gantry-test", path, "tmpfs", data="mode=755")
    if peer:
        # Peers chown the host's /dev/null; here they only reach a node of our own.
        os.mknod(f"{path}/null", 0o20666, os.makedev(1, 3))
        os.chmod(f"{path}/null", 0o666)
        host.mount(f"{path}/null", "/dev/null", None, host.MS_BIND)
    yield path
    if peer:
        host.umount("/dev/null")
    host.release_parent()
    host.umount(path)
    os.rmdir(path)


@pytest.fixture(scope="session")
def programs(session_dir):
    """Directory with busybox and the compiled test programs, which bundles link into their /bin."""
    path = f"{session_dir}/programs"
    os.makedirs(path)
    shutil.copy("/bin/busybox", f"{path}/busybox")
    compile_program("probe", f"{path}/probe")
    return path


def compile_program(name, output):
    """Compiled here, or taken from $GANTRY_TEST_PROGRAMS where there is no compiler (scripts/guest)."""
    if "GANTRY_TEST_PROGRAMS" in os.environ:
        return shutil.copy(f"{os.environ['GANTRY_TEST_PROGRAMS']}/{name}", output)
    subprocess.run(["cc", "-static", "-O1", "-Wall", "-o", output, f"{HERE}/programs/{name}.c"], check=True)
    return output


@pytest.fixture(scope="session")
def tool(session_dir):
    """tool("measure"): path of a test program that runs on the host, compiled at first use."""
    built = {}

    def build(name):
        if name not in built:
            built[name] = compile_program(name, f"{session_dir}/{name}")
        return built[name]
    return build


@pytest.fixture
def work(session_dir):
    """A short-named directory of the test's own (socket paths are limited to 107 bytes)."""
    path = tempfile.mkdtemp(prefix="t", dir=session_dir)
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def program(session_dir):
    """A copy of the program under test, so that a rebuild does not disturb the run."""
    directory = f"{session_dir}/program"
    os.mkdir(directory)
    return shutil.copy(PROGRAM, f"{directory}/{os.path.basename(PROGRAM)}")


@pytest.fixture
def runtime(work, programs, program, peer):
    root, calls = f"{work}/root", f"{work}/calls"
    os.makedirs(root)
    os.makedirs(calls)
    census = host.Census()
    runtime = Runtime(program, root, calls)
    runtime.peer = peer
    yield runtime
    problems = runtime.cleanup()
    try:
        host.eventually(lambda: not census.leaks(), 2, "a clean host")
        leaks = [f"state {root}/{name}" for name in os.listdir(root)]
    except AssertionError:
        leaks = census.leaks()
        census.repair()
    if leaks or problems:
        pytest.fail("; ".join(problems) + " left behind: " + "; ".join(leaks))


@pytest.fixture
def bundle(work, programs):
    """Factory: bundle("sh", "-c", "…", linux={…}) with config sections merged into the default."""
    os.makedirs(f"{work}/b", exist_ok=True)

    def make(*args, **sections):
        return Bundle(f"{work}/b", programs, args, sections)
    return make


@pytest.fixture
def supervised(runtime, work):
    it = Supervised(runtime, work)
    yield it
    it.remove_all()
    it.end()
    it.remove_remains()
