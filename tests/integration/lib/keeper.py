"""A real keeper and, below it, `puppet`: a supervisor, built with the tests, that does what the test says over a socket,
to which it connects anew whenever the keeper starts it again.

A test file takes the fixtures it uses: from lib.keeper import keeper
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess

import pytest

from . import host
from .built import built

HELD, EXITED = 1, 2
FIRST_HELD = 512


class Keeper:
    """A keeper and the strings to its present supervisor."""

    def __init__(self, work, root, env, prefix=(), program=None):
        self.path = f"{work}/strings"
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(8)
        self.errors = open(f"{work}/puppet.err", "w+b")
        argv = [*prefix, built("keeper/puppet"), "become", self.path, root, *([program] if program else [])]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors, env=env)
        self.pid = self.process.pid
        self.strings = None
        self.pids = set()

    def meet(self, timeout=10.0):
        """The next supervisor; what it says first is the table."""
        if self.strings:
            self.strings.close()
        self.listener.settimeout(timeout)
        try:
            connection, _ = self.listener.accept()
        except TimeoutError:
            pytest.fail(f"no supervisor comes: {host.read(self.errors.name)}")
        connection.settimeout(timeout)
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        self.supervisor = struct.unpack("3i", peer)[0]
        self.pids.add(self.supervisor)
        self.strings = connection.makefile("rwb")
        connection.close()
        self.hello = self._answer()
        return self.hello

    def _answer(self):
        line = self.strings.readline()
        if not line:
            raise EOFError(host.read(self.errors.name))
        return json.loads(line)

    def say(self, *words):
        """The line without waiting for an answer."""
        self.strings.write(("\t".join(str(word) for word in words) + "\n").encode())
        self.strings.flush()

    def ask(self, *words):
        self.say(*words)
        return self._answer()

    def do(self, *words):
        answer = self.ask(*words)
        assert "error" not in answer, (words, answer)
        return answer

    def table(self):
        return self.do("table")["table"]

    def slot(self, number):
        return next((slot for slot in self.table()["slots"] if slot["slot"] == number), None)

    def exits(self):
        return self.do("exits")["exits"]

    def crash(self):
        """kill -9, and the next one."""
        self.end_supervisor()
        return self.meet()

    def end_supervisor(self, signo=signal.SIGKILL, target=None):
        """Closed strings end it, too: only once it is gone."""
        os.kill(target or self.supervisor, signo)
        host.eventually(lambda: not os.path.exists(f"/proc/{self.supervisor}"), 5, "the supervisor's end")

    def zombies(self):
        return [pid for pid in host.children(self.pid) if (host.proc_stat(pid) or {"state": ""})["state"] == "Z"]

    def end(self):
        if self.strings:
            self.strings.close()
        self.listener.close()
        host.kill_quietly(self.pid)
        self.process.wait()
        for pid in self.pids:
            if "puppet" in host.describe(pid):
                host.kill_quietly(pid)
        self.errors.close()


@pytest.fixture
def keeper(runtime, work):
    made = []

    def make(meet=True, **more):
        env = {**runtime.environment({"LC_ALL": "C"}), **more.pop("env", {})}
        one = Keeper(work, runtime.root, env, **more)
        made.append(one)
        if meet:
            one.meet()
        return one
    yield make
    for one in made:
        one.end()


def fd_links(pid):
    links = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            links[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass
    return links


def pss_kib(pid):
    return int(re.search(r"^Pss: +(\d+) kB", host.read(f"/proc/{pid}/smaps_rollup"), re.M).group(1))


def sleeping(bundle, runtime, *script):
    b = bundle("sh", "-c", *(script or ["trap 'exit 42' TERM; : > /ready; while :; do sleep 0.05; done"]))
    b.writable()
    runtime.track(b.id)
    return b.write()


def up(k, b):
    pid = k.do("create", b.id, b.path)["pid"]
    k.do("start", b.id)
    return pid


def until_exits(k, count):
    return host.eventually(lambda: len(k.exits()) >= count and k.exits(), 8, f"{count} exits")
