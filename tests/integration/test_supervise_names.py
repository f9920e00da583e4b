"""Two that want the same name at once: one id is one container, its end is told to nobody else, and nothing half is left
of it."""
import os
import resource
import shutil
import signal

import pytest

from lib import host
from lib.inject import Injected
from lib.player import rewrite
from test_supervise_clients import connections


@pytest.fixture
def gate(work):
    path = f"{work}/gate"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR)
    yield lambda word: os.write(fd, f"{word}\n".encode())
    os.close(fd)


def nothing_is_left(supervised, box):
    return not any(map(os.path.exists, (f"{supervised.state_dir}/{box.id}", f"{supervised.runtime.root}/{box.id}",
                                        box.cgroup("pids"))))


# --- rm --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [(), ("--force",)], ids=["plain", "force"])
def test_who_removes_what_another_is_removing_waits_and_finds_it_gone(supervised, bundle, work, gate, flags):
    supervised.begin()
    box = bundle().sh("echo words").hook("poststop", f"echo > {work}/removing; read word < {work}/gate")
    supervised.up(box).ok()
    supervised.wait(box).ok("0\n")
    first = supervised.runtime.spawn("rm", box.id)
    host.eventually(lambda: os.path.exists(f"{work}/removing"), what="a removal under way")
    second = supervised.runtime.spawn("rm", *flags, box.id)
    host.eventually(lambda: connections(supervised) == 2, what="the other one")
    supervised.up(box).fails("already exists").one_line()
    assert first.poll() is None and second.poll() is None
    gate("go")
    supervised.runtime.finish(first).ok("")
    second = supervised.runtime.finish(second)
    if flags:
        second.ok("")
    else:
        second.fails(f"{box.id}: container does not exist").one_line()
    assert nothing_is_left(supervised, box)
    supervised.up(box).ok()
    gate("go")
    supervised.rm("--force", box).ok()
    assert nothing_is_left(supervised, box)


@pytest.mark.parametrize("verb", [("rm",), ("delete",), ("delete", "--force")], ids=" ".join)
def test_who_removes_asks_the_next_supervisor(supervised, bundle, work, verb):
    supervised.begin()
    box = bundle("true").hook("poststop", f"echo > {work}/removing; until test -e {work}/over; do sleep 0.05; done")
    supervised.up(box).ok()
    supervised.wait(box).ok("0\n")
    call = supervised.runtime.spawn(*verb, box.id)
    host.eventually(lambda: os.path.exists(f"{work}/removing"), what="a removal under way")
    supervised.await_supervisor(supervised.kill_supervisor())
    open(f"{work}/over", "wb").close()
    supervised.runtime.finish(call).ok("")
    assert nothing_is_left(supervised, box)


def test_removals_that_a_reload_cuts_short_are_done_by_the_next_supervisor(supervised, bundle, work):
    """Who waits for another's removal must not be told that it is done when that one was cut short."""
    supervised.begin()
    box = bundle().sh("seq 100000")
    definition = f"{supervised.state_dir}/{box.id}/definition.json"
    with host.small_disk(f"{work}/small", "64k") as small:
        supervised.up(box, flags=("--log", f"cri,path={small}/log")).ok()
        host.eventually(lambda: os.statvfs(small).f_bavail == 0, what="a log that takes no more")
        supervised.runtime.call("kill", box.id, "KILL").ok()
        supervised.wait(box).ok("137\n")
        two = [supervised.runtime.spawn("rm", "--keep-log", box.id) for _ in range(2)]  # wait for room
        host.eventually(lambda: connections(supervised) == 2, what="two removals")
        former = supervised.supervisor()
        files = resource.prlimit(supervised.keeper, resource.RLIMIT_NOFILE)
        resource.prlimit(supervised.keeper, resource.RLIMIT_NOFILE, (8, files[1]))  # it cannot start another supervisor
        try:
            os.kill(former, signal.SIGHUP)
            host.eventually(lambda: not host.alive(former), what="the end of the supervisor")
            host.eventually(lambda: connections(supervised, "02") == 2, what="two that ask again")
            assert os.path.exists(definition) and all(call.poll() is None for call in two)
        finally:
            resource.prlimit(supervised.keeper, resource.RLIMIT_NOFILE, files)
        host.mount("small", small, None, host.MS_REMOUNT, "size=64m")
        for call in two:
            supervised.runtime.finish(call).ok("")  # whoever asks again cannot know who has done it
        assert not os.path.exists(definition) and not os.path.exists(f"{supervised.runtime.root}/{box.id}")


