"""Logs on a file system that may not answer: a process of their own writes them, and what hangs stays among them."""
import os
import signal
import time

import pytest

from lib import host
from lib.slow import Slow
from test_handover import gone, holders, kill_keeper, nobody_is_left, terminate  # noqa: F401

MANY = 20000
FLOW = f"i=0; while [ $i -lt {MANY} ]; do echo line $i; i=$((i+1)); done"
TICKS = "i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.05; done"
EXPECTED = "".join(f"line {number}\n" for number in range(MANY))


@pytest.fixture
def slow(supervised, work, tool):
    """After `supervised`, so that it ends first: what hangs can be cleaned up then."""
    system = Slow(tool("slow_fuse"), work)
    yield system.begin()
    system.end()


def copiers(supervised, parent=None):
    return [pid for pid in host.children(parent or supervised.supervisor())
            if host.read(f"/proc/{pid}/comm") == "gantry-copier\n"]


def one_copier(supervised):
    return host.eventually(lambda: copiers(supervised), what="a log copier")[0]


def up(supervised, slow, box, options="cri", name="log", **spawn):
    return supervised.up(box, flags=("--log", f"{options},path={slow.point}/{name}"), **spawn)


def log(supervised, slow, box, name="log"):
    return supervised.log(box, f"{slow.behind}/{name}")


def in_order(text):
    """How many ticks there are, none missing and none twice."""
    lines = text.splitlines()
    assert lines == [f"tick {number}" for number in range(len(lines))], lines[-20:]
    return len(lines)


def test_exact_bytes_with_rotation(supervised, slow, bundle):
    supervised.begin()
    box = bundle().sh(f"{FLOW}; printf end")
    up(supervised, slow, box, "cri,size=20k,files=100", "deep/er/log").ok()
    supervised.wait(box).ok("0\n")
    host.eventually(lambda: log(supervised, slow, box, "deep/er/log") == EXPECTED + "end", what="all output")
    files = sorted(os.listdir(f"{slow.behind}/deep/er"))
    assert len(files) > 3 and files[:2] == ["log", "log.1"], files
    supervised.runtime.call("logs", box.id).ok(EXPECTED + "end")
    supervised.rm(box).ok()
    assert os.listdir(f"{slow.behind}/deep/er") == []


def test_one_process_for_all_logs_on_a_device_as_long_as_there_are_any(supervised, slow, bundle):
    supervised.begin()
    assert copiers(supervised) == []
    boxes = [bundle().sh(TICKS), bundle().sh(TICKS)]
    up(supervised, slow, boxes[0], name="a").ok()
    one = one_copier(supervised)
    up(supervised, slow, boxes[1], name="b").ok()
    assert copiers(supervised) == [one]
    status = dict(line.split(":\t", 1) for line in host.read(f"/proc/{one}/status").splitlines())
    assert status["Seccomp"] == "2" and status["FDSize"].strip() != "0"
    links = [os.readlink(f"/proc/{one}/fd/{fd}") for fd in os.listdir(f"/proc/{one}/fd")]
    assert not [link for link in links if "keeper" in link or "socket" in link and links.count(link) > 1], links
    supervised.rm("-f", boxes[0]).ok()
    time.sleep(1.5)
    assert copiers(supervised) == [one]
    supervised.rm("-f", boxes[1]).ok()
    host.eventually(lambda: copiers(supervised) == [], 5, "the end of the log copier")
    assert os.listdir(slow.behind) == []


def test_a_copier_that_nobody_needs_leaves_no_holder(supervised, slow, bundle):
    supervised.begin()
    box = bundle().sh(TICKS)
    up(supervised, slow, box).ok()
    one = one_copier(supervised)
    supervised.rm("-f", box).ok()
    assert copiers(supervised) == [one]
    terminate(supervised)
    assert holders() == []
    host.eventually(lambda: gone(one), what="the end of the log copier")


