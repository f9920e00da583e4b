"""Trouble of one container or client is nobody else's.

Bystanders write numbered heartbeats through the supervisor into their logs while something else goes wrong. A silence of
a bystander, or of the supervisor itself, counts only when the host let processes outside of all this run meanwhile.
"""
import collections
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pytest

from lib import host, quiet
from lib.bundle import Bundle
from lib.hung import Hung
from lib.runtime import Runtime
from lib.supervised import Supervised

# Silences of a tenth of a second are judged: nothing else may run beside it.
pytestmark = pytest.mark.alone

BYSTANDERS = int(os.environ.get("GANTRY_BYSTANDERS", "50"))


@pytest.fixture(autouse=True)
def only_ours(peer):
    if peer:
        pytest.skip("about gantry's own supervisor")


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def kinds_of_files(pid):
    """How many pipes, sockets, pidfds, files of a directory, ... a process has open."""
    found = collections.Counter()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found[re.sub("[0-9]+", "N", os.readlink(f"/proc/{pid}/fd/{name}"))] += 1
    return found


class Stage:
    """One supervisor and its bystanders, for all tests of this file."""

    def __init__(self, work, programs, program, tool):
        self.work = work
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
        self.supervised.up(self.bundle, flags=("--count", str(BYSTANDERS)), timeout=60).ok()
        self.bystanders = [f"{self.bundle.id}-{number + 1}" for number in range(BYSTANDERS)]
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

    def watch(self, at_least=0.5):
        return quiet.Watch(self.supervised.socket, self.logs(), self.controls, at_least)

    def unmoved(self, trouble=lambda: None, at_least=0.5):
        """Runs trouble() until nobody noticed. What holds others up does so each time; a busy host only sometimes."""
        seen = []
        for _ in range(quiet.TRIES):
            with self.watch(at_least) as watch:
                trouble()
            if watch.longest() <= quiet.GAP_NS:
                return
            seen.append(watch)
            time.sleep(0.3)
        text = "; ".join(map(str, seen))
        assert not any(watch.noise < quiet.QUIET_NS for watch in seen), f"on a quiet host: {text}"
        pytest.skip(f"the host was never quiet enough to judge: {text}")


@pytest.fixture(scope="module")
def stage(session_dir, programs, program, tool):
    work = tempfile.mkdtemp(prefix="s", dir=session_dir)
    os.chmod(work, 0o755)
    it = Stage(work, programs, program, tool)
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


@pytest.fixture
def cast(stage, bundle):
    census = host.Census()
    it = Cast(stage, bundle)
    yield it
    it.end()
    host.eventually(lambda: not census.leaks(), 3, "a clean host")


@pytest.fixture
def hung(cast, work, tool):
    """After `cast`, so that it ends first: what hangs can be cleaned up then."""
    system = Hung(tool("hung_fuse"), work)
    yield system
    system.end()


def endless(cast):
    return cast.bundle().sh("while :; do sleep 1; done")


# --- hooks, mounts, bundles ------------------------------------------------------------------------------------------

def test_nothing_happens_and_nobody_notices(stage):
    """The measure itself: without any trouble it must not find any."""
    stage.unmoved()


def test_stuck_hooks_hold_up_only_their_containers(stage, cast):
    stuck = [cast.bundle("true").hook("createRuntime", "sleep 1000") for _ in range(10)]
    box = endless(cast)

    def trouble():
        calls = [cast.begin_up(each) for each in stuck]
        host.eventually(lambda: cast.supervised.status()["containers"] == BYSTANDERS + len(stuck), what="ten starts")
        cast.up(box, timeout=8).ok()
        cast.rm(box, *stuck).ok()
        for call in calls:
            cast.runtime.finish(call).fails("stopped while it was being started").one_line()
    stage.unmoved(trouble)


def test_a_restart_that_hangs_is_stopped_and_the_exit_before_stays_on_record(cast, work):
    box = cast.bundle().sh("exit 4").hook("createRuntime", f"test ! -e {work}/stuck || sleep 1000; : > {work}/stuck")
    cast.up(box, flags=("--restart", "always")).ok()
    host.eventually(lambda: cast.supervised.definition(box)["restarts"] == 1, what="a restart")
    time.sleep(0.3)
    cast.runtime.call("stop", box.id).ok()
    cast.supervised.wait(box).ok("4\n")


