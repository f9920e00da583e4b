"""The orderly end of a supervisor, for a successor or for good: it waits for nobody who could wait elsewhere."""
import os
import signal
import time

import pytest

from lib import host
from test_handover import kill_keeper


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


# --- poststop hooks: the container is gone, nobody would run them again ------------------------------------------------

def with_hooks(box, work, seconds):
    """Three poststop hooks, the second of which takes a while; they write down what they have done."""
    for script in ("echo first", f"echo begun >> {work}/hooks; sleep {seconds}; echo done", "echo last"):
        box.hook("poststop", f"{script} >> {work}/hooks")
    return box


def hooks_run(work):
    return host.read(f"{work}/hooks").split() if os.path.exists(f"{work}/hooks") else []


ALL_HOOKS = ["first", "begun", "done", "last"]


def begin_removal(it, box, work):
    """`rm` that has come to the second hook."""
    it.up(box).ok()
    it.wait(box).ok("0\n")
    call = it.runtime.spawn("rm", box.id)
    host.eventually(lambda: "begun" in hooks_run(work), what="a hook that runs")
    return call


def test_a_reload_lets_the_hooks_of_a_removal_end(supervised, bundle, work):
    it = supervised.begin()
    box = with_hooks(bundle("true"), work, 1)
    call, former = begin_removal(it, box, work), it.supervisor()
    os.kill(former, signal.SIGHUP)
    time.sleep(0.2)
    # What waits is the reload, and nobody else.
    assert it.supervisor() == former and [entry["id"] for entry in it.listing()] == [box.id]
    it.runtime.finish(call).ok()
    it.await_supervisor(former)
    assert hooks_run(work) == ALL_HOOKS and it.listing() == []


def test_the_end_lets_the_hooks_of_a_removal_end(supervised, bundle, work):
    it = supervised.begin()
    call = begin_removal(it, with_hooks(bundle("true"), work, 1), work)
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(10) == 0
    it.runtime.finish(call).ok()
    assert hooks_run(work) == ALL_HOOKS


def test_a_second_signal_ends_the_patience_with_hooks(supervised, bundle, work):
    it = supervised.begin()
    box = with_hooks(bundle("true"), work, 1000)
    call = begin_removal(it, box, work)
    it.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert it.process.poll() is None
    it.process.send_signal(signal.SIGTERM)
    assert it.process.wait(4) == 0
    it.runtime.finish(call).ok()
    assert hooks_run(work) == ALL_HOOKS[:2]
    assert (f"container {box.id}: error running poststop hook #1: cut short, and no further hooks are run"
            in host.read(it.errors))


def test_a_reload_does_not_wait_for_ever_for_hooks(supervised, bundle, work):
    """A creation that it undoes has one that never ends."""
    it = supervised.begin()
    once = f"test -e {work}/begun || {{ echo > {work}/begun; sleep 1000; }}"
    box = bundle("true").hook("createRuntime", once).hook("poststop", f"test -e {work}/over || sleep 1000")
    box.write()
    it.runtime.track(box.id)
    coming = it.runtime.spawn("up", box.path)
    host.eventually(lambda: os.path.exists(f"{work}/begun"), what="the creation")
    former, start = it.supervisor(), time.monotonic()
    os.kill(former, signal.SIGHUP)
    host.eventually(lambda: it.supervisor() not in (former, 0), 20, "a successor")
    assert 9 < time.monotonic() - start < 15
    open(f"{work}/over", "wb").close()
    it.runtime.finish(coming).ok()


def test_a_stop_lets_the_hooks_of_the_run_before_end(supervised, bundle, work):
    it = supervised.begin()
    box = with_hooks(bundle("false"), work, 1)
    it.up(box, flags=("--restart", "always")).ok()
    host.eventually(lambda: "begun" in hooks_run(work), what="a hook that runs")
    it.runtime.call("stop", box.id).ok()
    assert hooks_run(work) == ALL_HOOKS
    it.rm(box).ok()


def test_a_removal_whose_hooks_need_a_keeper_waits_for_the_next_one(supervised, bundle, work):
    supervised.begin()
    box, other = (bundle("true").hook("poststop", f"echo run >> {work}/hooks") for _ in range(2))
    supervised.up(box, other).ok()
    supervised.wait(box, other).ok("0\n0\n")
    kill_keeper(supervised)
    supervised.rm(box).fails("its poststop hooks cannot be run", "start another with: gantry supervise").one_line()
    supervised.rm("--force", other).ok()
    assert not os.path.exists(f"{work}/hooks")
    supervised.begin()
    supervised.rm(box).ok()
    assert host.read(f"{work}/hooks") == "run\n"
