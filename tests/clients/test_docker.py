"""docker, which calls the runtime through containerd's shim and reads the texts of its errors."""

import pytest

import host
from client import SLEEP
from daemons import RUNTIME_NAME
from images import IMAGE


@pytest.fixture
def name(docker, request):
    """A container name for this test, removed at its end."""
    name = host.container_name(request.node.name)
    yield name
    docker.remove(name)


def test_info_lists_the_runtime(docker):
    assert RUNTIME_NAME in docker.call("info", "--format", "{{json .Runtimes}}")


def test_run_on_terminal(docker):
    with docker.on_terminal("run", "-it", "--rm", IMAGE, "sh") as terminal:
        terminal.send("tty; echo here''\n")
        terminal.expect("/dev/pts/0")
        terminal.send("until stty size | grep '^33 101$'; do :; done; echo sized''\n")
        terminal.expect("sized")
        terminal.send("exit 5\n")
        assert terminal.finish() == 5


def test_run_passes_environment_directory_user_and_volume(docker, tmp_path):
    (tmp_path / "given").write_text("from outside\n")
    options = ("--env", "COLOUR=red", "--workdir", "/data", "--user", "worker", "--volume", f"{tmp_path}:/in:ro")
    script = "echo $COLOUR; pwd; id -u; cat /in/given; touch /in/x 2>/dev/null || echo refused"
    done = docker.call("run", "--rm", *options, IMAGE, "sh", "-c", script)
    assert done == "red\n/data\n1000\nfrom outside\nrefused\n"


def test_exec_output_status_and_stdin(docker, name):
    docker.run_detached(name, *SLEEP)
    done = docker.attempt("exec", name, "sh", "-c", "echo out; echo err >&2; exit 4")
    assert (done.returncode, done.stdout, done.stderr) == (4, "out\n", "err\n")
    assert docker.call("exec", "-i", name, "cat", stdin="hello\n") == "hello\n"


def test_exec_on_terminal_as_another_user(docker, name):
    docker.run_detached(name, *SLEEP)
    with docker.on_terminal("exec", "-it", "--user", "worker", name, "sh") as terminal:
        terminal.send("id -u; tty; until stty size | grep '^33 101$'; do :; done; echo sized''\n")
        terminal.expect("1000")
        terminal.expect("/dev/pts/")
        terminal.expect("sized")
        terminal.send("exit 6\n")
        assert terminal.finish() == 6


def test_update_changes_a_running_container(docker, name):
    pid = docker.run_detached(name, *SLEEP, options=("--memory", "64m", "--memory-swap", "128m"))
    docker.call("update", "--memory", "96m", "--pids-limit", "77", "--cpus", "0.25", name)
    assert host.cgroup_value(pid, "memory", "memory.limit_in_bytes", "memory.max") == str(96 << 20)
    assert host.cgroup_value(pid, "pids", "pids.max", "pids.max") == "77"
    assert host.cgroup_value(pid, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"


def test_restart(docker, name):
    first = docker.run_detached(name, *SLEEP)
    docker.call("restart", "--time", "0", name)
    assert docker.pid(name) not in (0, first)


def test_top_lists_the_processes(docker, name):
    docker.run_detached(name, *SLEEP)
    assert "sleep 1000" in docker.call("top", name)


def test_default_seccomp_profile_and_capabilities(docker):
    script = "grep -E '^(CapEff|Seccomp):' /proc/self/status"
    options = ("--cap-drop", "all", "--cap-add", "chown")
    status = docker.call("run", "--rm", *options, IMAGE, "sh", "-c", script).split()
    assert status == ["CapEff:", "0000000000000001", "Seccomp:", "2"]


# docker maps the runtime's text to these, see daemon/start_unix.go: they hold only with runc's words.
@pytest.mark.parametrize("program, status", [("no-such-program", 127), ("/no/such", 127), ("/etc/not-executable", 126)])
def test_run_of_what_cannot_be_executed(docker, runtime, program, status):
    done = docker.attempt("run", "--rm", IMAGE, program)
    # crun's words are not all among those that docker knows, and do not always name the program.
    assert done.returncode == status or (runtime.is_crun and done.returncode == 125), done.stderr
    assert program in done.stderr or runtime.is_crun


@pytest.mark.parametrize("program", ["no-such-program", "/etc/not-executable"])
def test_exec_of_what_cannot_be_executed(docker, name, runtime, program):
    docker.run_detached(name, *SLEEP)
    done = docker.attempt("exec", name, program)
    assert program in done.stderr + done.stdout or runtime.is_crun
    expected = "not found" if program == "no-such-program" else "permission denied"
    assert expected in (done.stderr + done.stdout).lower()
    # docker 20.10 says 126 for both, later ones 127 for what is missing.
    assert done.returncode == 126 or (done.returncode == 127 and program == "no-such-program"), done.stderr


def test_rm_force_leaves_no_cgroup(docker, name, cgroup_parent):
    docker.run_detached(name, "sh", "-c", "sleep 1000 & sleep 1000")
    container = docker.inspect(name)["Id"]
    docker.call("rm", "--force", name)
    assert not [path for path in host.cgroup_leaves(cgroup_parent) if path.name == container]