@pytest.mark.parametrize("whom", ["copier", "supervisor", "both"])
def test_kill_9_in_mid_flow(supervised, slow, bundle, whom):
    supervised.begin()
    box = bundle().sh("i=0; while [ ! -e /stop ]; do echo tick $i; i=$((i+1)); [ $((i % 10)) != 0 ] || usleep 500; "
                      "done; echo end $i; sleep 1000")
    up(supervised, slow, box, "cri,size=200k,files=100").ok()
    for turn in range(12):
        one = one_copier(supervised)
        time.sleep(0.05 + turn * 0.003)
        if turn % 2:
            slow.hang()  # in the middle of a batch
            time.sleep(0.02)
        if whom != "supervisor":
            os.kill(one, signal.SIGKILL)
        if whom != "copier":
            supervised.await_supervisor(supervised.kill_supervisor())
        slow.go()
        host.eventually(lambda: copiers(supervised) not in ([], [one]), what="another copier")
    open(f"{box.rootfs}/stop", "w").close()

    def whole():
        return log(supervised, slow, box).partition("end ")
    host.eventually(lambda: whole()[2].endswith("\n"), 20, "the end of the flow")
    ticks, _, end = whole()
    assert in_order(ticks) == int(end)
    supervised.rm("-f", box).ok()


def test_a_hung_server_refuses_up_by_name_and_nothing_is_left(supervised, slow, bundle):
    supervised.begin()
    box = bundle().sh("echo hi")
    slow.hang()
    begun = time.monotonic()
    up(supervised, slow, box, name="deep/log", timeout=15).fails(
        f"log {slow.point}/deep/log: fuse.slow at {slow.point} has not answered for 5 s").one_line()
    assert 4.5 < time.monotonic() - begun < 8
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}") and supervised.status()["containers"] == 0
    slow.go()
    host.eventually(lambda: copiers(supervised) == [], 5, "the end of the log copier")
    assert os.listdir(slow.behind) == []
    up(supervised, slow, box, name="deep/log").ok()
    supervised.wait(box).ok("0\n")
    host.eventually(lambda: log(supervised, slow, box, "deep/log") == "hi\n", what="output")


def test_a_server_that_hangs_when_the_log_is_opened(supervised, slow, bundle):
    """Where the log lies was asked before."""
    supervised.begin("--parallel", "1")
    first, box = bundle("true").hook("createRuntime", "sleep 1000"), bundle("true")
    calls = []
    for each, flags in ((first, ()), (box, ("--log", f"cri,path={slow.point}/log"))):
        each.write()
        supervised.runtime.track(each.id)
        calls.append(supervised.runtime.spawn("up", *flags, each.path))
        time.sleep(0.3)  # a place that nobody gives back is lent after a second
    slow.hang()
    supervised.runtime.finish(calls[1]).fails(
        f"log {slow.point}/log: fuse.slow at {slow.point} has not answered for 5 s")
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}")
    slow.go()
    host.eventually(lambda: copiers(supervised) == [], 5, "the end of the log copier")
    assert os.listdir(slow.behind) == []
    supervised.rm("-f", first).ok()
    supervised.runtime.finish(calls[0]).fails("stopped while it was being started")


@pytest.mark.parametrize("how", ["hang", "take"])
def test_while_a_server_hangs_stop_comes_back_and_then_nothing_is_lost(supervised, slow, bundle, how):
    supervised.begin()
    boxes = [bundle().sh(TICKS), bundle().sh(TICKS), bundle().sh("trap 'echo last words; exit 3' TERM; "
                                                                 "while :; do sleep 0.1; done")]
    for box in boxes:
        up(supervised, slow, box, name=box.id).ok()
    host.eventually(lambda: in_order(log(supervised, slow, boxes[0], boxes[0].id)) > 2, what="output")
    slow.hang(how)
    time.sleep(0.3)
    begun = time.monotonic()
    supervised.runtime.call("stop", boxes[2].id).ok()
    supervised.wait(boxes[2]).ok("3\n")
    assert time.monotonic() - begun < 4
    begun = time.monotonic()
    supervised.rm("-f", boxes[1], timeout=20).fails("removed, but its log stays",
                                                    f"fuse.slow at {slow.point} has not answered for 5 s").one_line()
    assert time.monotonic() - begun < 9
    assert supervised.status()["containers"] == 2
    assert supervised.rm(boxes[2], timeout=20).fails("has not answered for 5 s").code == 1
    supervised.rm("-f", boxes[1]).ok()
    slow.go()
    host.eventually(lambda: log(supervised, slow, boxes[2], boxes[2].id) == "last words\n", what="the last words")
    before = host.eventually(lambda: in_order(log(supervised, slow, boxes[0], boxes[0].id)), what="whole lines")
    host.eventually(lambda: in_order(log(supervised, slow, boxes[0], boxes[0].id)) > before + 20, what="more output")
    supervised.rm("-f", boxes[0], boxes[2]).ok()
    host.eventually(lambda: copiers(supervised) == [] and os.listdir(slow.behind) == [], 5, "the end of all")