def test_a_hook_with_a_timeout_fails_its_container(stage, cast):
    box = cast.bundle("true").hook("createRuntime", "sleep 1000 & sleep 1000", timeout=1)
    stage.unmoved(lambda: cast.up(box).fails("createRuntime", "timeout of 1").one_line())


@pytest.mark.parametrize("mode", ["pending", "taken"])
def test_a_mount_source_that_never_answers(stage, cast, hung, mode):
    hung.begin(mode)
    box = cast.bundle("true").mount("/data", f"{hung.point}/data", "bind", ["bind"])
    box.file("data/.keep")

    def trouble():
        call = cast.begin_up(box)
        host.eventually(lambda: os.path.exists(hung.asked), what="a request to the file system")
        time.sleep(0.2)
        if mode == "taken":
            hung.end()  # nothing else ends who waits for a request that was taken
        else:
            cast.rm(box).ok()
        cast.runtime.finish(call).fails().one_line()
        hung.begin(mode)
    stage.unmoved(trouble)


@pytest.mark.parametrize("what", ["rootfs", "bundle", "netns", "log", "log directory", "namespace", "agent"])
def test_paths_of_a_call_that_lead_to_a_file_system_that_never_answers(stage, cast, hung, work, what):
    """As a client that lies would send them, or one whose file system has gone away since."""
    hung.begin("pending")
    box = cast.bundle("true")
    there = f"{hung.point}/there"
    up = {"id": box.id, "bundle": box.path, "rootfs": box.rootfs, "restart": "no", "log": "", "netns": ""}
    if what in ("rootfs", "bundle", "netns"):
        up[what] = there
    elif what == "log":
        up["log"] = f"cri,path={there}"
    elif what == "log directory":
        os.symlink(there, f"{work}/logs")
        up["log"] = f"cri,path={work}/logs/deep/er/log"
    elif what == "namespace":
        box.namespace("uts", there)
    else:
        box.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": there,
                                "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_NOTIFY"}]}
    box.write()

    def trouble():
        with open(f"{box.path}/config.json", "rb") as config, cast.supervised.api() as asked:
            asked.send("Up", [config.fileno()], **up)
            time.sleep(0.1)
            cast.rm(box).ok()
            answer = asked.receive()
        # The bundle's directory is only what hooks start in.
        assert bool(answer.get("error")) == (what != "bundle"), answer
        if what not in ("bundle", "rootfs"):
            assert f"{hung.point} is on fuse.hung" in answer["parameters"]["message"], answer
    stage.unmoved(trouble, 0.3)


def test_a_bundle_that_never_answers_hangs_its_client_only(stage, cast, hung):
    hung.begin("pending")
    call = cast.runtime.spawn("up", "--id", "never", f"{hung.point}/bundle")
    cast.calls.append(call)
    host.eventually(lambda: os.path.exists(hung.asked), what="a request to the file system")
    stage.unmoved()
    assert call.poll() is None


# --- output ----------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def small_disk(path, size):
    os.mkdir(path)
    host.mount("small", path, "tmpfs", data=f"size={size}")
    try:
        yield path
    finally:
        host.umount(path)


def output_of(path):
    """What a log in CRI format says that was written, without what it says itself."""
    text = []
    with open(path, "rb") as file:
        for line in file.read().splitlines(keepends=True):
            _, _, tag, rest = line.split(b" ", 3)
            if tag != b"F:lost":
                text.append(rest if tag == b"F" else rest[:-1])
    return b"".join(text).decode()


LINES = 300_000  # more than the disk, a batch and a pipe take


def test_a_full_disk_blocks_only_who_writes_to_it_and_loses_nothing(stage, cast, work):
    box = cast.bundle("seq", str(LINES))
    with small_disk(f"{work}/disk", "128k") as disk:
        cast.up(box, flags=("--log", f"cri,path={disk}/log")).ok()
        host.eventually(lambda: os.path.getsize(f"{disk}/log") > 120_000, what="a full disk")
        stage.unmoved()
        assert cast.runtime.status(box) == "running"
        host.mount("small", disk, None, host.MS_REMOUNT, "size=64m")
        cast.supervised.wait(box).ok("0\n")
        want = "".join(f"{number + 1}\n" for number in range(LINES))
        host.eventually(lambda: os.path.getsize(f"{disk}/log") > len(want) and output_of(f"{disk}/log") == want, 10,
                        "the whole log")
        cast.rm(box).ok()


