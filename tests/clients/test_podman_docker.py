"""What podman and docker promise alike, and each reaches in its own way: through conmon, or through containerd's shim."""

import pytest

import host
from client import SLEEP
from images import IMAGE


@pytest.fixture(params=["podman", "docker"])
def client(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def name(client, request):
    """A container name for this test, removed at its end."""
    name = host.container_name(request.node.name)
    yield name
    client.remove(name)


def test_run_returns_output_and_exit_status(client):
    done = client.attempt("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_run_interactive_reads_stdin_to_its_end(client):
    text = "".join(f"line {i}\n" for i in range(5000))
    assert client.call("run", "-i", "--rm", IMAGE, "cat", stdin=text) == text


def test_detached_logs_wait_and_exit_status(client, name):
    client.call("run", "-d", "--name", name, IMAGE, "sh", "-c", "echo one; echo two >&2; exit 9")
    assert client.call("wait", name) == "9\n"
    done = client.attempt("logs", name)
    assert (done.stdout, done.stderr) == ("one\n", "two\n")
    state = client.inspect(name)["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 9)


def test_stop_sends_term_and_keeps_the_exit_status(client, name):
    client.run_detached(name, "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done")
    host.eventually(lambda: "ready" in client.call("logs", name), "the container says ready")
    client.call("stop", "--time", "20", name)
    assert client.inspect(name)["State"]["ExitCode"] == 3


def test_stop_kills_what_ignores_term(client, name):
    client.run_detached(name, *SLEEP)
    client.call("stop", "--time", "0", name)
    assert client.inspect(name)["State"]["ExitCode"] == 137


def test_pause_freezes_and_unpause_thaws(client, name):
    pid = client.run_detached(name, *SLEEP)
    client.call("pause", name)
    assert client.inspect(name)["State"]["Status"] == "paused"
    assert host.is_frozen(pid)
    client.call("unpause", name)
    assert client.inspect(name)["State"]["Status"] == "running"
    assert not host.is_frozen(pid)
    assert client.call("exec", name, "echo", "alive") == "alive\n"
