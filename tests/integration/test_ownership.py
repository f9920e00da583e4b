"""One-shot verbs on containers that belong to a supervisor: forwarded, or done here when it is dead. The supervisor is
played by the test, the container is a real one whose record is rewritten."""
import fcntl
import json
import os
import socket
import time

import pytest

from lib import host
from lib.player import Player, rewrite, write_definition

pytestmark = pytest.mark.ours("has no supervisor")


class Owned:
    """A running container with an owner and a definition."""

    def __init__(self, runtime, made, work):
        self.runtime, self.id, self.bundle = runtime, made.id, made
        self.socket, self.state_dir = f"{work}/s/socket", f"{work}/definitions"
        self.pid = runtime.idle(made)
        rewrite(f"{runtime.root}/{self.id}/state.json", supervisor_socket=self.socket, state_dir=self.state_dir)
        write_definition(self.state_dir, self.id, bundle=made.path)
        with open(f"{self.state_dir}/{self.id}/container.log", "wb") as file:
            file.write(b"text\n")

    def stopped_by_user(self):
        with open(f"{self.state_dir}/{self.id}/definition.json", encoding="utf-8") as file:
            return json.load(file).get("stopped_by_user", False)

    def files(self):
        path = f"{self.state_dir}/{self.id}"
        return sorted(os.listdir(path)) if os.path.exists(path) else None


@pytest.fixture
def owned(runtime, bundle, work):
    return Owned(runtime, bundle(), work)


@pytest.fixture
def player(owned):
    made = Player(owned.socket)
    yield made
    made.close()


@pytest.fixture
def dead(owned):
    """The owner's socket is still there, but nobody listens."""
    os.makedirs(os.path.dirname(owned.socket))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(owned.socket)


# -- a supervisor that lives

@pytest.mark.parametrize("words, call", [
    (["kill", "ID", "USR1"], ("Signal", {"id": "ID", "signo": 10, "all": False})),
    (["kill", "--all", "ID", "KILL"], ("Signal", {"id": "ID", "signo": 9, "all": True})),
    (["pause", "ID"], ("Pause", {"id": "ID"})),
    (["resume", "ID"], ("Resume", {"id": "ID"})),
    (["delete", "--force", "ID"], ("Remove", {"id": "ID", "force": True, "keep_log": False})),
    (["stop", "--time", "2", "ID"], ("Stop", {"id": "ID", "timeout_seconds": 2})),
    (["rm", "ID"], ("Remove", {"id": "ID", "force": False, "keep_log": False})),
], ids=lambda value: value[0])
def test_verbs_are_forwarded_to_the_owner(runtime, owned, player, words, call):
    player.answers[call[0]] = lambda parameters, fds: {}
    runtime.call(*[owned.id if word == "ID" else word for word in words]).ok()
    assert player.calls == [(call[0], {**call[1], "id": owned.id})]
    assert runtime.status(owned.id) == "running" and not owned.stopped_by_user()


def test_the_owners_refusal_is_the_verbs(runtime, owned, player):
    def signal(parameters, fds):
        raise OSError(1, "operation not permitted")
    player.answers["Signal"] = signal
    runtime.kill(owned.id, "USR1").fails("operation not permitted").one_line()


def test_an_owner_that_dies_in_the_middle_is_named(runtime, owned, player):
    player.answers["Signal"] = lambda parameters, fds: None
    runtime.kill(owned.id, "USR1").fails(f"the supervisor at {owned.socket} went away before it answered Signal")
    assert runtime.status(owned.id) == "running"


def test_state_list_exec_and_ps_need_no_owner(runtime, owned, player):
    assert runtime.state(owned.id)["status"] == "running"
    assert owned.id in runtime.call("list", "-q").ok().out
    runtime.exec(owned.id, ["true"]).ok()
    assert str(owned.pid) in runtime.call("ps", "--format", "json", owned.id).ok().out
    assert player.calls == []


# -- a supervisor that is dead

@pytest.mark.parametrize("socket_left", [True, False], ids=["stale-socket", "no-socket"])
def test_kill_of_a_dead_owners_container_forbids_the_restart(runtime, owned, socket_left, request):
    if socket_left:
        request.getfixturevalue("dead")
    runtime.kill(owned.id, "TERM").ok()
    assert owned.stopped_by_user()
    runtime.wait_stopped(owned.id)


def test_a_harmless_signal_forbids_nothing(runtime, owned, dead):
    runtime.kill(owned.id, "USR1").ok()
    host.eventually(lambda: "signal 10\n" in owned.bundle.out())
    assert not owned.stopped_by_user()


def test_the_containers_own_stop_signal_forbids_the_restart(runtime, owned, dead):
    rewrite(f"{runtime.root}/{owned.id}/state.json", annotations={"org.opencontainers.image.stopSignal": "SIGUSR1"})
    runtime.kill(owned.id, "USR1").ok()
    assert owned.stopped_by_user()


def test_pause_and_resume_without_the_owner(runtime, owned, dead):
    runtime.call("pause", owned.id).ok()
    assert runtime.status(owned.id) == "paused"
    runtime.call("resume", owned.id).ok()
    assert runtime.status(owned.id) == "running" and not owned.stopped_by_user()