@pytest.mark.parametrize("how", ["hang", "take"])
def test_without_a_supervisor_rm_comes_back_too(supervised, slow, bundle, how):
    supervised.begin()
    box = bundle().sh("echo hi")
    up(supervised, slow, box).ok()
    supervised.wait(box).ok("0\n")
    host.eventually(lambda: log(supervised, slow, box) == "hi\n", what="output")
    terminate(supervised)
    where = ("--state-dir", supervised.state_dir)
    slow.hang(how)
    text = f"log {slow.point}/log: fuse.slow at {slow.point} has not answered for 5 s"
    supervised.rm(*where, box, timeout=20).fails(text).one_line()
    call = supervised.runtime.spawn("rm", *where, "--force", box.id)
    time.sleep(1)
    supervised.runtime.finish(call, 20).fails(f"removed, but its log stays: {text}").one_line()
    assert not os.path.exists(f"{supervised.state_dir}/{box.id}")
    slow.go()
    supervised.rm(*where, "--force", box).ok()


@pytest.mark.parametrize("how", ["hang", "take"])
def test_a_supervisor_that_dies_while_a_server_hangs_costs_nothing(supervised, slow, bundle, how):
    """Its copier is killed, but one whose request was taken stays: its successor waits for its end."""
    supervised.begin()
    box, other = bundle().sh(TICKS), bundle().sh(TICKS)
    up(supervised, slow, box).ok()
    supervised.up(other).ok()
    host.eventually(lambda: in_order(log(supervised, slow, box)) > 2, what="output")
    slow.hang(how)
    time.sleep(0.3)
    former = one_copier(supervised)
    supervised.await_supervisor(supervised.kill_supervisor())
    if how == "take":
        assert former in copiers(supervised, supervised.keeper)
    before = host.eventually(lambda: in_order(supervised.log(other)), what="whole lines")
    host.eventually(lambda: in_order(supervised.log(other)) > before + 10, what="output of the other one")
    slow.go()
    before = host.eventually(lambda: in_order(log(supervised, slow, box)), what="whole lines")
    host.eventually(lambda: in_order(log(supervised, slow, box)) > before + 20, what="more output")
    supervised.rm("-f", box, other).ok()


def test_what_a_copier_was_asked_when_it_died_is_asked_again(supervised, slow, bundle):
    supervised.begin()
    box, late = bundle().sh(TICKS), bundle().sh("echo late")
    up(supervised, slow, box, name="a").ok()
    slow.hang()
    late.write()
    supervised.runtime.track(late.id)
    call = supervised.runtime.spawn("up", "--log", f"cri,path={slow.point}/b", late.path)
    time.sleep(0.5)
    os.kill(one_copier(supervised), signal.SIGKILL)
    time.sleep(0.5)
    slow.go()
    supervised.runtime.finish(call).ok()
    supervised.wait(late).ok("0\n")
    host.eventually(lambda: log(supervised, slow, late, "b") == "late\n", what="output")
    before = host.eventually(lambda: in_order(log(supervised, slow, box, "a")), what="whole lines")
    host.eventually(lambda: in_order(log(supervised, slow, box, "a")) > before + 10, what="more output")
    supervised.rm("-f", box, late).ok()


@pytest.mark.parametrize("how", ["go", "hang", "take"])
@pytest.mark.parametrize("end", ["killed", "told to end"])
def test_the_next_keeper_goes_on(supervised, slow, bundle, end, how):
    supervised.begin()
    box = bundle().sh(TICKS)
    up(supervised, slow, box, "cri,size=1k,files=100").ok()
    host.eventually(lambda: in_order(log(supervised, slow, box)) > 20, what="output")
    slow.hang(how)
    time.sleep(0.2)
    if end == "killed":
        orphan = kill_keeper(supervised)
        supervised.begin()
        host.eventually(lambda: gone(orphan), what="the end of the orphan")
    else:
        terminate(supervised)
        supervised.begin()
    slow.go()
    before = host.eventually(lambda: in_order(log(supervised, slow, box)), what="whole lines")
    host.eventually(lambda: in_order(log(supervised, slow, box)) > before + 20, what="more output")
    assert "is lost" not in host.read(supervised.errors)
    supervised.rm("-f", box).ok()


