"""containerd, which calls the runtime through its runc shim, driven by ctr."""

import json
import pathlib
import re

import pytest

import host
from client import SLEEP


@pytest.fixture
def name(containerd, request):
    """A container name for this test, removed with its task at the end."""
    name = host.container_name(request.node.name)
    yield name
    containerd.remove(name)


@pytest.fixture
def start(containerd, name):
    """Starts a detached task and returns the host's pid of its init."""

    def run(*args, options=()):
        containerd.call("run", "--detach", *containerd.run_arguments(name, *args, options=options))
        return containerd.task_pid(name)

    return run


def _delete(containerd, name, *options):
    """Deletes a task and returns the exit status of its init, which ctr only mentions in a warning."""
    text = containerd.attempt("task", "delete", *options, name).stderr
    found = re.search(r"non-zero exit code (\d+)", text)
    assert found, text
    return int(found[1])


def _exec(containerd, name, *args, options=(), stdin=None):
    return containerd.attempt("task", "exec", "--exec-id", "second", *options, name, *args, stdin=stdin)


def test_run_returns_output_and_exit_status(containerd, name):
    arguments = containerd.run_arguments(name, "sh", "-c", "echo out; echo err >&2; exit 7")
    done = containerd.attempt("run", "--rm", *arguments)
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "err" in done.stderr
    assert containerd.task_status(name) is None


def test_run_reads_stdin_to_its_end(containerd, name):
    arguments = containerd.run_arguments(name, "head", "-n", "3000")
    text = "".join(f"line {i}\n" for i in range(3000))
    assert containerd.call("run", "--rm", *arguments, stdin=text) == text


def test_run_on_terminal(containerd, name):
    arguments = containerd.run_arguments(name, "sh")
    with containerd.on_terminal("run", "--rm", "--tty", *arguments) as terminal:
        terminal.send("tty; echo here''\n")
        terminal.expect("/dev/pts/0")
        terminal.send("until stty size | grep '^33 101$'; do :; done; echo sized''-1\n")
        terminal.expect("sized-1")
        terminal.resize(40, 120)
        terminal.send("until stty size | grep '^40 120$'; do :; done; echo sized''-2\n")
        terminal.expect("sized-2")
        terminal.send("exit 5\n")
        assert terminal.finish() == 5


def test_detached_task_is_running_until_killed(containerd, name, start):
    pid = start(*SLEEP)
    assert containerd.task_status(name) == "RUNNING"
    assert "sleep" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    containerd.call("task", "kill", "--signal", "KILL", name)
    host.eventually(lambda: containerd.task_status(name) == "STOPPED", "the task stops")
    assert _delete(containerd, name) == 137
    assert containerd.task_status(name) is None


def test_kill_delivers_the_signal(containerd, name, start, tmp_path):
    mount = f"type=bind,src={tmp_path},dst=/shared,options=rbind:rw"
    script = "trap 'echo got > /shared/signal; exit 42' USR1; touch /shared/ready; while :; do sleep 0.05; done"
    start("sh", "-c", script, options=("--mount", mount))
    host.eventually((tmp_path / "ready").exists, "the container is ready")
    containerd.call("task", "kill", "--signal", "USR1", name)
    host.eventually(lambda: containerd.task_status(name) == "STOPPED", "the task stops")
    assert (tmp_path / "signal").read_text() == "got\n"
    assert _delete(containerd, name) == 42


def test_kill_all_reaches_every_process(containerd, name, start):
    pid = start("sh", "-c", "sleep 1000 & exec sleep 1000")
    containerd.call("task", "kill", "--all", "--signal", "KILL", name)
    host.eventually(lambda: containerd.task_status(name) == "STOPPED", "the task stops")
    assert not pathlib.Path(f"/proc/{pid}").exists()


def test_exec_output_status_and_directory(containerd, name, start):
    start(*SLEEP)
    done = _exec(containerd, name, "sh", "-c", "pwd; echo err >&2; exit 4", options=("--cwd", "/tmp"))
    assert (done.returncode, done.stdout) == (4, "/tmp\n")
    assert "err" in done.stderr


def test_exec_reads_stdin(containerd, name, start):
    start(*SLEEP)
    assert _exec(containerd, name, "head", "-n", "1", stdin="hello\n").stdout == "hello\n"


def test_exec_as_another_user(containerd, name, start):
    start(*SLEEP)
    done = _exec(containerd, name, "sh", "-c", "id -u; id -g", options=("--user", "1000:1001"))
    assert done.stdout == "1000\n1001\n", done.stderr


def test_exec_on_terminal(containerd, name, start):
    start(*SLEEP)
    with containerd.on_terminal("task", "exec", "--exec-id", "second", "--tty", name, "sh") as terminal:
        terminal.send("until stty size | grep '^33 101$'; do :; done; echo sized''\n")
        terminal.expect("sized")
        terminal.send("exit 6\n")
        assert terminal.finish() == 6


def test_exec_in_background_is_listed_by_ps(containerd, name, start):
    pid = start(*SLEEP)
    assert _exec(containerd, name, "sleep", "2000", options=("--detach",)).returncode == 0
    rows = [line.split() for line in containerd.call("task", "ps", name).splitlines()[1:]]
    assert str(pid) in [row[0] for row in rows]
    commands = [pathlib.Path(f"/proc/{row[0]}/cmdline").read_text().split("\0")[:2] for row in rows]
    assert sorted(commands) == [["sleep", "1000"], ["sleep", "2000"]]


def test_metrics_come_from_the_container_s_cgroup(containerd, name, start):
    start(*SLEEP, options=("--memory-limit", str(48 << 20)))
    metrics = json.loads(containerd.call("task", "metrics", "--format", "json", name))
    pids = metrics["pids"]
    assert pids["current"] == 1
    assert str(48 << 20) in json.dumps(metrics["memory"])


def test_pause_freezes_and_resume_thaws(containerd, name, start):
    pid = start(*SLEEP)
    containerd.call("task", "pause", name)
    assert containerd.task_status(name) == "PAUSED"
    assert host.is_frozen(pid)
    containerd.call("task", "resume", name)
    assert containerd.task_status(name) == "RUNNING"
    assert not host.is_frozen(pid)
    assert _exec(containerd, name, "echo", "alive").stdout == "alive\n"


def test_limits_reach_the_kernel(start):
    pid = start(*SLEEP, options=("--memory-limit", str(64 << 20), "--cpu-quota", "50000", "--cpu-period", "100000"))
    assert host.cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    assert host.cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"


def test_seccomp_profile_is_applied(containerd, name):
    arguments = containerd.run_arguments(name, "grep", "Seccomp:", "/proc/self/status", options=("--seccomp",))
    assert containerd.call("run", "--rm", *arguments).split() == ["Seccomp:", "2"]


def test_delete_leaves_nothing(containerd, name, start, cgroup_parent):
    start(*SLEEP)
    assert _delete(containerd, name, "--force") == 137
    containerd.call("container", "delete", name)
    assert not [path for path in host.cgroup_leaves(cgroup_parent) if path.name == name]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_missing_executable_is_an_error_that_names_it(containerd, name, start, verb):
    if verb == "run":
        done = containerd.attempt("run", "--rm", *containerd.run_arguments(name, "no-such-program"))
    else:
        start(*SLEEP)
        done = _exec(containerd, name, "no-such-program")
    assert done.returncode != 0
    assert "no-such-program" in done.stderr
    assert "not found" in done.stderr
