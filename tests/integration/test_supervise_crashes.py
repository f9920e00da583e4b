"""Supervisors that end in the middle of their work, and runs that come to nothing: what counts against a container, and
what does not."""
import calendar
import collections
import os
import re
import signal
import struct
import time

import pytest

from lib import host
from lib.inject import Injected
from lib.player import rewrite


@pytest.fixture
def gate(work):
    """A directory with a FIFO that has a reader and a writer for as long as the test lives."""
    directory = f"{work}/gate"
    os.mkdir(directory)
    os.mkfifo(f"{directory}/fifo")
    fd = os.open(f"{directory}/fifo", os.O_RDWR)
    yield Gate(directory, fd)
    os.close(fd)


class Gate:
    def __init__(self, directory, fd):
        self.directory, self.fd = directory, fd

    def say(self, line):
        os.write(self.fd, f"{line}\n".encode())


def links(pid):
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass
    return found


def staging_pipe(supervised):
    """The copier's: keeper and supervisor have both ends of it."""
    both = [{link for link, count in collections.Counter(links(pid)).items() if count == 2 and link.startswith("pipe:")}
            for pid in (supervised.keeper, supervised.supervisor())]
    (found,) = both[0] & both[1]
    return found


# --- the copier ------------------------------------------------------------------------------------------------------

def test_a_copier_that_cannot_go_on_ends_the_supervisor_for_another(supervised, bundle, gate, work):
    """Again and again, while a creation is under way: nothing is lost, and that creation is not to blame."""
    supervised.begin()
    echo = bundle().sh("while read line; do echo $line; test \"$line\" != end || exit 9; done < /gate/fifo")
    echo.mount("/gate", gate.directory, "bind", ["bind"])
    # Each supervisor begins with it anew, and has it in hand when it ends.
    stuck = bundle("sleep", "1000").hook("createRuntime", f"echo begun >> {work}/begun; "
                                                          f"until test -e {work}/over; do sleep 0.05; done")
    try:
        supervised.up(echo).ok()
        pid = supervised.runtime.state(echo)["pid"]
        stuck.write()
        supervised.runtime.track(stuck.id)
        coming = supervised.runtime.spawn("up", stuck.path, "--restart", "always")
        for number in range(4):
            host.eventually(lambda n=number: host.read(f"{work}/begun").count("begun") == n + 1, what="a start under way")
            former = supervised.supervisor()
            with Injected(former, "read:error=EIO", work, "-P", staging_pipe(supervised)) as injected:
                gate.say(f"line {number}")
                host.eventually(lambda p=former: not os.path.exists(f"/proc/{p}"), what="the end of the supervisor")
            assert "+++ exited with 75 +++" in injected.text and injected.hits, injected.text
            supervised.await_supervisor(former)
            assert supervised.runtime.state(echo)["pid"] == pid
    finally:
        open(f"{work}/over", "wb").close()
    supervised.runtime.finish(coming).ok()
    gate.say("end")
    supervised.wait(echo).ok("9\n")
    host.eventually(lambda: supervised.log(echo) == "".join(f"line {n}\n" for n in range(4)) + "end\n", what="the log")
    assert not supervised.definition(stuck)["quarantined"]
    assert host.read(supervised.errors).count("the copier of output cannot go on") == 4


PAGE, BATCH, SLOTS = 4096, 4096 + (256 << 10), 16384
OWN_BATCHES = PAGE + BATCH + SLOTS * 128
FIRST_RUN_SLOT = 2


def test_a_batch_that_nobody_can_understand_ends_one_supervisor_and_not_each(supervised, bundle, work):
    supervised.begin()
    with host.small_disk(f"{work}/small", "64k") as small:
        box, other = bundle().sh("seq 100000; echo end; exit 3"), bundle().sh("while :; do echo on; usleep 20000; done")
        supervised.up(box, flags=("--log", f"cri,path={small}/log")).ok()
        supervised.up(other).ok()
        (name,) = [name for name in os.listdir(f"/proc/{supervised.keeper}/fd")
                   if "memfd:gantry-copy" in os.readlink(f"/proc/{supervised.keeper}/fd/{name}")]
        with open(f"/proc/{supervised.keeper}/fd/{name}", "r+b", buffering=0) as journal:
            at = OWN_BATCHES + FIRST_RUN_SLOT * BATCH

            def phase():
                return os.pread(journal.fileno(), 1, at)[0]
            host.eventually(phase, what="a batch that waits")
            os.pwrite(journal.fileno(), struct.pack("=Q", 99), at)
        former = supervised.supervisor()
        host.mount("small", small, None, host.MS_REMOUNT, "size=64m")
        host.eventually(lambda: not os.path.exists(f"/proc/{former}"), 10, "the end of the supervisor")
        supervised.await_supervisor(former)
        supervised.wait(box).ok("3\n")
        host.eventually(lambda: host.read(f"{small}/log").endswith(" F end\n"), what="the rest of the log")
        assert supervised.status()["starts"] == 2
        assert f"what waited for log {small}/log is lost: journal of the copier: phase 99" in host.read(supervised.errors)
        lines = supervised.log(other).count("\n")
        host.eventually(lambda: supervised.log(other).count("\n") > lines, what="output of the other")
        supervised.rm("--force", box, other).ok()


# --- quarantine ------------------------------------------------------------------------------------------------------

def killer(supervised):
    """A script that ends the supervisor as a bug would."""
    return (f"for p in $(cat /proc/{supervised.keeper}/task/{supervised.keeper}/children); do "
            "tr '\\0' ' ' < /proc/$p/cmdline | grep -q under-keeper && kill -SEGV $p; done; ")