def journal(pid):
    """Which memory file a copier's journal is."""
    fds = [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
    return [os.stat(fd).st_ino for fd in fds if os.readlink(fd).startswith("/memfd:")]


def test_a_definition_that_cannot_be_read_for_a_while_keeps_its_device(supervised, slow, bundle):
    """The journal is held as long as the run is, over supervisors that know neither, and the log goes on with it."""
    supervised.begin()
    box = bundle().sh(TICKS)
    up(supervised, slow, box).ok()
    before = journal(one_copier(supervised))
    assert len(before) == 1
    path = f"{supervised.state_dir}/{box.id}/definition.json"
    os.rename(path, f"{supervised.work}/definition")
    with open(path, "w", encoding="ascii") as damaged:
        damaged.write("{")
    for _ in range(2):
        former = supervised.supervisor()
        os.kill(former, signal.SIGHUP)
        supervised.await_supervisor(former)
    os.rename(f"{supervised.work}/definition", path)
    former = supervised.supervisor()
    os.kill(former, signal.SIGHUP)
    supervised.await_supervisor(former)
    assert journal(one_copier(supervised)) == before
    seen = len(log(supervised, slow, box))
    host.eventually(lambda: len(log(supervised, slow, box)) > seen, what="more of it")
    supervised.rm("-f", box).ok()


def test_a_server_that_fails_is_tried_again(supervised, slow, bundle):
    supervised.begin()
    box = bundle().sh(TICKS)
    up(supervised, slow, box).ok()
    host.eventually(lambda: in_order(log(supervised, slow, box)) > 2, what="output")
    slow.fail()
    time.sleep(0.5)
    slow.go()
    before = host.eventually(lambda: in_order(log(supervised, slow, box)), what="whole lines")
    host.eventually(lambda: in_order(log(supervised, slow, box)) > before + 20, what="more output")
    supervised.rm("-f", box).ok()


def test_a_server_that_was_replaced_is_found_again(supervised, slow, bundle):
    supervised.begin()
    box = bundle().sh("echo first; while [ ! -e /go ]; do sleep 0.1; done; echo second; sleep 1000")
    up(supervised, slow, box).ok()
    host.eventually(lambda: log(supervised, slow, box) == "first\n", what="output")
    slow.end()
    slow.begin()
    open(f"{box.rootfs}/go", "w").close()
    host.eventually(lambda: log(supervised, slow, box) == "first\nsecond\n", what="more output")
    supervised.rm("-f", box).ok()


def test_logs_there_meet_as_they_do_elsewhere(supervised, slow, bundle):
    supervised.begin()
    first, second = bundle().sh("sleep 1000"), bundle().sh("true")
    up(supervised, slow, first, "cri,files=3").ok()
    os.symlink(slow.point, f"{supervised.work}/link")

    def refused():
        up(supervised, slow, second).fails(f"is the log of container {first.id}: give each").one_line()
        for name, text in (("log", "is the log of"), ("log.2", "is what the log of")):
            supervised.up(second, flags=("--log", f"cri,path={supervised.work}/link/{name}")).fails(text, first.id)
    refused()
    supervised.await_supervisor(supervised.kill_supervisor())
    refused()
    up(supervised, slow, second, name="log.3").ok()
    supervised.rm("-f", first, second).ok()


def test_a_moved_log_is_opened_anew(supervised, slow, bundle):
    supervised.begin()
    box = bundle().sh(TICKS)
    up(supervised, slow, box).ok()
    host.eventually(lambda: in_order(log(supervised, slow, box)) > 2, what="output")
    os.rename(f"{slow.point}/log", f"{slow.point}/moved")
    supervised.runtime.call("logs", "--reopen", box.id).ok()
    host.eventually(lambda: os.path.exists(f"{slow.behind}/log"), what="a new file")

    def both():
        return log(supervised, slow, box, "moved") + log(supervised, slow, box)
    before = host.eventually(lambda: in_order(both()), what="whole lines")
    host.eventually(lambda: in_order(both()) > before + 10, what="more output")
    supervised.rm("-f", box).ok()
