"""Signals that come before the program is there to get them: create and run end, and nothing stays."""
import os
import signal
import subprocess
import time

import pytest

from lib import host
from lib.hung import Hung

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
pytestmark = pytest.mark.ours("gantry's own promise")

PATIENCE = 1.0  # a run that takes no longer gives its signals to the program


@pytest.fixture
def hung(runtime, work, tool):
    """After `runtime`, so that it ends first: what hangs can be cleaned up then."""
    system = Hung(tool("hung_fuse"), work)
    yield system
    system.end()


def begin(runtime, b, verb, *flags, **spawn):
    b.write()
    runtime.track(b.id)
    return runtime.spawn(verb, *flags, "--bundle", b.path, b.id, **spawn)


def stuck(b, work, kind):
    """A hook that does not end; `there` appears when it has begun."""
    if kind == "startContainer":
        b.mount("/mnt", work, "bind", ["bind"])
        return b.hook(kind, ": > /mnt/there; exec sleep 1000")
    return b.hook(kind, f": > {work}/there; exec sleep 1000")


def await_hook(work):
    host.eventually(lambda: os.path.exists(f"{work}/there"), what="the hook")


def nothing_left(runtime, b):
    assert not os.path.exists(f"{runtime.root}/{b.id}")
    assert not os.path.exists(b.cgroup("pids"))


@pytest.mark.parametrize("signo", ENDS, ids=str)
def test_run_while_a_hook_hangs(runtime, bundle, work, signo):
    b = stuck(bundle("true"), work, "createRuntime").hook("poststop", f": > {work}/stopped")
    process = begin(runtime, b, "run")
    await_hook(work)
    time.sleep(PATIENCE)
    process.send_signal(signo)
    runtime.finish(process).fails("unable to start container process: interrupted by signal ", str(int(signo))).one_line()
    assert process.returncode == 1
    nothing_left(runtime, b)
    assert os.path.exists(f"{work}/stopped")


@pytest.mark.parametrize("kind", ["prestart", "createContainer", "startContainer", "poststart"])
@pytest.mark.parametrize("flags", [(), ("--detach",)], ids=["foreground", "detached"])
def test_run_in_every_kind_of_hook(runtime, bundle, work, kind, flags):
    b = stuck(bundle("sleep", "1000"), work, kind)
    process = begin(runtime, b, "run", *flags)
    await_hook(work)
    if not flags:
        time.sleep(PATIENCE)
    process.send_signal(signal.SIGTERM)
    runtime.finish(process).fails("interrupted by signal 15").one_line()
    nothing_left(runtime, b)


def test_a_signal_that_comes_early_is_for_the_program(runtime, bundle, work):
    """The hook ends in time: what came meanwhile ends nothing but what the program makes of it."""
    b = bundle("sleep", "1000").hook("createRuntime", f": > {work}/there; sleep 0.3")
    b.without_namespace("pid")  # whose first process would ignore the signal
    process = begin(runtime, b, "run")
    await_hook(work)
    process.send_signal(signal.SIGTERM)
    result = runtime.finish(process)
    assert (result.code, result.err) == (128 + signal.SIGTERM, ""), result
    nothing_left(runtime, b)


@pytest.mark.parametrize("signo", ENDS, ids=str)
def test_create_is_undone_at_once(runtime, bundle, work, signo):
    b = stuck(bundle("true"), work, "createRuntime")
    process = begin(runtime, b, "create")
    await_hook(work)
    process.send_signal(signo)
    runtime.finish(process).fails(f"interrupted by signal {int(signo)}").one_line()
    nothing_left(runtime, b)


def test_create_heeds_no_signal_that_its_caller_ignores(runtime, bundle, work):
    """As with nohup."""
    os.mkfifo(f"{work}/gate")
    b = bundle("true").hook("createRuntime", f": > {work}/there; read line < {work}/gate")
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = begin(runtime, b, "create")
    finally:
        signal.signal(signal.SIGHUP, former)
    await_hook(work)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    with open(f"{work}/gate", "w", encoding="ascii") as gate:
        gate.write("go\n")
    runtime.finish(process).ok()
    assert runtime.status(b) == "created"


@pytest.mark.parametrize("mode", ["pending", "taken"])
@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_mount_source_that_never_answers(runtime, bundle, hung, verb, mode):
    hung.begin(mode)
    b = bundle("true").mount("/data", f"{hung.point}/data", "bind", ["bind"])
    b.file("data/.keep")
    process = begin(runtime, b, verb)
    host.eventually(lambda: os.path.exists(hung.asked), what="a request to the file system")
    time.sleep(PATIENCE)
    process.send_signal(signal.SIGINT)
    result = runtime.finish(process).fails("interrupted by signal 2").one_line()
    if mode == "pending":
        nothing_left(runtime, b)
        assert result.seconds < PATIENCE + 4
        return
    # What waits for a request that was taken cannot be killed; it is said, and not forgotten.
    assert "use delete --force later" in result.warnings[-1], result
    hung.end()
    runtime.delete(b, "--force").ok()
    nothing_left(runtime, b)