@pytest.mark.parametrize("hook", ["startContainer", "poststart"])
def test_who_crashes_supervisors_after_the_hold_is_put_in_quarantine(supervised, bundle, hook):
    """The keeper has the run already. In a startContainer hook its program has not begun, and the next supervisor begins
    with it anew; with a poststart hook it is the next run that crashes the next supervisor."""
    supervised.begin()
    good = bundle().sh("i=0; while :; do echo $i; i=$((i+1)); usleep 5000; done")
    supervised.up(good).ok()
    pid = supervised.runtime.state(good)["pid"]
    bad = bundle("true")
    if hook == "startContainer":
        script = killer(supervised) + "sleep 20"
        bad.without_namespace("pid").config["hooks"] = {hook: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    else:
        bad.hook(hook, killer(supervised) + "sleep 0.2")
    supervised.up(bad, flags=("--restart", "always"), timeout=40)
    host.eventually(lambda: supervised.definition(bad)["quarantined"], 20, "quarantine")
    supervised.await_supervisor(0)
    assert supervised.status()["starts"] == 4
    assert f"container {bad.id} is in quarantine" in host.read(supervised.errors)
    # It stays there, and the others go on.
    (entry,) = [entry for entry in supervised.listing() if entry["id"] == bad.id]
    assert entry["quarantined"] and not entry["pid"]
    fine = bundle().sh("exit 4")
    supervised.up(fine).ok()
    supervised.wait(fine).ok("4\n")
    assert supervised.runtime.state(good)["pid"] == pid and not supervised.definition(good)["quarantined"]
    supervised.runtime.call("stop", "--time", "0", good.id).ok()
    lines = supervised.log(good).splitlines()
    assert lines == [str(number) for number in range(len(lines))]
    assert supervised.status()["starts"] == 4
    supervised.rm(bad).ok()


# --- runs that never began -------------------------------------------------------------------------------------------

def moment(text):
    """Seconds of a time in a definition."""
    day, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(day, "%Y-%m-%dT%H:%M:%S")) + float(f"0.{fraction or 0}")


def test_runs_that_never_begin_back_off_like_those_that_fail(supervised, bundle):
    supervised.begin()
    box = bundle().sh("exit 1")
    supervised.up(box, flags=("--restart", "always")).ok()
    host.eventually(lambda: supervised.definition(box)["restarts"] >= 1, what="a restart")
    os.unlink(f"{box.rootfs}/bin/sh")
    ends = {}

    def six():
        now = supervised.definition(box)
        assert now["failures"] == now["restarts"], "none of them was healthy"
        ends[now["failures"]] = moment(now["exit"]["at"])
        return now["failures"] >= 6
    host.eventually(six, 15, "six failures")
    assert "executable file not found" in host.read(supervised.errors)
    pairs = [(number, ends[number + 1] - ends[number]) for number in ends if number + 1 in ends]
    assert len(pairs) >= 3
    for number, pause in pairs:
        assert pause >= 0.1 * 2 ** (number - 1) * 0.95, (pairs, ends)


def test_a_run_that_never_began_is_no_healthy_one_however_long_ago_the_last_start_was(supervised, bundle, work):
    """Or it would be tried again at once, and for ever."""
    supervised.begin()
    os.mkdir(f"{work}/logs")
    box = bundle("sleep", "1000")
    supervised.up(box, flags=("--restart", "always", "--log", f"cri,path={work}/logs/log")).ok()
    pid = supervised.runtime.state(box)["pid"]
    os.kill(supervised.keeper, signal.SIGSTOP)
    try:
        former = supervised.kill_supervisor()
        rewrite(f"{supervised.state_dir}/{box.id}/definition.json", started_ns=1)
    finally:
        os.kill(supervised.keeper, signal.SIGCONT)
    supervised.await_supervisor(former)
    assert supervised.runtime.state(box)["pid"] == pid
    os.rename(f"{work}/logs", f"{work}/moved")
    open(f"{work}/logs", "wb").close()
    os.kill(pid, signal.SIGKILL)
    host.eventually(lambda: supervised.definition(box)["failures"] >= 3, what="failures that count")
    assert supervised.definition(box)["restarts"] <= 6
    os.unlink(f"{work}/logs")
    os.rename(f"{work}/moved", f"{work}/logs")
    host.eventually(lambda: supervised.runtime.status(box) == "running", what="a run that begins")
    supervised.rm("--force", box).ok()


def test_a_start_whose_stuck_hook_is_killed_is_a_failure(supervised, bundle, work):
    supervised.begin()
    box = bundle("sleep", "1000").hook("prestart", f"test -e {work}/stuck || exit 0; echo $$ >> {work}/hooks; "
                                                   "exec sleep 1000")
    supervised.up(box, flags=("--restart", "always")).ok()
    open(f"{work}/stuck", "wb").close()
    os.kill(supervised.runtime.state(box)["pid"], signal.SIGKILL)
    for number in range(3):
        host.eventually(lambda n=number: len(host.read(f"{work}/hooks").split()) == n + 1, what="a hook that is stuck")
        assert supervised.definition(box)["failures"] == number + 1
        os.kill(int(host.read(f"{work}/hooks").split()[-1]), signal.SIGKILL)
        host.eventually(lambda n=number: supervised.definition(box)["failures"] == n + 2, what="one more failure")
    os.unlink(f"{work}/stuck")
    host.eventually(lambda: supervised.runtime.status(box) == "running", what="a run")
    assert re.search(r"prestart.*signal.*9|prestart.*kill", host.read(supervised.errors))
    supervised.rm("--force", box).ok()