def test_a_full_disk_may_drop_and_the_log_says_how_much(stage, cast, work):
    box = cast.bundle().sh(f"seq {LINES}; read line < /gate/fifo; echo room again")
    os.mkdir(f"{work}/gate")
    os.mkfifo(f"{work}/gate/fifo")
    box.mount("/gate", f"{work}/gate", "bind", ["bind"])
    with small_disk(f"{work}/disk", "128k") as disk:
        cast.up(box, flags=("--log", f"cri,full=drop,path={disk}/log")).ok()
        stage.unmoved()
        host.mount("small", disk, None, host.MS_REMOUNT, "size=64m")
        with open(f"{work}/gate/fifo", "w", encoding="ascii") as fifo:
            fifo.write("go\n")
        cast.supervised.wait(box).ok("0\n")
        host.eventually(lambda: "room again" in host.read(f"{disk}/log"), what="the end of the log")
        text = host.read(f"{disk}/log")
        lost = sum(int(number) for number in re.findall(r"F:lost gantry: ([0-9]+) bytes", text))
        kept = output_of(f"{disk}/log")
        written = sum(len(str(number + 1)) + 1 for number in range(LINES)) + len("room again\n")
        assert lost > 0 and len(kept) + lost == written, (lost, len(kept), written)
        cast.rm(box).ok()


def test_a_flood(stage, cast):
    box = cast.bundle("yes", "a line that is written much too often by a program that is not well")

    def flood():
        cast.up(box, flags=("--log", "cri,size=1m,files=2")).ok()
        time.sleep(0.7)
        cast.rm(box).ok()
    stage.unmoved(flood)


def test_the_output_of_a_terminal(cast):
    box = cast.bundle().sh("tty; test -t 1 && test -t 2 && echo to stderr >&2; exit 3")
    box.process["terminal"] = True
    cast.up(box).ok()
    cast.supervised.wait(box).ok("3\n")
    host.eventually(lambda: "to stderr" in cast.supervised.log(box), what="the log")
    assert cast.supervised.log(box) == "/dev/pts/0\r\nto stderr\r\n"


def test_what_holds_the_output_after_the_end_does_not_hold_the_container(stage, cast):
    """Without a pid namespace a grandchild outlives init, with the pipes."""
    box = cast.bundle().sh("setsid sleep 1000 & echo going; exit 5").without_namespace("pid")
    cast.up(box).ok()
    begun = time.monotonic()
    cast.supervised.wait(box).ok("5\n")
    assert time.monotonic() - begun < 3
    host.eventually(lambda: cast.supervised.log(box) == "going\n", what="the log")
    host.eventually(lambda: cast.same("keeper's files", "supervisor's files"), what="the slot")


# --- clients ---------------------------------------------------------------------------------------------------------

def test_clients_that_send_garbage(stage, cast):
    path = cast.supervised.socket

    def garbage():
        for number in range(30):
            with Supervised.api(cast.supervised) as api:
                api.socket.sendall(bytes((number * 7 + i * 13) % 255 + 1 for i in range(5000)) + b"\0")
                assert api.receive()["error"]
                assert api.call("NoSuchMethod")["error"]
                assert api.call("Up")["error"]
                assert api.call("Status")["parameters"]
    stage.unmoved(garbage)

    def half():
        sockets = []
        for _ in range(20):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.sendall(b'{"method": "gantry.supervisor.Sta')
            sockets.append(client)
        time.sleep(0.3)
        for client in sockets:
            client.close()
    stage.unmoved(half)


def test_a_message_without_an_end(stage, cast):
    def endless_message():
        with cast.supervised.api() as api:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(32):
                    api.socket.sendall(b"x" * (1 << 16))
            with contextlib.suppress(ConnectionResetError):
                answer = api.receive()
                assert answer is None or "1048576" in answer["parameters"]["message"], answer
    stage.unmoved(endless_message)


def test_a_client_that_never_reads(stage, cast):
    """It asks until nobody takes its questions any more."""
    def deaf():
        with cast.supervised.api(timeout=0.3) as api:
            with pytest.raises(TimeoutError):
                while True:
                    for _ in range(100):
                        api.send("List")
            time.sleep(0.3)
    stage.unmoved(deaf)


