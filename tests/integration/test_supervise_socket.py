"""A service manager in front of `gantry supervise`: the socket it hands over, and what it is told."""
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from lib import host

pytestmark = pytest.mark.ours("has no supervisor")

ACTIVATE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), sys.argv[2]
if os.environ.get("WATCHDOG_PID") == "mine":
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"""


@pytest.fixture
def manager(work):
    """A socket to be told things on, as NOTIFY_SOCKET names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(f"{work}/notify")
        told.settimeout(10)
        yield told


@pytest.fixture
def listener(runtime):
    """A socket as a socket unit makes it."""
    os.makedirs(f"{runtime.root}/@supervisor", 0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{runtime.root}/@supervisor/socket")
        listening.listen(64)
        yield listening


def activate(supervised, manager, listener, count="1", flags=(), **env):
    """Starts `gantry supervise` as a service manager does; the process."""
    command = [supervised.runtime.program, "--root", supervised.runtime.root, "supervise", "--state-dir",
               supervised.state_dir, *flags]
    environment = {**supervised.runtime.environment(None), "NOTIFY_SOCKET": manager.getsockname(), **env}
    with open(supervised.errors, "ab") as errors:
        return subprocess.Popen([sys.executable, "-c", ACTIVATE, str(listener.fileno()), count, *command],
                                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=environment,
                                pass_fds=[listener.fileno()])


def test_the_socket_of_a_service_manager_is_used(supervised, bundle, manager, listener):
    container = bundle("sh", "-c", "echo $NOTIFY_SOCKET$LISTEN_FDS.; exit 3")
    container.write()
    supervised.runtime.track(container.id)
    # Who calls before there is a supervisor waits in the socket's queue.
    early = subprocess.Popen([supervised.runtime.program, "--root", supervised.runtime.root, "up", container.path],
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    supervised.process = activate(supervised, manager, listener)
    assert manager.recv(4096) == b"READY=1"
    assert early.communicate(timeout=20)[0] == f"{container.id}\n"
    supervised.wait(container).ok("3\n")
    assert supervised.log(container) == ".\n"
    # The next supervisor has the same socket, and the manager hears of it.
    former = supervised.kill_supervisor()
    assert supervised.await_supervisor(former) != former
    assert manager.recv(4096) == b"READY=1"
    supervised.rm(container).ok()
    supervised.process.send_signal(signal.SIGTERM)
    assert manager.recv(4096) == b"STOPPING=1"
    assert supervised.process.wait(10) == 0
    assert os.path.exists(listener.getsockname()), "the socket is the manager's"


def test_a_reload_is_announced_and_over_when_the_successor_serves(supervised, bundle, manager, listener):
    supervised.process = activate(supervised, manager, listener)
    assert manager.recv(4096) == b"READY=1"
    box = bundle().sh("while :; do sleep 0.05; done")
    supervised.up(box).ok()
    former = supervised.supervisor()
    for _ in range(2):
        before = time.monotonic_ns() // 1000
        supervised.process.send_signal(signal.SIGHUP)
        announced = re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=(\d+)", manager.recv(4096))
        assert announced and before <= int(announced[1]) <= time.monotonic_ns() // 1000
        assert manager.recv(4096) == b"READY=1"
        # No waiting: the one that answers is the new one, or the word came too early.
        assert supervised.supervisor() not in (0, None, former)
        former = supervised.supervisor()
    assert supervised.runtime.status(box) == "running"


def words(manager, seconds):
    """What the manager hears within so many seconds, each with its time."""
    heard, end = [], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        manager.settimeout(left)
        try:
            heard.append((time.monotonic(), manager.recv(4096)))
        except TimeoutError:
            break
    manager.settimeout(10)
    return heard


def test_a_supervisor_that_hangs_is_replaced_and_the_manager_need_not_act(supervised, bundle, manager, listener):
    interval = 1.2
    supervised.process = activate(supervised, manager, listener, WATCHDOG_USEC=str(int(interval * 1e6)), WATCHDOG_PID="mine")
    former = supervised.await_supervisor(0)
    box = bundle().sh("while :; do sleep 0.05; done")
    supervised.up(box).ok()
    start = time.monotonic()
    heard = words(manager, interval)
    os.kill(former, signal.SIGSTOP)
    heard += words(manager, 2 * interval)
    later = supervised.await_supervisor(former)
    os.kill(later, signal.SIGHUP)
    heard += words(manager, interval)
    told = [start] + [at for at, word in heard if word == b"WATCHDOG=1"] + [time.monotonic()]
    gaps = [later - earlier for earlier, later in zip(told, told[1:])]
    assert max(gaps) < interval, gaps
    assert b"READY=1" in [word for _, word in heard]
    assert supervised.runtime.status(box) == "running"
    assert host.read(supervised.errors).count("the keeper killed it") == 1


@pytest.mark.parametrize("env", [{}, {"WATCHDOG_USEC": "300000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}], ids=str)
def test_no_watchdog_unless_it_was_asked_of_us(supervised, manager, listener, env):
    supervised.process = activate(supervised, manager, listener, **env)
    supervisor = supervised.await_supervisor(0)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        assert [word for _, word in words(manager, 0.6)] == [b"READY=1"]
        assert supervised.supervisor() == supervisor
    finally:
        os.kill(supervisor, signal.SIGCONT)


@pytest.mark.parametrize("count, flags, text", [
    ("2", [], "LISTEN_FDS=2: one socket is expected"),
    ("1", ["--socket", "/tmp/gantry-elsewhere"], "and not /tmp/gantry-elsewhere: make them the same (--socket)"),
], ids=["two", "elsewhere"])
def test_sockets_that_cannot_be_right(supervised, manager, listener, count, flags, text):
    process = activate(supervised, manager, listener, count, flags)
    assert process.wait(10) == 1
    assert text in host.read(supervised.errors)


def test_a_socket_that_does_not_listen(supervised, manager, work):
    with socket.socket(socket.AF_UNIX) as idle:
        idle.bind(f"{work}/idle")
        assert activate(supervised, manager, idle).wait(10) == 1
    assert "must be a Unix stream socket that listens" in host.read(supervised.errors)


def test_a_state_directory_that_cannot_be_made(supervised, manager, listener):
    supervised.state_dir = "/proc/none"
    assert activate(supervised, manager, listener).wait(10) == 1
    text = host.read(supervised.errors)
    assert text.count("--state-dir /proc/none: mkdir /proc/none: no such file or directory") == 1, text


def test_definitions_that_somebody_else_has(supervised, runtime):
    supervised.begin()
    second = runtime.call("supervise", "--state-dir", supervised.state_dir, "--socket", f"{runtime.root}/other/socket")
    second.fails(f"state directory {supervised.state_dir} is in use by another supervisor: use --state-dir")
    for name in ("socket", "socket.handover"):
        if os.path.exists(f"{runtime.root}/other/{name}"):
            os.unlink(f"{runtime.root}/other/{name}")
    if os.path.exists(f"{runtime.root}/other"):
        os.rmdir(f"{runtime.root}/other")


def test_definitions_that_a_command_works_on(supervised, runtime):
    os.mkdir(supervised.state_dir)
    held = os.open(supervised.state_dir, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_SH)
    try:
        runtime.call("supervise", "--state-dir", supervised.state_dir).fails(
            f"state directory {supervised.state_dir} is in use by a command (rm, stop or kill)", "try again").one_line()
    finally:
        os.close(held)


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_that_is_not_ready_can_be_ended(supervised, signo):
    supervised.begin()
    os.kill(supervised.keeper, signal.SIGSTOP)
    supervised.kill_supervisor()
    definitions = os.open(supervised.state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # The next one waits for the right to its definitions, and does not listen to signals yet.
        fcntl.flock(definitions, fcntl.LOCK_EX)
        os.kill(supervised.keeper, signal.SIGCONT)
        host.eventually(supervised.supervisor, 5, "the next supervisor")
        os.kill(supervised.keeper, signo)
        assert supervised.process.wait(4) == 0
    finally:
        os.close(definitions)
