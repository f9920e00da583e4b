"""The seams between the verbs and whoever is the parent of processes.

Two programs built with the tests take the place of `gantry`: `foster` clones and reaps, as a keeper does, and `seam`
runs the verbs on one loop, asking the foster for everything. Ten containers write heartbeats, some go through a whole
life again and again, and the create of one hangs in a mount whose file system never answers. Nobody else may notice.
"""
import json
import os
import signal
import subprocess
import time

import pytest

from lib import host
from lib.built import built
from lib.hung import Hung

# Judges silences of a tenth of a second: nothing else may run beside it.
pytestmark = [pytest.mark.alone, pytest.mark.ours("about gantry's own engine")]

BEATS = 10
CHURNS = 3
ROUNDS = 3
GAP_US = 100_000
# A silence is judged only when the host lets a process outside of all this run: its own must be shorter than this.
QUIET_US = 50_000
TRIES = 5


@pytest.fixture(autouse=True)
def state_in_memory(runtime):
    """As /run is: the loop writes state, and a disk would be another neighbour that takes its time."""
    host.mount("state", runtime.root, "tmpfs")
    yield
    runtime.cleanup()
    host.umount(runtime.root)


@pytest.fixture
def hung(runtime, work, tool):
    """After `runtime`, so that it ends first: what hangs can be cleaned up then."""
    system = Hung(tool("hung_fuse"), work)
    yield system
    system.end()


class Control:
    """The same heartbeat as in the containers, but outside."""

    def __init__(self, work, beat):
        self.path = f"{work}/control"
        if not os.path.exists(self.path):
            os.mkfifo(self.path)
        # A reader must be there before the writer opens; the driver is, a little later.
        self.reader = os.open(self.path, os.O_RDWR)
        self.process = subprocess.Popen([beat, self.path])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.reader)


class Scene:
    """The bundles of one run, which can be run again."""

    def __init__(self, runtime, bundle, tool, work, hung_config=None):
        self.runtime, self.work, self.beat = runtime, work, tool("beat")
        self.beats = [self._beating(bundle) for _ in range(BEATS)]
        self.churns = [self._short_lived(bundle) for _ in range(CHURNS)]
        self.hung = None
        if hung_config:
            self.hung = bundle("true")
            hung_config(self.hung)
            self.hung.write()
        for each in self.beats + self.churns + ([self.hung] if self.hung else []):
            runtime.track(each.id)

    def _beating(self, bundle):
        b = bundle("/bin/beat", "/beat")
        os.link(self.beat, f"{b.rootfs}/bin/beat")
        os.mkfifo(f"{b.rootfs}/beat")
        return b.write()

    @staticmethod
    def _short_lived(bundle):
        return bundle("sh", "-c", "trap 'exit 42' TERM; : > /dev/ready; sleep 60 & wait").write()

    def play(self, hung=None, end="cancel", timeout=90, **more):
        words = [f"beats={','.join(b.id for b in self.beats)}", f"churns={','.join(b.id for b in self.churns)}",
                 f"rounds={ROUNDS}", f"end={end}", f"control={self.work}/control"]
        if hung:
            words += [f"hung={self.hung.id}", f"hung_cgroup={self.hung.cgroup('pids')}", f"asked={hung.asked}",
                      f"fuse={hung.process.pid}", *(f"{name}={value}" for name, value in more.items())]
        argv = [built("seam/foster"), built("seam/seam"), self.runtime.root, os.path.dirname(self.beats[0].path), *words]
        with Control(self.work, self.beat), open(f"{self.work}/seam.err", "w+b") as err:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, text=True,
                                       env=self.runtime.environment({"LC_ALL": "C"}))
            try:
                out, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                for child in host.descendants(process.pid):
                    host.kill_quietly(child)
                process.communicate()
                pytest.fail(f"no end after {timeout} s\n{host.read(err.name)}")
            seen = json.loads(out) if out.strip() else {}
            seen["status"], seen["stderr"], seen["foster_pid"] = process.returncode, host.read(err.name), process.pid
            return seen