@pytest.mark.parametrize("who", ["supervisor", "nobody"])
def test_of_two_that_remove_many_each_removes_what_the_other_does_not(supervised, bundle, who):
    supervised.begin()
    boxes = [bundle("true") for _ in range(12)]
    supervised.up(*boxes).ok()
    supervised.wait(*boxes).ok("0\n" * len(boxes))
    ids = [box.id for box in boxes]
    if who == "nobody":
        former = supervised.supervisor()
        for pid in (supervised.keeper, former):
            os.kill(pid, signal.SIGKILL)
        supervised.process.wait()
        host.eventually(lambda: not os.path.exists(f"/proc/{former}"), what="the end of the supervisor")
        for box in boxes[::2]:  # as after a reboot: there is only the definition
            shutil.rmtree(f"{supervised.runtime.root}/{box.id}")
            host.purge_cgroups(box.id)
    words = ("rm", "--state-dir", supervised.state_dir)
    two = [supervised.runtime.spawn(*words, *ids), supervised.runtime.spawn(*words, *ids[::-1])]
    failed = []
    for call in two:
        result = supervised.runtime.finish(call)
        failed += result.logs("error")
        assert result.code == (1 if result.logs("error") else 0)
    assert sorted(failed) == sorted(f"{name}: container does not exist" for name in ids)
    assert all(nothing_is_left(supervised, box) for box in boxes)
    assert os.listdir(supervised.state_dir) == []


# --- keys ------------------------------------------------------------------------------------------------------------

def test_each_container_has_a_key_of_its_own(supervised, bundle, work):
    """Also when chance gives the same number twice: the keeper knows runs by it."""
    supervised.begin()
    one, two = (bundle().sh("while :; do sleep 0.05; done") for _ in range(2))
    with Injected(supervised.supervisor(), "getrandom:poke_exit=@arg1=2a000000:when=1..2", work) as injected:
        supervised.up(one).ok()
        supervised.up(two).ok()
    assert injected.text.count("getrandom(") == 3, injected.text
    keys = [supervised.definition(box)["key"] for box in (one, two)]
    assert keys[0] == 42 and keys[1] not in (0, 42)
    pids = [supervised.runtime.state(box)["pid"] for box in (one, two)]
    supervised.await_supervisor(supervised.kill_supervisor())
    assert [supervised.runtime.state(box)["pid"] for box in (one, two)] == pids
    supervised.rm("--force", one).ok()
    supervised.up(one).ok()
    assert supervised.definition(one)["key"] not in (0, *keys)
    assert [entry["pid"] for entry in supervised.listing()].count(pids[1]) == 1