def test_three_hundred_connections_that_say_nothing(stage, cast):
    def crowd():
        with contextlib.ExitStack() as all_of_them:
            for _ in range(300):
                all_of_them.enter_context(cast.supervised.api())
            box = cast.bundle("true")
            cast.up(box).ok()
            cast.rm(box).ok()
            time.sleep(0.3)
    stage.unmoved(crowd)


def test_descriptors_that_nobody_wants(stage, cast):
    def parcels():
        for count in (1, 2, 100):
            with cast.supervised.api() as api, contextlib.ExitStack() as files:
                fds = [files.enter_context(open("/dev/null", "rb")).fileno() for _ in range(count)]
                assert api.call("Status", fds)
                assert api.call("Up", fds, id="x", bundle="/x", rootfs="/x", restart="no", log="", netns="")["error"]
    stage.unmoved(parcels)


# --- what cannot start -----------------------------------------------------------------------------------------------

def spoil_missing_program(box):
    box.args("/no/such/program")
    return ("no such file",)


def spoil_hook(box):
    box.hook("createRuntime", "echo why >&2; exit 9")
    return ("createRuntime", "exit status 9", "why")


def spoil_container_hook(box):
    box.hook("createContainer", "exit 8")
    return ("createContainer", "exit status 8")


def spoil_start_hook(box):
    box.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    return ("startContainer",)


def spoil_poststart_hook(box):
    box.sh("sleep 1000").hook("poststart", "exit 7")
    return ("poststart",)


def spoil_hook_path(box):
    box.config["hooks"] = {"prestart": [{"path": "/no/such/hook"}]}
    return ("/no/such/hook",)


def spoil_uid(box):
    box.user_namespace(100000, 10)
    box.process["user"]["uid"] = 1000
    return ("uid",)


def spoil_mount(box):
    box.mount("/data", "/no/such/source", "bind", ["bind"])
    return ("/no/such/source",)


def spoil_cwd(box):
    box.process["cwd"] = "/etc/passwd"
    return ("/etc/passwd",)


@pytest.mark.parametrize("spoil", [spoil_missing_program, spoil_hook, spoil_container_hook, spoil_start_hook,
                                   spoil_poststart_hook, spoil_hook_path, spoil_uid, spoil_mount, spoil_cwd])
@pytest.mark.parametrize("policy", ["no", "always"])
def test_what_cannot_start_leaves_nothing(cast, spoil, policy):
    box = cast.bundle("true")
    texts = spoil(box)
    cast.up(box, flags=("--restart", policy)).fails(*texts).one_line()
    assert cast.supervised.status()["containers"] == cast.before["containers"]
    assert not os.path.exists(f"{cast.supervised.state_dir}/{box.id}")
    assert not os.path.exists(f"{cast.runtime.root}/{box.id}")
    assert not os.path.exists(box.cgroup("pids"))


# --- crash loops -----------------------------------------------------------------------------------------------------

def cpu_seconds(*pids):
    ticks = 0
    for pid in pids:
        fields = host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_a_crash_loop_backs_off(cast):
    box = cast.bundle().sh("echo again; exit 1")

    def starts():
        with open(f"{cast.supervised.state_dir}/{box.id}/container.log", "rb") as file:
            return [line.split(b" ")[0].decode() for line in file.read().splitlines()]
    cast.up(box, flags=("--restart", "always")).ok()
    host.eventually(lambda: len(starts()) >= 5, 6, "five starts")
    times = [int(text[14:16]) * 60 + float(text[17:29]) for text in starts()]
    pauses = [(b - a) % 3600 for a, b in zip(times, times[1:])]
    for pause, wanted in zip(pauses, (0.1, 0.2, 0.4, 0.8)):
        assert wanted * 0.95 <= pause <= wanted + 0.5, pauses
    cast.rm(box).ok()


def test_what_ends_and_what_is_removed_costs_nothing(cast):
    """Also when it is about to be started again."""
    ended, looping = cast.bundle().sh("echo done"), cast.bundle().sh("echo again")
    cast.up(ended).ok()
    cast.up(looping, flags=("--restart", "always")).ok()
    cast.supervised.wait(ended).ok("0\n")
    host.eventually(lambda: cast.same("keeper's files", "supervisor's files"), what="the descriptors of both")
    cast.rm(looping).ok()