def silences(seen):
    """Everybody's longest, in microseconds; the host's own apart."""
    found = {"loop": seen["loop"]["gap_us"]}
    noise = 0
    for beat in seen["beats"]:
        longest = max(beat["stamp_gap_us"], beat["arrival_gap_us"])
        if beat["name"] == "control":
            noise = beat["stamp_gap_us"]
        else:
            found[beat["name"]] = longest
    return found, noise


def check_lives(seen, scene):
    """Everything but the clock: who is whose child, how all ended, that nobody was left out."""
    assert seen["status"] == 0 and not seen["errors"], seen
    assert seen["foster"] == seen["foster_pid"]
    assert seen["children"].split() == [], "the engine has children of its own"
    assert seen["rounds_done"] == CHURNS * ROUNDS
    assert {init["parent"] for init in seen["inits"]} == {seen["foster"]}
    beating = {b.id for b in scene.beats}
    for init in seen["inits"]:
        expected = (0, signal.SIGKILL) if init["id"] in beating else (42, 0)
        assert (init["code"], init["signal"]) == expected, init
    assert len(seen["inits"]) == BEATS + CHURNS * ROUNDS
    for beat in seen["beats"]:
        assert beat["count"] > 3 and beat["lost"] == 0, beat
    assert os.listdir(scene.runtime.root) == []


def check_silences(play, check):
    """No silence over 100 ms, in a run during which the host itself was awake."""
    tries = []
    for _ in range(TRIES):
        seen = play()
        check(seen)
        found, noise = silences(seen)
        tries.append(f"longest {max(found.values())} us ({max(found, key=found.get)}), host {noise} us")
        if max(found.values()) <= GAP_US:
            return seen
        assert noise > QUIET_US, f"silence on a quiet host: {tries[-1]}\n{json.dumps(seen, indent=1)}"
        time.sleep(0.5)
    pytest.fail("the host was never quiet enough to judge: " + "; ".join(tries))


def check_hung(seen, scene):
    check_lives(seen, scene)
    hung = seen["hung"]
    assert hung["during_churn"], f"the create did not hang: {hung['error']}"
    assert hung["error"], "the hung create says that it succeeded"
    assert not os.path.exists(scene.hung.cgroup("pids"))


def bind(source):
    def configure(b):
        b.file("data/.keep")
        b.mount("/data", f"{source}/data", "bind", ["bind"])
    return configure


def bind_with_user_namespace(source):
    """Init may not see the source: the launcher opens it, and hangs."""
    def configure(b):
        bind(source)(b)
        b.user_namespace()
    return configure


def test_all_verbs_through_another_parent(runtime, bundle, tool, work):
    scene = Scene(runtime, bundle, tool, work)
    check_silences(scene.play, lambda seen: check_lives(seen, scene))


@pytest.mark.parametrize("configure", [bind, bind_with_user_namespace])
@pytest.mark.parametrize("mode,end", [("pending", "cancel"), ("pending", "kill"), ("taken", "cancel")])
def test_hung_mount_source_bothers_nobody(runtime, bundle, tool, work, hung, mode, end, configure):
    scene = Scene(runtime, bundle, tool, work, configure(hung.point))

    def play():
        hung.begin(mode)
        return scene.play(hung, end)

    def check(seen):
        check_hung(seen, scene)
        assert not seen["hung"]["state_left"] and not seen["hung"]["cgroup_left"], seen["hung"]
        # Whoever waits for a request that the file system has taken cannot be killed.
        assert seen["hung"]["needed_abort"] == (mode == "taken"), seen["hung"]
        assert (hung.process.poll() is None) == (mode == "pending")

    check_silences(play, check)


def test_what_cannot_be_undone_yet_can_be_deleted_later(runtime, bundle, tool, work, hung):
    """Create gives up on an init that nothing can kill; the container must not be forgotten while it is there."""
    scene = Scene(runtime, bundle, tool, work, bind(hung.point))

    def play():
        hung.begin("taken")
        return scene.play(hung, patience=60_000, timeout=120)

    def check(seen):
        check_hung(seen, scene)
        assert not seen["hung"]["needed_abort"] and seen["hung"]["took_us"] < 40_000_000, seen["hung"]
        assert seen["hung"]["cgroup_left"] and seen["hung"]["state_left"], seen["hung"]

    check_silences(play, check)