def test_delete_without_the_owner(runtime, owned, dead):
    runtime.delete(owned.id).fails("that is not stopped: running")
    assert not owned.stopped_by_user()
    runtime.delete(owned.id, "--force").ok()
    assert owned.files() is None and not os.path.exists(f"{runtime.root}/{owned.id}")


def test_stop_without_the_owner(runtime, owned, dead):
    runtime.call("stop", "--time", "0", owned.id).ok()
    assert owned.stopped_by_user() and runtime.status(owned.id) == "stopped"
    runtime.call("stop", owned.id).ok()


def test_stop_asks_first(runtime, owned, dead):
    rewrite(f"{runtime.root}/{owned.id}/state.json", annotations={"org.opencontainers.image.stopSignal": "SIGUSR1"})
    runtime.call("stop", "--time", "1", owned.id).ok()
    assert "signal 10\n" in owned.bundle.out() and runtime.status(owned.id) == "stopped"


def test_stop_of_a_paused_container(runtime, owned, dead):
    runtime.call("pause", owned.id).ok()
    runtime.call("stop", "--time", "0", owned.id).ok()
    assert runtime.status(owned.id) == "stopped"


@pytest.mark.parametrize("flags, left", [([], None), (["--keep-log"], ["container.log"])], ids=["all", "keep-log"])
def test_rm_without_the_owner(runtime, owned, dead, flags, left):
    runtime.call("rm", owned.id).fails("that is not stopped: running")
    runtime.call("rm", "--force", *flags, owned.id).ok()
    assert owned.files() == left and not os.path.exists(f"{runtime.root}/{owned.id}")


def test_rm_removes_a_log_elsewhere(runtime, owned, dead, work):
    for name in ("elsewhere.log", "elsewhere.log.1"):
        open(f"{work}/{name}", "wb").close()
    rewrite(f"{owned.state_dir}/{owned.id}/definition.json", log=f"cri,path={work}/elsewhere.log")
    runtime.call("rm", "-f", owned.id).ok()
    assert not [name for name in os.listdir(work) if name.startswith("elsewhere")]


def test_rm_of_what_only_has_a_definition(runtime, owned, dead, work):
    """As after a reboot."""
    write_definition(owned.state_dir, "old")
    runtime.call("stop", "--state-dir", owned.state_dir, "old").ok()
    runtime.call("rm", "--state-dir", owned.state_dir, "old").ok()
    assert not os.path.exists(f"{owned.state_dir}/old")


def test_rm_of_a_creation_that_was_killed(runtime, owned, dead):
    """Its record says "intent": looking at it takes the container's lock for a moment, and for no longer."""
    rewrite(f"{runtime.root}/{owned.id}/state.json", phase="intent")
    began = time.monotonic()
    runtime.call("rm", "--force", owned.id, timeout=30).ok()
    assert time.monotonic() - began < 5
    assert owned.files() is None and not os.path.exists(f"{runtime.root}/{owned.id}")


# -- a supervisor that is about to start: it has the right to the definitions, but does not listen yet

@pytest.fixture
def right(owned):
    held = os.open(owned.state_dir, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    yield held
    os.close(held)


@pytest.mark.parametrize("words, method", [
    (["kill", "ID", "TERM"], "Signal"),
    (["stop", "--time", "0", "ID"], "Stop"),
    (["delete", "--force", "ID"], "Remove"),
    (["rm", "--force", "ID"], "Remove"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_a_supervisor_that_starts_is_waited_for(runtime, owned, dead, right, words, method):
    verb = runtime.spawn(*[owned.id if word == "ID" else word for word in words])
    time.sleep(0.5)
    assert verb.poll() is None and not owned.stopped_by_user() and runtime.status(owned.id) == "running"
    os.unlink(owned.socket)
    player = Player(owned.socket)
    try:
        player.answers[method] = lambda parameters, fds: {}
        assert verb.wait(10) == 0
        assert [call[0] for call in player.calls] == [method]
        assert not owned.stopped_by_user() and runtime.status(owned.id) == "running"
    finally:
        player.close()


def test_a_supervisor_that_gives_up_its_start_is_not_waited_for(runtime, owned, dead, right):
    verb = runtime.spawn("stop", "--time", "0", owned.id)
    time.sleep(0.3)
    fcntl.flock(right, fcntl.LOCK_UN)
    assert verb.wait(10) == 0
    assert owned.stopped_by_user() and runtime.status(owned.id) == "stopped"


def test_definitions_of_a_supervisor_elsewhere_are_left_alone(runtime, owned, dead, right):
    runtime.kill(owned.id, "TERM").fails(f"state directory {owned.state_dir} is in use by a supervisor").one_line()
    assert not owned.stopped_by_user() and runtime.status(owned.id) == "running"


def test_commands_do_not_keep_one_another_from_acting(runtime, owned, dead):
    held = os.open(owned.state_dir, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_SH)
    runtime.call("rm", "--force", owned.id).ok()
    os.close(held)
