"""The orderly end of a supervisor, for a successor or for good: it waits for nobody who could wait elsewhere."""
import os
import signal
import time

import pytest

from lib import host
from test_supervise import only_ours  # noqa: F401


def hangs_on_stop(it, bundle, seconds=12):
    """A container that does not heed its stop signal, and somebody who waits for its end."""
    deaf = bundle().sh("trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    it.up(deaf).ok()
    host.eventually(lambda: it.log(deaf) == "deaf\n", what="the trap")
    waiting = it.runtime.spawn("stop", "--time", str(seconds), deaf.id)
    host.eventually(lambda: it.definition(deaf)["stopped_by_user"], what="the stop")
    return deaf, waiting


def test_a_successor_does_not_wait_for_a_stop(supervised, bundle):
    it = supervised.begin()
    deaf, waiting = hangs_on_stop(it, bundle, 2)
    former, start = it.supervisor(), time.monotonic()
    os.kill(former, signal.SIGHUP)
    it.await_supervisor(former)
    assert time.monotonic() - start < 1.5
    it.runtime.finish(waiting, 20).ok()  # it has asked again
    assert it.runtime.status(deaf) == "stopped"


def pending(pid):
    """The signals that wait for a process, as bits."""
    return next(int(line.split()[1], 16) for line in host.read(f"/proc/{pid}/status").splitlines()
                if line.startswith("ShdPnd:"))


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM]], ids=str)
def test_an_end_does_not_wait_for_a_stop(supervised, bundle, signals):
    it = supervised.begin()
    deaf, waiting = hangs_on_stop(it, bundle)
    pid, start = it.runtime.state(deaf)["pid"], time.monotonic()
    for signo in signals:
        it.process.send_signal(signo)
    assert it.process.wait(5) == 0
    assert time.monotonic() - start < 2
    waiting.kill()  # it would stop the container by itself, some time
    waiting.wait()
    assert "ignores SIGKILL" not in host.read(it.errors)
    it.begin()
    assert it.runtime.state(deaf)["pid"] == pid
    it.rm("--force", deaf).ok()


def test_a_supervisor_that_dies_over_its_end_gets_no_successor(supervised, bundle):
    it = supervised.begin()
    box = bundle().sh("while :; do sleep 0.05; done")
    it.up(box).ok()
    pid, supervisor = it.runtime.state(box)["pid"], it.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    it.process.send_signal(signal.SIGTERM)
    term = 1 << signal.SIGTERM - 1
    host.eventually(lambda: pending(supervisor) & term, what="the keeper's word")
    os.kill(supervisor, signal.SIGKILL)
    assert it.process.wait(5) == 0
    it.begin()
    assert it.runtime.state(box)["pid"] == pid


def test_a_second_signal_ends_the_grace(supervised, bundle):
    it = supervised.begin("--stop-on-exit")
    deaf = bundle().sh("trap '' TERM; echo deaf; while :; do sleep 0.05; done")
    it.up(deaf).ok()
    host.eventually(lambda: it.log(deaf) == "deaf\n", what="the trap")
    it.process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert it.process.poll() is None and it.runtime.status(deaf) == "running"
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(4) == 0
    assert it.runtime.status(deaf) == "stopped"


def test_a_successor_does_not_wait_for_a_creation(supervised, bundle):
    it = supervised.begin()
    box = bundle().sh("true")
    hook = f"{it.work}/hook"
    with open(hook, "w", encoding="ascii") as file:
        file.write(f"#!/bin/sh\ntouch {it.work}/begun\nsleep 3\n")
    os.chmod(hook, 0o755)
    box.config["hooks"] = {"createRuntime": [{"path": hook}]}
    box.write()
    it.runtime.track(box.id)
    starting = it.runtime.spawn("up", box.path)
    host.eventually(lambda: os.path.exists(f"{it.work}/begun"), what="the hook")
    former, start = it.supervisor(), time.monotonic()
    os.kill(former, signal.SIGHUP)
    host.eventually(lambda: it.supervisor() not in (former, 0), 20, "a successor")
    assert time.monotonic() - start < 2
    it.runtime.finish(starting, 20)
    it.await_supervisor(0)
    it.rm("--force", box).ok()
