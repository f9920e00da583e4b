"""The verbs for supervised containers against a supervisor played by the test: words, messages, texts, exit statuses.

The player is written from the description of the API alone, so that the client is not only tested against our server.
"""
import contextlib
import fcntl
import json
import os
import pty
import re
import socket
import subprocess
import threading

import pytest

from conftest import PROGRAM
from lib.player import Player

pytestmark = pytest.mark.ours("has no supervisor")

MESSAGE = re.compile(r'level=(\w+) msg=("(?:[^"\\]|\\.)*"|\S+)')


@pytest.fixture
def cli(work):
    """cli(*words): the finished process, run in a directory of its own on a root of its own."""
    def call(*words, **options):
        return subprocess.run([PROGRAM, "--root", f"{work}/root", *words], capture_output=True, text=True, cwd=work,
                              timeout=30, **options)
    return call


@pytest.fixture
def player(work):
    made = Player(f"{work}/root/@supervisor/socket")
    yield made
    made.close()


@pytest.fixture
def web(work):
    """A bundle called web."""
    os.makedirs(f"{work}/web/rootfs")
    config = {"ociVersion": "1.2.0", "root": {"path": "rootfs"}, "process": {"args": ["true"], "cwd": "/"}}
    with open(f"{work}/web/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return config


def messages(result):
    return [json.loads(m) if m.startswith('"') else m for _, m in MESSAGE.findall(result.stderr)]


def refused(result, text, status=1):
    assert (messages(result), result.returncode) == ([text], status), result


# -- words

@pytest.mark.parametrize("verb", ["up", "logs", "wait", "stop", "rm"])
def test_help_and_missing_arguments(cli, verb):
    shown = cli(verb, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith(f"NAME:\n   gantry {verb} - ")
    assert "--socket PATH" in shown.stdout or "--state-dir DIR" in shown.stdout
    missing = cli(verb)
    assert missing.returncode == 1 and "requires a minimum of 1 arg" in missing.stderr, missing.stderr
    assert f"   {verb} " in cli("--help").stdout.split("SUPERVISED CONTAINERS:")[1]


@pytest.mark.parametrize("words, text", [
    (["--id", "a", "web", "web"], "--id a cannot name 2 bundles: use it for one"),
    (["--id", "a/b", "web"], "--id a/b: invalid container ID format"),
    (["--count", "0", "web"], "--count 0: must be from 1 to 100000"),
    (["--restart", "maybe", "web"],
     'restart policy "maybe": must be no, always, on-failure or on-failure:N with N from 1 on'),
    (["--socket", "", "web"], "--socket: the path is empty"),
], ids=lambda value: value[0] if isinstance(value, list) else "")
def test_up_refuses_words(cli, web, player, words, text):
    refused(cli("up", *words), text)
    assert player.calls == []


def test_up_refuses_a_log_option_by_name(cli, web, player):
    result = cli("up", "--log", "xml", "web")
    assert result.returncode == 1 and "xml" in messages(result)[0] and player.calls == []


def test_stop_refuses_a_negative_time(cli):
    refused(cli("stop", "--time=-1", "a"), "--time -1: must be from 0 to 1000000 seconds")


# -- without a supervisor

def test_up_says_how_to_start_a_supervisor(cli, web, work):
    where = f"{work}/root/@supervisor/socket"
    hint = f"start one with: gantry --root {work}/root supervise"
    refused(cli("up", "web"), f"no supervisor is running at {where}: {hint}")
    refused(cli("up", "--socket", "s", "web"), f"no supervisor is running at {work}/s: {hint} --socket {work}/s")
    os.makedirs(os.path.dirname(where))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(where)
    refused(cli("up", "--count", "5", "web"), f"no supervisor is running at {where}: {hint}")


def test_wait_waits_a_little_for_a_supervisor(cli, work):
    result = cli("wait", "a")
    assert result.stdout == "unknown\n" and result.returncode == 1
    assert messages(result)[0].startswith("a: no supervisor is running at ")


def test_stop_and_rm_of_an_unknown_id_without_a_supervisor(cli, work):
    refused(cli("stop", "a"), "a: container does not exist")
    refused(cli("rm", "--state-dir", "none", "a"), "a: container does not exist")
    assert cli("rm", "-f", "a").returncode == 0
    assert not os.path.exists(f"{work}/none")
    refused(cli("rm", "../a"), "../a: invalid container ID format")


# -- up

def test_up_hands_over_a_sealed_config(cli, web, player, work):
    seen = {}

    def up(parameters, fds):
        seen.update(parameters, config=json.loads(os.pread(fds[0], 1 << 20, 0)), seals=fcntl.fcntl(fds[0], 1034), n=len(fds))
        return {"id": parameters["id"], "pid": 7}
    player.answers["Up"] = up
    result = cli("up", "web/", "--restart", "on-failure:3", "--log", "json,size=1m", "--netns", "ns")
    assert (result.stdout, result.returncode, result.stderr) == ("web\n", 0, "")
    assert seen == {"id": "web", "bundle": f"{work}/web", "rootfs": f"{work}/web/rootfs", "restart": "on-failure:3",
                    "log": "json,size=1m", "netns": f"{work}/ns", "config": web, "seals": 0xf, "n": 1}


def test_up_count_starts_many_and_goes_on_after_failures(cli, web, player):
    def up(parameters, fds):
        if parameters["id"] == "w-7":
            raise OSError(28, "no space left on device")
        return {"id": parameters["id"], "pid": 7}
    player.answers["Up"] = up
    result = cli("up", "web", "--id", "w", "--count", "300")
    assert sorted(result.stdout.split()) == sorted(f"w-{i}" for i in range(1, 301) if i != 7)
    refused(result, "w-7: no space left on device")


def test_up_of_a_bundle_that_is_not_there_starts_the_others(cli, web, player, work):
    player.answers["Up"] = lambda parameters, fds: {"id": parameters["id"], "pid": 7}
    result = cli("up", "nowhere", "web")
    assert result.stdout == "web\n"
    refused(result, "bundle nowhere: chdir nowhere: no such file or directory")
    os.rmdir(f"{work}/web/rootfs")
    refused(cli("up", "web"), f"bundle web: root.path {work}/web/rootfs: no such file or directory")


def test_up_refuses_to_call_two_the_same(cli, web, player):
    refused(cli("up", "web", "web"), "two containers would be called web: use --id for one of them")


def all_of(master):
    """What was written to a terminal that nobody has open any more: it comes in pieces, and then EIO."""
    text = b""
    with contextlib.suppress(OSError):
        while piece := os.read(master, 4096):
            text += piece
    return text.decode()


def test_up_shows_progress_on_a_terminal_only(web, player, work):
    player.answers["Up"] = lambda parameters, fds: {"id": parameters["id"], "pid": 7}
    master, slave = pty.openpty()
    result = subprocess.run([PROGRAM, "--root", f"{work}/root", "up", "web", "--count", "3"], stdout=subprocess.PIPE,
                            stderr=slave, cwd=work, timeout=30, check=True)
    os.close(slave)
    shown = all_of(master)
    os.close(master)
    assert [f"up {i}/3" in shown for i in (1, 2, 3)] == [True] * 3
    assert sorted(result.stdout.split()) == [b"web-1", b"web-2", b"web-3"]


def test_up_asks_the_next_supervisor(cli, web, player):
    """The first one dies in the middle of the call; the second one has the container already, and then starts it."""
    entry = {"id": "web", "bundle": "", "status": "waiting", "pid": 0}

    def up(parameters, fds):
        if not entry["bundle"]:
            entry["bundle"] = parameters["bundle"]
            return None
        raise OSError(17, "container with given ID already exists")
    player.answers["Up"] = up

    def list_(parameters, fds):
        shown = dict(entry)
        entry.update(status="running", pid=9)
        return {"containers": [shown], "more": False}
    player.answers["List"] = list_
    result = cli("up", "web")
    assert (result.stdout, result.returncode) == ("web\n", 0), result
    assert [method for method, _ in player.calls] == ["Up", "Up", "List", "List"]


def test_up_does_not_take_anothers_container_for_its_own(cli, web, player):
    def up(parameters, fds):
        if len(player.calls) == 1:
            return None
        raise OSError(17, "container with given ID already exists")
    player.answers["Up"] = up
    player.answers["List"] = lambda parameters, fds: {"containers": [{"id": "web", "bundle": "/other", "pid": 9}]}
    refused(cli("up", "web"), "web: container with given ID already exists")


# -- wait, stop, rm

def test_wait_prints_in_the_order_given(cli, player):
    exits = {"a": {"known": True, "code": 3}, "b": {"known": True, "signal": 9}, "c": {"known": False}}
    last = threading.Event()

    def wait(parameters, fds):
        if parameters["id"] == "a":
            last.wait(10)
        if parameters["id"] == "b":
            last.set()
        if parameters["id"] not in exits:
            raise OSError(2, "container does not exist")
        return {"id": parameters["id"], "exit": exits[parameters["id"]]}
    player.answers["Wait"] = wait
    result = cli("wait", "a", "b")
    assert (result.stdout, result.returncode) == ("3\n137\n", 0)
    result = cli("wait", "c", "x", "b")
    assert (result.stdout, result.returncode) == ("unknown\nunknown\n137\n", 1)
    assert messages(result) == ["x: container does not exist"]


def test_wait_survives_the_death_of_supervisors(cli, player):
    def wait(parameters, fds):
        if len(player.calls) < 4:
            return None
        return {"id": "a", "exit": {"known": True, "code": 4}}
    player.answers["Wait"] = wait
    result = cli("wait", "a")
    assert (result.stdout, result.returncode, len(player.calls)) == ("4\n", 0, 4)


def test_stop_and_rm_say_what_they_were_told(cli, player):
    player.answers["Stop"] = player.answers["Remove"] = lambda parameters, fds: {}
    assert cli("stop", "a").returncode == 0
    assert cli("stop", "-t", "3", "b").returncode == 0
    assert cli("rm", "-f", "--keep-log", "c").returncode == 0
    assert player.calls == [("Stop", {"id": "a", "timeout_seconds": 10}), ("Stop", {"id": "b", "timeout_seconds": 3}),
                            ("Remove", {"id": "c", "force": True, "keep_log": True})]


def test_one_failure_does_not_keep_the_others(cli, player):
    def stop(parameters, fds):
        if parameters["id"] == "b":
            raise OSError(2, "container does not exist")
        return {}
    player.answers["Stop"] = stop
    refused(cli("stop", "a", "b", "c"), "b: container does not exist")
    assert len(player.calls) == 3


@pytest.mark.parametrize("answer, text", [
    (b"}{\0", "reply: line 1, column 1"),
    (b'{"parameters":{"id":"web","pid":"seven"}}\0', 'parameters.pid: expected a whole number'),
    (b"x" * (1 << 20), "message longer than 1048576 bytes"),
], ids=["garbage", "wrong-type", "endless"])
def test_a_supervisor_that_talks_nonsense(cli, web, work, answer, text):
    path = f"{work}/root/@supervisor/socket"
    os.makedirs(os.path.dirname(path))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(5)

        def serve():
            for _ in range(30):
                try:
                    connection = listening.accept()[0]
                    if connection.recv(65536):
                        connection.sendall(answer)
                except OSError:
                    return
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        result = cli("up", "web")
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert result.returncode == 1 and text in messages(result)[0], result
