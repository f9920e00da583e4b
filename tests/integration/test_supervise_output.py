"""What one container writes is nobody else's trouble: full disks, floods, terminals, grandchildren with the pipe."""
import os
import re
import time

import pytest

from lib import host
from lib.stage import cast, stage  # noqa: F401

# Silences of a tenth of a second are judged: nothing else may run beside it.
pytestmark = pytest.mark.alone


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
    with host.small_disk(f"{work}/disk", "128k") as disk:
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
    with host.small_disk(f"{work}/disk", "128k") as disk:
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
