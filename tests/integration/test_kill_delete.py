"""kill, delete, pause and resume (KD rows)."""
import os
import signal
import subprocess

import pytest

from lib import host
from lib.cgroups import is_frozen
from lib.marks import OLD, differs_from


# --- kill ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("word, number", [
    ("SIGUSR1", 10), ("USR1", 10), ("usr1", 10), ("sigusr2", 12), ("10", 10), ("HUP", 1), ("SIGWINCH", 28), ("Int", 2)])
def test_kd01_signal_forms(runtime, bundle, word, number):
    b = bundle()
    runtime.idle(b)
    runtime.kill(b, word).ok()
    host.eventually(lambda: f"signal {number}\n" in b.out())


@pytest.mark.parametrize("words", [[], [""]], ids=["absent", "empty"])
def test_kd01_default_is_term(runtime, bundle, words):
    b = bundle()
    pid = runtime.idle(b)
    runtime.call("kill", b.id, *words).ok()
    assert host.wait_status(pid) == 15


def test_kd01_signal_zero_succeeds(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    runtime.kill(b, "0").ok()


@pytest.mark.parametrize("word, text", [
    ("NOPE", 'unknown signal "NOPE"'), ("SIG", 'unknown signal "SIG"'), ("99", "invalid argument"),
    ("9x", 'unknown signal "9x"')])
def test_kd01_bad_signals(runtime, bundle, word, text):
    b = bundle()
    runtime.idle(b)
    runtime.kill(b, word).fails(text).one_line()
    assert runtime.status(b) == "running"


def test_kd03_kill_of_a_created_container(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    runtime.kill(b, "KILL").ok()
    runtime.wait_stopped(b)


@pytest.mark.parametrize("pid_namespace", [True, False], ids=["own pid namespace", "the host's"])
@pytest.mark.parametrize("signo", ["TERM", "INT", "HUP", "QUIT"])
def test_kd03_a_created_container_ends_by_the_usual_signals(runtime, bundle, signo, pid_namespace):
    """The first process of a pid namespace hears of no signal by itself."""
    b = bundle("true")
    if not pid_namespace:
        b.without_namespace("pid")
    runtime.create(b).ok()
    runtime.kill(b, signo).ok()
    runtime.wait_stopped(b)
    runtime.delete(b).ok()


def test_kd03_signals_of_the_program_are_its_own(runtime, bundle):
    """What makes a created container end is forgotten at execve."""
    b = bundle("sh", "-c", "grep -E 'Sig(Ign|Cgt)' /proc/1/status; kill -TERM 1; echo alive")
    assert runtime.run(b).ok().out.split()[-1] == "alive"
    seen = runtime.probe(bundle())["status"]
    assert int(seen["SigIgn"], 16) == 0 and int(seen["SigCgt"], 16) == 0


def test_kd03_kill_of_a_stopped_container(runtime, bundle):
    b = bundle("true")
    runtime.up(b)
    runtime.wait_stopped(b)
    runtime.kill(b, "KILL").fails("container not running").one_line()
    runtime.call("kill", "--all", b.id, "KILL").ok()


def test_kd04_all_signals_every_process(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    with open(f"{b.path}/second", "wb") as out:
        runtime.exec(b, "-d", ["/bin/probe", "idle"], stdout=out, stderr=out).ok()
    host.eventually(lambda: "ready" in host.read(f"{b.path}/second"))
    runtime.call("kill", "--all", b.id, "USR1").ok()
    host.eventually(lambda: "signal 10" in b.out())
    if runtime.peer != "runc 1.5.1":
        host.eventually(lambda: "signal 10" in host.read(f"{b.path}/second"))


@differs_from(OLD, "kills init only")
def test_kd05_kill_with_shared_pid_namespace_reaches_all(runtime, bundle):
    b = bundle("sh", "-c", "/bin/probe background; /bin/probe idle").without_namespace("pid")
    runtime.up(b)
    host.eventually(lambda: "ready" in b.out())
    daemon = int(b.out().split()[0])
    assert host.alive(daemon)
    runtime.kill(b, "KILL").ok()
    host.eventually(lambda: not host.alive(daemon), what="death of the daemon")
    runtime.wait_stopped(b)


@differs_from(OLD, "says container not running")
def test_kd05_kill_with_shared_pid_namespace_when_init_is_gone(runtime, bundle):
    b = bundle("/bin/probe", "background").without_namespace("pid")
    runtime.up(b)
    runtime.wait_stopped(b)
    daemon = int(b.out().split()[0])
    assert host.alive(daemon)
    runtime.kill(b, "KILL").ok()
    host.eventually(lambda: not host.alive(daemon), what="death of the daemon")


def test_kd06_kill_of_a_paused_container(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    runtime.call("pause", b.id).ok()
    runtime.kill(b, "KILL").ok()
    host.eventually(lambda: not host.alive(pid))
    runtime.wait_stopped(b)
    runtime.delete(b).ok()


def test_cl17_kill_of_unknown_id(runtime):
    runtime.kill("nobody").fails("container does not exist")


# --- delete ----------------------------------------------------------------------------------------------------------

def test_kd07_delete_of_a_stopped_container(runtime, bundle):
    b = bundle("true")
    runtime.up(b)
    runtime.wait_stopped(b)
    runtime.delete(b).ok("")
    assert os.listdir(runtime.root) == []
    assert host.cgroup_dirs(b.id) == []
    runtime.call("state", b.id).fails("container does not exist")


def test_kd07_delete_of_a_created_container(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    runtime.delete(b).ok()
    assert not host.alive(pid)
    assert host.cgroup_dirs(b.id) == []


@pytest.mark.parametrize("status", ["running", "paused"])
def test_kd07_delete_of_a_live_container_is_refused(runtime, bundle, status):
    b = bundle()
    runtime.idle(b)
    if status == "paused":
        runtime.call("pause", b.id).ok()
    runtime.delete(b).fails(f"cannot delete container {b.id} that is not stopped: {status}").one_line()
    assert runtime.status(b) == status


@pytest.mark.parametrize("status", ["created", "running", "paused", "stopped"])
def test_kd08_delete_force(runtime, bundle, status):
    b = bundle()
    if status == "created":
        b.args("true")
        runtime.create(b).ok()
    elif status == "stopped":
        runtime.up(b.args("true"))
        runtime.wait_stopped(b)
    else:
        runtime.idle(b)
        if status == "paused":
            runtime.call("pause", b.id).ok()
    pid = runtime.state(b)["pid"]
    runtime.delete(b, "--force").ok()
    assert pid == 0 or not host.alive(pid)
    assert os.listdir(runtime.root) == [] and host.cgroup_dirs(b.id) == []


def test_kd08_delete_force_of_unknown_id(runtime):
    runtime.delete("nobody", "--force").ok()
    runtime.delete("nobody").fails("container does not exist")


def test_kd08_flag_after_the_id(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    runtime.call("delete", b.id, "--force").ok()


def test_kd08_delete_force_with_shared_pid_namespace_kills_leftovers(runtime, bundle):
    b = bundle("/bin/probe", "background").without_namespace("pid")
    runtime.up(b)
    runtime.wait_stopped(b)
    daemon = int(b.out().split()[0])
    assert host.alive(daemon)
    runtime.delete(b, "--force").ok()
    host.eventually(lambda: not host.alive(daemon))
    assert host.cgroup_dirs(b.id) == []


@pytest.mark.parametrize("force", [False, True])
def test_kd09_directory_without_state(runtime, force):
    os.mkdir(f"{runtime.root}/half")
    result = runtime.delete("half", *(["--force"] if force else []))
    if force:
        result.ok()
    else:
        result.fails("container does not exist")
    assert not os.path.exists(f"{runtime.root}/half")


def test_kd10_sub_cgroups_are_removed(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    os.makedirs(f"{b.cgroup('memory')}/a/b/c")
    os.makedirs(f"{b.cgroup('pids')}/x")
    runtime.exec(b, "-d", ["sleep", "1000"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).ok()
    runtime.delete(b, "--force").ok()
    assert host.cgroup_dirs(b.id) == []


def test_kd15_only_what_create_made_is_removed(runtime, bundle, work):
    """A pre-existing parent cgroup and the bundle stay."""
    b = bundle("true")
    parent = f"{b.id}-parent"
    b.linux["cgroupsPath"] = f"/{host.CGROUP_PARENT}/{parent}/inner"
    for base in set(host.hierarchies().values()):
        os.makedirs(f"{base}/{host.CGROUP_PARENT}/{parent}")
    runtime.up(b)
    runtime.wait_stopped(b)
    runtime.delete(b).ok()
    left = host.cgroup_dirs(b.id)
    host.purge_cgroups(b.id)
    assert left and all(path.endswith(parent) for path in left)
    assert os.path.exists(f"{b.path}/config.json")


def test_lc12_id_is_free_after_delete(runtime, bundle):
    b = bundle("true")
    for _ in range(3):
        runtime.up(b)
        runtime.wait_stopped(b)
        runtime.delete(b).ok()


# --- pause, resume ---------------------------------------------------------------------------------------------------

def test_kd12_pause_stops_execution(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    runtime.call("pause", b.id).ok()
    assert is_frozen(b.cgroup("freezer"))
    os.kill(pid, signal.SIGUSR1)
    assert "signal 10" not in b.out()
    runtime.call("resume", b.id).ok()
    host.eventually(lambda: "signal 10" in b.out())


@differs_from(OLD, "a second pause succeeds")
def test_kd12_second_pause(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    runtime.call("pause", b.id).ok()
    runtime.call("pause", b.id).fails("container not running")
    runtime.call("resume", b.id).ok()


def test_kd12_pause_of_a_stopped_container(runtime, bundle):
    b = bundle("true")
    runtime.up(b)
    runtime.wait_stopped(b)
    runtime.call("pause", b.id).fails("container not running")


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_kd13_resume_of_what_is_not_paused(runtime, bundle, status):
    b = bundle()
    if status == "running":
        runtime.idle(b)
    else:
        runtime.up(b.args("true"))
        runtime.wait_stopped(b)
    runtime.call("resume", b.id).fails("container not paused")


def test_kd12_paused_created_container(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    runtime.call("pause", b.id).ok()
    assert runtime.status(b) == "paused"
    runtime.call("resume", b.id).ok()
    assert runtime.status(b) == "created"
