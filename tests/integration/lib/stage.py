"""One supervisor and its bystanders: containers that write numbered heartbeats into their logs, while the tests make
trouble beside them. A silence of a bystander, or of the supervisor itself, counts only when the host let processes
outside of all this run meanwhile.

A test file takes the fixtures it uses: from lib.stage import cast, hung, stage
"""
import collections
import contextlib
import os
import re
import shutil
import tempfile
import time

import pytest

from . import host, quiet
from .bundle import Bundle
from .hung import Hung
from .runtime import Runtime
from .slow import Slow
from .supervised import Supervised

BYSTANDERS = int(os.environ.get("GANTRY_BYSTANDERS", "50"))


def kinds_of_files(pid):
    """How many pipes, sockets, pidfds, files of a directory, ... a process has open."""
    found = collections.Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[re.sub("[0-9]+", "N", os.readlink(f"/proc/{pid}/fd/{name}"))] += 1
    return found


class Stage:
    """One supervisor and its bystanders, for all tests of a file."""

    def __init__(self, work, programs, program, tool, count):
        self.work, self.count = work, count
        for name in ("root", "calls", "b"):
            os.mkdir(f"{work}/{name}")
        self.runtime = Runtime(program, f"{work}/root", f"{work}/calls")
        self.supervised = Supervised(self.runtime, work)
        self.controls = quiet.Controls(tool("beat"), work)
        self.bystanders = []
        self.bundle = Bundle(f"{work}/b", programs, ["/bin/beat", "/dev/stdout", "20"], {})
        os.link(tool("beat"), f"{self.bundle.rootfs}/bin/beat")

    def begin(self):
        self.supervised.begin()
        self.supervised.up(self.bundle, flags=("--count", str(self.count)), timeout=60).ok()
        self.bystanders = [f"{self.bundle.id}-{number + 1}" for number in range(self.count)]
        host.eventually(lambda: all(os.path.getsize(path) for path in self.logs()), what="heartbeats")
        return self

    def logs(self):
        return [f"{self.supervised.state_dir}/{name}/container.log" for name in self.bystanders]

    def end(self):
        self.controls.end()
        if self.bystanders:
            self.runtime.call("rm", "--force", *self.bystanders, timeout=60)
        self.supervised.end()
        self.supervised.remove_remains()
        host.purge_cgroups(self.bundle.id)

    def watch(self, at_least=0.5, slower=1):
        return quiet.Watch(self.supervised.socket, self.logs(), self.controls, at_least, slower)

    def unmoved(self, trouble=lambda: None, at_least=0.5, slower=1):
        """Runs trouble() until nobody noticed. What holds others up does so each time; a busy host only sometimes."""
        seen = []
        for _ in range(quiet.TRIES):
            with self.watch(at_least, slower) as watch:
                trouble()
            if watch.longest() <= quiet.GAP_NS:
                return
            seen.append(watch)
            time.sleep(0.3)
        text = "; ".join(map(str, seen))
        assert not any(watch.noise < quiet.QUIET_NS for watch in seen), f"on a quiet host: {text}"
        pytest.skip(f"the host was never quiet enough to judge: {text}")


@pytest.fixture(scope="module")
def stage(request, session_dir, programs, program, tool):
    work = tempfile.mkdtemp(prefix="s", dir=session_dir)
    os.chmod(work, 0o755)
    it = Stage(work, programs, program, tool, getattr(request.module, "BYSTANDERS", BYSTANDERS))
    try:
        yield it.begin()
    finally:
        it.end()
        shutil.rmtree(work, ignore_errors=True)


class Cast:
    """The containers of one test on the stage; what they cost must come back."""

    def __init__(self, stage, bundle):
        self.stage, self.supervised, self.runtime = stage, stage.supervised, stage.runtime
        self._bundle, self.ids, self.calls = bundle, [], []
        self.before = self.cost()

    def cost(self):
        s = self.supervised
        return {"supervisor": s.supervisor(), "keeper's files": kinds_of_files(s.keeper),
                "supervisor's files": kinds_of_files(s.supervisor()), "keeper's children": sorted(host.children(s.keeper)),
                "definitions": sorted(os.listdir(s.state_dir)), "states": sorted(os.listdir(self.runtime.root)),
                "containers": s.status()["containers"]}

    def bundle(self, *args, **sections):
        made = self._bundle(*args, **sections)
        self.ids.append(made.id)
        return made

    def up(self, *bundles, flags=(), **spawn):
        return self.supervised.up(*bundles, flags=flags, **spawn)

    def begin_up(self, *bundles, flags=()):
        """up that goes on in the background."""
        for each in bundles:
            each.write()
        call = self.runtime.spawn("up", *flags, *[each.path for each in bundles])
        self.calls.append(call)
        return call

    def rm(self, *bundles):
        return self.runtime.call("rm", "--force", *[each.id for each in bundles])

    def end(self):
        for call in self.calls:
            if call.pid in self.runtime.running:
                call.kill()
                call.wait()
                self.runtime.running.pop(call.pid)
        left = self.runtime.call("rm", "--force", *self.ids, timeout=30) if self.ids else None
        self.runtime.ids.clear()
        assert left is None or left.code == 0, left

        host.eventually(lambda: self.same(*self.before), 10, "everything that the test took")

    def same(self, *names):
        now = self.cost()
        changed = {name: (self.before[name], now[name]) for name in names if now[name] != self.before[name]}
        assert not changed, changed
        return True


def is_clean(census):
    leaks = census.leaks()
    assert not leaks, leaks
    return True


@pytest.fixture
def cast(stage, bundle):
    census = host.Census()
    it = Cast(stage, bundle)
    yield it
    it.end()
    host.eventually(lambda: is_clean(census), 3, "a clean host")


@pytest.fixture
def hung(cast, work, tool):
    """After `cast`, so that it ends first: what hangs can be cleaned up then."""
    system = Hung(tool("hung_fuse"), work)
    yield system
    system.end()


@pytest.fixture
def slow(cast, work, tool):
    """After `cast`, as `hung` is."""
    system = Slow(tool("slow_fuse"), work)
    yield system.begin()
    system.end()


def endless(cast):
    return cast.bundle().sh("while :; do sleep 1; done")
