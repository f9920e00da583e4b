"""A supervisor whose keeper has gone, killed or told to end, and the next one that takes everything over."""
import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from lib import host
from lib.supervised import command_of
from test_supervise import first_difference

STORM_HANDOVERS = int(os.environ.get("GANTRY_STORM_HANDOVERS", "6"))
PSS_KIB = 96
MANY = int(os.environ.get("GANTRY_HANDOVER_CONTAINERS", "20"))
LINES = 600
PAUSE_US = 4000 * max(1, MANY // 20)


def comm(pid):
    try:
        return host.read(f"/proc/{pid}/comm").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def holders():
    """Holders whose keepers have ended come to us, the subreaper."""
    return [pid for pid in host.children(os.getpid()) if comm(pid) == "gantry-holder"]


def orphans():
    return [pid for pid in host.children(os.getpid()) if "--under-keeper" in command_of(pid)]


def gone(pid):
    """A child of ours that we have not started, when it has ended."""
    host.reap_containers()
    return not os.path.exists(f"/proc/{pid}")


@pytest.fixture(autouse=True)
def nobody_is_left(runtime):  # torn down behind `supervised`
    yield
    for pid in host.children():
        words = command_of(pid)
        if "--under-keeper" in words or words[:2] == ["gantry-init", "keeper"]:
            os.kill(pid, signal.SIGKILL)
            host.eventually(lambda p=pid: gone(p), what="the end of who was left")


def numbered(bundle, number, lines=LINES):
    return bundle().sh(f"i=0; while [ $i -lt {lines} ]; do echo {number} $i; i=$((i+1)); usleep {PAUSE_US}; done; "
                       f"exit {number % 100 + 1}")


def check_logs(it, boxes, lines=LINES):
    for number, box in enumerate(boxes):
        want = "".join(f"{number} {i}\n" for i in range(lines))
        host.eventually(lambda b=box, w=want: len(it.log(b)) >= len(w), 20, "the whole log")
        assert it.log(box) == want, (first_difference(it.log(box), want), host.read(it.errors))


def wait_codes(it, boxes):
    return it.wait(*boxes, timeout=60).ok().out.split()


def kill_keeper(it):
    """Its supervisor, an orphan now."""
    former = it.supervisor()
    it.process.kill()
    it.process.wait()
    host.eventually(lambda: former in orphans(), what="the orphan")
    return former


def terminate(it, signo=signal.SIGTERM):
    it.process.send_signal(signo)
    assert it.process.wait(10) == 0, host.read(it.errors)


def pids(it, boxes):
    found = {entry["id"]: entry["pid"] for entry in json.loads(it.runtime.call("list", "--format", "json").ok().out)}
    return [found[box.id] for box in boxes]


def check_same(it, boxes, running):
    """No run is another one than before; it may have ended."""
    assert all(now in (0, before) for now, before in zip(pids(it, boxes), running))


def test_killed_keeper_then_the_next_takes_everything_over(supervised, bundle):
    it = supervised.begin()
    boxes = [numbered(bundle, number) for number in range(MANY)]
    it.up(*boxes, timeout=60).ok()
    running = pids(it, boxes)
    waiting = it.runtime.spawn("wait", *[box.id for box in boxes])
    orphan = kill_keeper(it)
    it.up(bundle().sh("true")).fails("the keeper is gone", "gantry supervise").one_line()
    before = len(it.log(boxes[0]))
    host.eventually(lambda: len(it.log(boxes[0])) > before, what="output that goes on")
    it.begin()
    assert it.supervisor() != orphan
    host.eventually(lambda: gone(orphan), what="the end of the orphan")
    check_same(it, boxes, running)
    assert it.runtime.finish(waiting, 60).ok().out.split() == [str(number % 100 + 1) for number in range(MANY)]
    check_logs(it, boxes)
    again = bundle().sh("echo again; exit 3")
    it.up(again).ok()
    assert wait_codes(it, [again]) == ["3"]


def test_without_a_keeper_verbs_work_and_restarts_wait(supervised, bundle):
    it = supervised.begin()
    loop = "trap 'exit 4' TERM; while :; do sleep 0.05; done"
    stopped, killed, paused, removed, entered = boxes = [bundle().sh(loop) for _ in range(5)]
    failing = bundle().sh("trap 'exit 9' USR1; while :; do sleep 0.05; done")
    waits = bundle().sh("exit 1")
    it.up(*boxes, timeout=60).ok()
    it.up(failing, waits, flags=("--restart", "always")).ok()
    kill_keeper(it)
    call = it.runtime.call
    call("stop", stopped.id).ok()
    call("kill", killed.id, "TERM").ok()
    assert wait_codes(it, [stopped, killed]) == ["4", "4"]
    call("pause", paused.id).ok()
    assert it.runtime.status(paused) == "paused"
    call("resume", paused.id).ok()
    call("exec", entered.id, "true").ok()
    call("rm", "--force", removed.id).ok()
    call("kill", failing.id, "USR1").ok()
    host.eventually(lambda: it.definition(failing)["restarts"] == 1, what="a restart that is due")
    call("stop", waits.id).ok()
    time.sleep(1.0)  # long enough for a back-off that should not happen
    assert it.definition(failing)["restarts"] == 1
    it.begin()
    host.eventually(lambda: it.runtime.status(failing) == "running", what="the restart")
    assert it.definition(failing)["restarts"] == 1
    assert it.runtime.status(paused) == it.runtime.status(entered) == "running"
    assert it.runtime.status(waits) == it.runtime.status(stopped) == "stopped"


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_containers_live_on_and_write_until_the_next_supervisor(supervised, bundle, signo):
    it = supervised.begin()
    boxes = [numbered(bundle, number) for number in range(MANY)]
    brief = bundle().sh("sleep 0.5; echo over; exit 33")
    it.up(*boxes, brief, timeout=60).ok()
    running = pids(it, boxes)
    terminate(it, signo)
    (holder,) = host.eventually(holders, what="the holder")
    assert os.getsid(holder) == holder and os.readlink(f"/proc/{holder}/cwd") == "/"
    kib = {key: int(value.split()[0]) for key, _, value in
           (line.partition(":") for line in host.read(f"/proc/{holder}/smaps_rollup").splitlines()[1:]) if value}
    assert kib["Pss"] < PSS_KIB
    it.up(bundle().sh("true")).fails("no supervisor is running")
    host.eventually(lambda: it.runtime.status(brief) == "stopped", what="an end that nobody sees")
    it.begin()
    host.eventually(lambda: gone(holder), what="the end of the holder")
    check_same(it, boxes, running)
    assert wait_codes(it, [*boxes, brief]) == [*(str(number % 100 + 1) for number in range(MANY)), "33"]
    check_logs(it, boxes)
    assert it.log(brief) == "over\n"


def test_nothing_is_held_when_nothing_runs(supervised, bundle):
    it = supervised.begin()
    box = bundle().sh("exit 2")
    it.up(box).ok()
    it.wait(box).ok("2\n")
    time.sleep(0.1)  # its output comes home
    terminate(it)
    assert not holders()


def test_stop_on_exit_stops_and_the_next_starts_what_should_run(supervised, bundle):
    it = supervised.begin("--stop-on-exit")
    loop = "echo here; trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"
    always, once = bundle().sh(loop), bundle().sh(loop)
    it.up(always, flags=("--restart", "always")).ok()
    it.up(once).ok()
    host.eventually(lambda: it.log(always) == it.log(once) == "here\n", what="output")
    terminate(it)
    assert not holders()
    assert it.runtime.status(always) == it.runtime.status(once) == "stopped"
    assert it.log(once) == it.log(always) == "here\nbye\n"
    it.begin()
    host.eventually(lambda: it.runtime.status(always) == "running", what="the restart")
    assert it.runtime.status(once) == "stopped"
    it.wait(once).ok("0\n")
    host.eventually(lambda: it.log(always) == "here\nbye\nhere\n", what="output")


def test_a_new_program_takes_over_from_the_same_path(supervised, bundle, work):
    copy = f"{work}/gantry"
    shutil.copy(supervised.runtime.program, copy)
    supervised.runtime.program = copy
    it = supervised.begin()
    boxes = [numbered(bundle, number) for number in range(MANY)]
    it.up(*boxes, timeout=60).ok()
    running = pids(it, boxes)
    former = it.supervisor()
    old = os.stat(f"/proc/{former}/exe").st_ino
    shutil.copy(copy, f"{copy}.new")
    os.rename(f"{copy}.new", copy)
    start = time.monotonic()
    it.process.send_signal(signal.SIGHUP)
    it.await_supervisor(former)
    print(f"SIGHUP with {MANY} containers: back after {(time.monotonic() - start) * 1000:.0f} ms")
    assert time.monotonic() - start < 2
    assert os.stat(f"/proc/{it.supervisor()}/exe").st_ino == os.stat(copy).st_ino != old
    check_same(it, boxes, running)
    assert wait_codes(it, boxes) == [str(number % 100 + 1) for number in range(MANY)]
    check_logs(it, boxes)


def test_keeper_killed_in_the_middle_of_starts(supervised, bundle):
    it = supervised.begin("--parallel", "3")
    loop = "while :; do sleep 0.05; done"
    restarted = [bundle().sh("exit 1") for _ in range(3)]
    it.up(*restarted, flags=("--restart", "always")).ok()
    boxes = [bundle().sh(loop) for _ in range(12)]
    for box in boxes:
        box.write()
        it.runtime.track(box.id)
    starting = [it.runtime.spawn("up", box.path) for box in boxes]
    host.eventually(lambda: it.runtime.status(boxes[0]) == "running", what="the first")
    kill_keeper(it)
    # What was in the middle of it when the keeper went waits for its limits, one after the other.
    results = [it.runtime.finish(one, timeout=45) for one in starting]
    failures = [it.definition(box)["failures"] for box in restarted]
    it.begin()
    for box, result in zip(boxes, results):
        if result.code == 0:
            assert it.runtime.status(box) == "running"
            continue
        result.one_line()
        it.up(box).ok()
    for box, before in zip(restarted, failures):
        host.eventually(lambda b=box, n=before: it.definition(b)["failures"] > n, 20, "the next restart")
        assert not it.definition(box)["quarantined"]


@pytest.mark.parametrize("before", range(0, 64, 7))
def test_an_up_that_comes_together_with_the_end_of_the_keeper_is_refused(supervised, bundle, work, before):
    """It must not wait for a keeper that may never come, as a restart does. What the keeper has said `before` is taken
    first, so that the end comes while the calls are at different points."""
    it = supervised.begin()
    os.mkdir(f"{work}/gate")
    os.mkfifo(f"{work}/gate/fifo")
    strangers = bundle().sh("i=0; while [ $i -lt 63 ]; do (read x < /gate/fifo) & i=$((i+1)); done")
    strangers.without_namespace("pid").mount("/gate", f"{work}/gate", "bind", ["bind"])
    it.up(strangers).ok()
    it.wait(strangers).ok("0\n")
    host.eventually(lambda: len(host.children(it.keeper)) == 64, what="strangers that the keeper reaps")
    boxes = [bundle("true") for _ in range(8)]
    with contextlib.ExitStack() as files:
        apis = [files.enter_context(it.api()) for _ in boxes]
        assert all(api.call("Status")["parameters"] for api in apis)
        orphan = it.supervisor()
        os.kill(orphan, signal.SIGSTOP)  # so that it sees all at once: first the calls, then the end
        try:
            for box, api in zip(boxes, apis):
                box.write()
                it.runtime.track(box.id)
                config = files.enter_context(open(f"{box.path}/config.json", "rb"))
                api.send("Up", [config.fileno()], id=box.id, bundle=box.path, rootfs=box.rootfs, restart="no", log="",
                         netns="")
            with open(f"{work}/gate/fifo", "r+b", buffering=0) as gate:
                gate.write(b"\n" * before)
                host.eventually(lambda: len(host.children(it.keeper)) == 64 - before, what="their ends")
            kill_keeper(it)
        finally:
            os.kill(orphan, signal.SIGCONT)
        for api in apis:
            answer = api.receive()
            assert "the keeper is gone" in answer["parameters"].get("message", ""), answer
    assert [entry["id"] for entry in it.listing()] == os.listdir(it.state_dir) == [strangers.id]


def start_two(it):
    with open(it.errors, "ab") as errors:
        return [subprocess.Popen([it.runtime.program, "--root", it.runtime.root, "supervise", "--state-dir",
                                  it.state_dir], stdin=subprocess.DEVNULL, stdout=errors, stderr=subprocess.PIPE,
                                 env=it.runtime.environment(None)) for _ in range(2)]


@pytest.mark.parametrize("how", ["orphan", "holder", "nothing"])
def test_of_two_that_start_at_once_one_wins(supervised, bundle, how):
    it = supervised.begin()
    box = numbered(bundle, 0, 500)
    it.up(box).ok()
    running = pids(it, [box])
    if how == "orphan":
        kill_keeper(it)
    elif how == "holder":
        terminate(it)
    else:
        it.runtime.call("rm", "-f", box.id).ok()
        terminate(it)
    two = start_two(it)
    lost = host.eventually(lambda: [one for one in two if one.poll() is not None], 30, "the end of one")
    assert len(lost) == 1
    loser, (winner,) = lost[0], [one for one in two if one not in lost]
    assert loser.returncode == 1
    # Which it is depends on whether the winner has its socket yet.
    text = loser.stderr.read().decode()
    assert "a supervisor is already running" in text or "is in use by another supervisor" in text, text
    it.process = winner
    it.await_supervisor(0)
    host.eventually(lambda: not orphans() and not holders(), what="the end of who gave")
    assert winner.poll() is None
    if how != "nothing":
        check_same(it, [box], running)
        assert wait_codes(it, [box]) == ["1"]
        check_logs(it, [box], 500)
    winner.stderr.close()
    loser.stderr.close()


def knock(path, *messages, uid=None):
    """What a stranger gets: the errno of the refusal, 0 when it is nothing but the end."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            knocking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if uid is not None:
                os.setresuid(uid, uid, uid)
            knocking.connect(path)
            knocking.settimeout(5)
            for message in messages:
                with contextlib.suppress(BrokenPipeError):  # refused already; why can be read
                    knocking.send(message)
            answer, fds, _, _ = socket.recv_fds(knocking, 4096, 8)
            err = struct.unpack_from("=IHHIIIIi", answer)[7] if answer else 0
            os.write(writer, f"{err} {len(fds)}".encode())
        except OSError as error:
            os.write(writer, f"-{error.errno} 0".encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, encoding="ascii") as answer:
        return tuple(int(word) for word in answer.read().split())


PLEASE = struct.pack("=IHHIIIIiiii4xqq", 0x46504B47, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)[:56]


@pytest.mark.parametrize("who", ["orphan", "holder"])
def test_strangers_and_garbage_get_nothing(supervised, bundle, who):
    it = supervised.begin()
    box = numbered(bundle, 0, 400)
    it.up(box).ok()
    path = f"{it.socket}.handover"
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert knock(path, PLEASE) == (errno.EBUSY, 0)
    if who == "orphan":
        kill_keeper(it)
    else:
        terminate(it)
    assert knock(path, PLEASE, uid=65534) == (-errno.EACCES, 0)
    os.chmod(path, 0o666)
    os.chmod(os.path.dirname(path), 0o755)
    os.chmod(it.runtime.root, 0o755)
    reached = knock(path, PLEASE, uid=65534)
    assert reached in ((errno.EPERM, 0), (-errno.EACCES, 0), (-errno.ECONNRESET, 0))
    for garbage in (b"", b"x", b"\0" * 56, b"\xff" * 4000, PLEASE[:-1], PLEASE + b"\0",
                    PLEASE[:4] + struct.pack("=H", 35) + PLEASE[6:]):
        assert knock(path, garbage)[1] == 0
    idle = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    idle.connect(path)
    it.begin()
    idle.close()
    assert wait_codes(it, [box]) == ["1"]
    check_logs(it, [box], 400)


def test_a_taker_that_dies_in_the_middle_costs_nothing(supervised, bundle):
    it = supervised.begin()
    box = numbered(bundle, 0, 500)
    it.up(box).ok()
    kill_keeper(it)
    path = f"{it.socket}.handover"
    _, fds = knock(path, PLEASE)  # takes the table, and hangs up
    assert fds == 1
    (holder,) = host.eventually(holders, what="the holder")
    assert knock(path, PLEASE)[1] == 1
    it.begin()
    host.eventually(lambda: gone(holder), what="the end of the holder")
    assert wait_codes(it, [box]) == ["1"]
    check_logs(it, [box], 500)


@contextlib.contextmanager
def recovery_waits(it):
    """A supervisor that starts meanwhile does not get further than to its definitions, and goes on at the end."""
    directory = os.open(it.state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


@pytest.mark.parametrize("new", [False, True], ids=["successor", "first"])
def test_a_supervisor_that_loses_its_keeper_while_it_starts_goes_on(supervised, bundle, new):
    it = supervised.begin()
    box = bundle().sh("while :; do sleep 0.05; done")
    it.up(box).ok()
    running = pids(it, [box])
    it.process.send_signal(signal.SIGSTOP)
    former = it.kill_supervisor()
    if new:  # which finds a container that no keeper has
        it.process.kill()
        it.process.wait()
        with open(it.errors, "ab") as errors:
            it.process = subprocess.Popen(
                [it.runtime.program, "--root", it.runtime.root, "supervise", "--state-dir", it.state_dir],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=it.runtime.environment(None))
        orphan = 0
        while orphan == 0:
            orphan = it.supervisor()
        os.kill(orphan, signal.SIGSTOP)  # long before it has come so far
        it.process.kill()
        it.process.wait()
        os.kill(orphan, signal.SIGCONT)
    else:
        with recovery_waits(it):
            it.process.send_signal(signal.SIGCONT)
            orphan = host.eventually(lambda: it.supervisor() not in (0, former) and it.supervisor(),
                                     what="a supervisor")
            it.process.kill()
            it.process.wait()
    host.eventually(lambda: it.listing()[0]["pid"] == running[0], what="answers")
    assert orphan in orphans()
    it.begin()
    assert pids(it, [box]) == running
    it.runtime.call("stop", "--time", "0", box.id).ok()


def test_an_orphan_that_is_told_to_end_leaves_a_holder(supervised, bundle):
    it = supervised.begin()
    box = numbered(bundle, 0, 500)
    it.up(box).ok()
    orphan = kill_keeper(it)
    os.kill(orphan, signal.SIGHUP)
    time.sleep(0.1)
    assert orphan in orphans()
    os.kill(orphan, signal.SIGTERM)
    host.eventually(lambda: holders() == [orphan], what="the holder")
    it.begin()
    assert wait_codes(it, [box]) == ["1"]
    check_logs(it, [box], 500)


def test_a_storm_of_handovers_loses_nothing(supervised, bundle):
    """Keepers killed and told to end, in turn, while containers write, end and are started again."""
    it = supervised.begin()
    boxes = [numbered(bundle, number) for number in range(12)]
    it.up(*boxes, flags=("--restart", "on-failure:1"), timeout=60).ok()
    for number in range(STORM_HANDOVERS):
        if number % 2 == 0:
            kill_keeper(it)
        else:
            terminate(it)
        it.begin()
        host.reap_containers()
    assert wait_codes(it, boxes) == [str(number % 100 + 1) for number in range(12)]
    for number, box in enumerate(boxes):
        want = "".join(f"{number} {i}\n" for i in range(LINES)) * 2
        host.eventually(lambda b=box, w=want: len(it.log(b)) >= len(w), 20, "the whole log")
        assert it.log(box) == want, (first_difference(it.log(box), want), host.read(it.errors))
        assert it.definition(box)["restarts"] == 1
