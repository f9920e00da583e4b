"""A successor that runs short of something just when it takes everything over: it comes to that a moment later, and no
container pays for it."""
import os

import pytest

from lib import host
from lib.inject import Injected


def numbered(bundle):
    return bundle().sh("i=0; while :; do echo $i; i=$((i+1)); usleep 10000; done")


def answers(supervised, former):
    return supervised.supervisor() not in (0, former) and supervised.status().get("supervisor_pid")


@pytest.mark.parametrize("call, errno, numbers", [
    ("openat", "EMFILE", range(1, 200)),
    ("openat", "ENOMEM", range(2, 200, 5)),
    ("pidfd_open", "EMFILE", range(1, 20)),
    ("mmap", "ENOMEM", range(1, 100, 7)),
    ("fstat", "ENOMEM", range(1, 30, 3)),
    ("epoll_ctl", "ENOMEM", range(8, 60, 3)),
    ("sendto", "ENOMEM", range(1, 20)),
    ("recvmsg", "ENOMEM", range(1, 20)),
], ids=lambda value: "" if isinstance(value, range) else value)
def test_a_successor_that_runs_short(supervised, bundle, work, call, errno, numbers):
    if call in ("openat", "mmap") and os.environ.get("GANTRY_SANITIZED"):
        pytest.skip("the sanitizer's own start needs it")
    supervised.begin()
    boxes = [numbered(bundle) for _ in range(2)]
    supervised.up(boxes[0]).ok()
    supervised.up(boxes[1], flags=("--restart", "always")).ok()
    pids = [supervised.runtime.state(box)["pid"] for box in boxes]
    hits = 0
    for number in numbers:
        with Injected(supervised.keeper, f"{call}:error={errno}:when={number}", work, "-f") as injected:
            former = supervised.kill_supervisor()
            host.eventually(lambda i=injected, f=former: i.hits or answers(supervised, f), what="the next supervisor")
        if not injected.hits:
            break  # there are not that many
        hits += 1
        supervised.await_supervisor(former)
        assert [supervised.runtime.state(box)["pid"] for box in boxes] == pids, (number, host.read(supervised.errors))
        listed = {entry["id"]: (entry["pid"], entry["restarts"]) for entry in supervised.listing()}
        assert listed == {box.id: (pid, 0) for box, pid in zip(boxes, pids)}, (number, host.read(supervised.errors))
    assert hits, "nothing has failed: the test is out of date"
    supervised.runtime.call("stop", "--time", "0", *[box.id for box in boxes]).ok()
    for box in boxes:
        supervised.wait(box).ok("137\n")
        lines = supervised.log(box).splitlines()
        assert lines == [str(number) for number in range(len(lines))]