def test_the_end_of_a_removed_container_is_not_that_of_its_namesake(supervised, bundle):
    """The old definition was removed behind everybody's back: its run is still held, and ends while nobody looks."""
    supervised.begin()
    box = bundle().sh("while :; do sleep 0.05; done")
    supervised.up(box).ok()
    old = supervised.runtime.state(box)["pid"]
    os.kill(supervised.keeper, signal.SIGSTOP)
    try:
        former = supervised.kill_supervisor()
        path = f"{supervised.state_dir}/{box.id}/definition.json"
        key = supervised.definition(box)["key"]
        rewrite(path, key=key % 0xffffffff + 1)  # all else is as `up` writes it
        os.kill(old, signal.SIGKILL)
    finally:
        os.kill(supervised.keeper, signal.SIGCONT)
    supervised.await_supervisor(former)
    host.eventually(lambda: supervised.runtime.status(box) == "running", what="its own run")
    assert supervised.runtime.state(box)["pid"] != old
    now = supervised.definition(box)
    assert (now["run"], now["last_run"], now["exit"]["known"], now["failures"]) == (1, 0, False, 0)
    # The old run is not held any more, and its place serves others.
    assert supervised.status()["running"] == 1
    supervised.runtime.call("stop", "--time", "0", box.id).ok()
    supervised.wait(box).ok("137\n")
    supervised.rm(box).ok()
    assert nothing_is_left(supervised, box)


# --- up --------------------------------------------------------------------------------------------------------------

def hang_up(supervised, call):
    call.kill()
    call.wait()
    supervised.runtime.running.pop(call.pid)
    host.eventually(lambda: connections(supervised) == 0, what="a closed connection")


def begin_up(supervised, box, *flags):
    box.write()
    supervised.runtime.track(box.id)
    return supervised.runtime.spawn("up", *flags, box.path)


@pytest.mark.parametrize("policy", ["no", "always"])
def test_an_up_whose_client_is_gone_goes_on(supervised, bundle, work, gate, policy):
    supervised.begin()
    box = bundle().sh("echo here; while :; do sleep 0.05; done")
    box.hook("createRuntime", f"echo > {work}/begun; read word < {work}/gate")
    call = begin_up(supervised, box, "--restart", policy)
    host.eventually(lambda: os.path.exists(f"{work}/begun"), what="a start under way")
    hang_up(supervised, call)
    supervised.up(box).fails(f"{box.id}: container with given ID already exists").one_line()
    gate("go")
    host.eventually(lambda: supervised.log(box) == "here\n", what="its output")
    supervised.up(box).fails(f"{box.id}: container with given ID already exists").one_line()
    (entry,) = supervised.listing()
    assert entry["pid"] == supervised.runtime.state(box)["pid"] and entry["restarts"] == 0


def test_an_up_that_fails_after_its_client_is_gone_leaves_nothing(supervised, bundle, work, gate):
    supervised.begin()
    box = bundle().sh("echo here; exit 5")
    box.hook("createRuntime", f"echo >> {work}/begun; read word < {work}/gate; test $word = go")
    hang_up(supervised, begun(supervised, box, work, 1))
    gate("fail")
    host.eventually(lambda: nothing_is_left(supervised, box) and supervised.listing() == [], what="nothing")
    again = begun(supervised, box, work, 2)
    gate("go")
    supervised.runtime.finish(again).ok(f"{box.id}\n")
    supervised.wait(box).ok("5\n")
    assert supervised.log(box) == "here\n"


def begun(supervised, box, work, times):
    """An up that has come to the hook."""
    call = begin_up(supervised, box)
    host.eventually(lambda: host.read(f"{work}/begun").count("\n") == times, what="a start under way")
    return call


def test_an_up_that_stands_in_the_queue_when_its_client_goes_is_served(supervised, bundle, work, gate):
    supervised.begin("--parallel", "1")
    first = bundle("sleep", "1000").hook("createRuntime", f"echo >> {work}/begun; read word < {work}/gate")
    second = bundle().sh("exit 6")
    coming = begun(supervised, first, work, 1)
    waiting = begin_up(supervised, second)
    host.eventually(lambda: len(supervised.listing()) == 2, what="both")
    waiting.kill()
    waiting.wait()
    supervised.runtime.running.pop(waiting.pid)
    supervised.up(second).fails("already exists").one_line()
    gate("go")
    supervised.runtime.finish(coming).ok()
    supervised.wait(second).ok("6\n")
    supervised.rm(second).ok()
    assert nothing_is_left(supervised, second)
