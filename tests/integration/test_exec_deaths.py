"""An exec whose launcher or process dies on the way: nothing is taken for a success, nobody waits for the dead."""
import os
import re
import shutil
import subprocess
import time

import pytest

from lib import host
from lib.marks import differs_from

pytestmark = [differs_from("runc", "other processes"), pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]


def dying(runtime, work, call, when, *words):
    """exec of which the first process that enters a call for the given time dies there."""
    argv = ["strace", "-f", "-qq", "-o", f"{work}/trace", "-e", f"trace={call}", "-e",
            f"inject={call}:signal=KILL:when={when}", runtime.program, "--root", runtime.root, "exec", *words]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("detach", [True, False])
def test_killed_before_its_program_is_no_success(runtime, bundle, work, detach):
    """Committed ahead or not: a process that never executed anything has not been started."""
    b = bundle()
    runtime.idle(b)
    flags = ["--detach", "--pid-file", f"{work}/pid"] if detach else []
    ended = dying(runtime, work, "setresuid", 1, *flags, b.id, "sleep", "1000")
    assert ended.returncode == 255, ended
    assert "init was killed by signal 9" in ended.stderr, ended
    assert not os.path.exists(f"{work}/pid")


def test_a_launcher_that_dies_before_it_says_born(runtime, bundle, work):
    """Its init waits for a Commit that nobody can send: it is not waited for, and it does not stay."""
    b = bundle()
    pid = runtime.idle(b)
    begun = time.monotonic()
    # The engine sends nothing before Born: the first to send is the launcher.
    ended = dying(runtime, work, "sendmsg", 1, "--detach", b.id, "sleep", "1000")
    assert ended.returncode == 255, ended
    assert "init went away" in ended.stderr, ended
    assert time.monotonic() - begun < 10
    host.eventually(lambda: set(host.cgroup_procs(host.cgroup_dirs(b.id)[0])) == {pid}, what="the init of the exec gone")


def test_a_caller_that_ignores_its_children(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    ignoring = ["env", "--ignore-signal=CHLD", runtime.program, "--root", runtime.root]
    ended = subprocess.run([*ignoring, "exec", b.id, "sh", "-c", "exit 3"], stdin=subprocess.DEVNULL, check=False, timeout=20)
    assert ended.returncode == 3
    other = bundle("sh", "-c", "exit 4")
    other.write()
    runtime.track(other.id)
    ended = subprocess.run([*ignoring, "run", "--bundle", other.path, other.id], stdin=subprocess.DEVNULL, check=False, timeout=20)
    assert ended.returncode == 4


def test_a_cgroup_that_takes_nobody_sees_one_process_only(runtime, bundle, work):
    """A cgroup2 directory that passes controllers on: the launcher joins otherwise, and there is no second one."""
    b = bundle()
    pid = runtime.idle(b)
    unified = [path for path in host.cgroup_dirs(b.id) if os.path.exists(f"{path}/cgroup.subtree_control")]
    if not unified:
        pytest.skip("no cgroup2 here")
    if not host.pass_controllers_on(unified[0], pid):
        pytest.skip("no controller to delegate")
    argv = ["strace", "-f", "-qq", "-o", f"{work}/trace", "-e", "trace=clone3,clone", runtime.program, "--root", runtime.root]
    subprocess.run([*argv, "exec", b.id, "true"], stdin=subprocess.DEVNULL, check=True, timeout=20)
    trace = host.read(f"{work}/trace")
    assert "EBUSY" in trace, trace
    # One launcher, one process.
    assert len(re.findall(r"\) = [1-9]\d*$", trace, re.M)) == 2, trace


def shares_memory(runtime, work, *words):
    """Whether the process of an exec is cloned on the launcher's memory."""
    argv = ["strace", "-f", "-qq", "-o", f"{work}/trace", "-e", "trace=clone3,clone", runtime.program, "--root", runtime.root]
    subprocess.run([*argv, "exec", *words], stdin=subprocess.DEVNULL, check=True, timeout=20)
    return any("CLONE_VM" in line and "CLONE_PARENT" in line for line in host.read(f"{work}/trace").splitlines())


def test_memory_is_shared_only_where_nobody_may_look_into_it(runtime, bundle, work):
    """The launcher is a process of the host: who may trace the new one must not find the launcher's memory in it."""
    b = bundle()
    pid = runtime.idle(b)
    assert shares_memory(runtime, work, b.id, "true")
    assert not shares_memory(runtime, work, "--cap", "CAP_SYS_PTRACE", b.id, "true")
    neighbour = bundle()
    namespaces = neighbour.config["linux"]["namespaces"]
    next(entry for entry in namespaces if entry["type"] == "pid")["path"] = f"/proc/{pid}/ns/pid"
    runtime.idle(neighbour)
    assert not shares_memory(runtime, work, neighbour.id, "true")
