"""Calls that fail for want of memory, descriptors or room, one at a time, in a keeper and a supervisor at work: only the
one concerned hears of it, by a clear error, and a moment later all is as before."""
import os

import pytest

from lib import host
from lib.inject import Injected
from lib.stage import cast, stage  # noqa: F401

# Silences of a tenth of a second are judged: nothing else may run beside it.
pytestmark = pytest.mark.alone

# strace stops a process at each of its calls: fewer calls, and more time for an answer.
BYSTANDERS = 10
TRACED = 10
LINK = 3  # kSupervisorSocketFd of sys/init/keeper.h
TEXTS = {"EMFILE": "too many open files", "ENFILE": "too many open files in system", "ENOMEM": "cannot allocate memory",
         "ENOSPC": "no space left on device", "EAGAIN": "resource temporarily unavailable",
         "ETOOMANYREFS": "too many references"}

# Which call, which error, which of the calls. All of a whole creation at once would be for ever.
OF_SUPERVISOR = [
    ("memfd_create", "ENOMEM", (1, 2)),
    ("memfd_create", "EMFILE", (1,)),
    ("pipe2", "EMFILE", (1, 2)),
    ("socketpair", "ENFILE", (1, 2)),
    ("openat", "EMFILE", range(1, 70, 4)),
    ("openat", "ENOSPC", range(2, 70, 7)),
    ("openat", "ENOMEM", range(3, 70, 7)),
    ("mkdir", "ENOSPC", (1, 2, 5)),
    ("mkdirat", "ENOSPC", (1, 2, 3)),
    ("mknodat", "ENOSPC", (1, 2)),
    ("renameat", "ENOSPC", (1, 2, 3)),
    ("fallocate", "ENOMEM", (1,)),
    ("epoll_ctl", "ENOMEM", range(1, 40, 3)),
    ("epoll_ctl", "ENOSPC", range(2, 40, 6)),
]

OF_KEEPER = [
    ("clone3", "ENOMEM", ("1", "1+")),
    ("clone3", "EAGAIN", ("1+",)),
    ("fcntl", "EMFILE", (1, 2, 3)),
    ("sendmsg", "ENOMEM", (1, 2, "1..5")),
    ("sendmsg", "ETOOMANYREFS", (1,)),
    ("recvmsg", "ENOMEM", (1, 2, "1..5")),
]

OF_THEIR_TALK = [
    ("sendmsg", "ENOMEM", (1, 2, 3, "1..8")),
    ("sendto", "ENOMEM", (1, 2, 3, "1..8")),
    ("sendmsg", "ETOOMANYREFS", (1, 2)),
    ("recvmsg", "ENOMEM", (1, 2, 3, "1..8")),
]


def named(faults):
    return [pytest.param(*fault, id="-".join(fault[:2])) for fault in faults]


def judge(result, errno):
    """A container that runs, or one line that says why not."""
    if result.code == 0:
        return
    result.one_line()
    assert TEXTS[errno] in result.message or errno in result.message, result


class Faults:
    """Starts containers while a call fails, and removes them."""

    def __init__(self, stage, cast, work):
        self.stage, self.cast, self.work, self.hits = stage, cast, work, 0

    def each(self, pid, call, errno, numbers, *flags):
        lives = self.stage.supervised.supervisor()
        for number in numbers:
            box = self.cast.bundle("sleep", "1000")
            for verb in (self.cast.up, self.cast.rm):
                with Injected(pid, f"{call}:error={errno}:when={number}", self.work, *flags) as injected:
                    result = verb(box)
                self.hits += injected.hits
                judge(result, errno)
            self.cast.rm(box).ok()
        assert self.stage.supervised.supervisor() == lives, host.read(self.stage.supervised.errors)

    def over(self):
        assert self.hits, "nothing has failed: the test is out of date"
        box = self.cast.bundle().sh("echo fine; exit 3")
        self.cast.up(box).ok()
        self.cast.supervised.wait(box).ok("3\n")
        assert self.cast.supervised.log(box) == "fine\n"


@pytest.fixture
def faults(stage, cast, work):
    it = Faults(stage, cast, work)
    yield it
    it.over()


@pytest.mark.parametrize("call, errno, numbers", named(OF_SUPERVISOR))
def test_a_supervisor_that_runs_short(stage, faults, call, errno, numbers):
    stage.unmoved(lambda: faults.each(stage.supervised.supervisor(), call, errno, numbers), slower=TRACED)


@pytest.mark.parametrize("call, errno, numbers", named(OF_KEEPER))
def test_a_keeper_that_runs_short(stage, faults, call, errno, numbers):
    stage.unmoved(lambda: faults.each(stage.supervised.keeper, call, errno, numbers), slower=TRACED)


@pytest.mark.parametrize("call, errno, numbers", named(OF_THEIR_TALK))
def test_no_memory_for_what_supervisor_and_keeper_say(stage, faults, call, errno, numbers):
    supervisor = stage.supervised.supervisor()
    link = os.readlink(f"/proc/{supervisor}/fd/{LINK}")
    stage.unmoved(lambda: faults.each(supervisor, call, errno, numbers, "-P", link), slower=TRACED)


@pytest.fixture
def last_terminal(work):
    """A devpts with room for one terminal, and that one; as with kernel.pty.max, which is everybody's."""
    path = f"{work}/pts"
    os.mkdir(path)
    host.mount("devpts", path, "devpts", data="newinstance,ptmxmode=0666,mode=0620,max=1")
    fd = os.open(f"{path}/ptmx", os.O_RDWR | os.O_NOCTTY)
    yield path, fd
    host.umount(path)


def test_no_terminal_is_left(stage, cast, last_terminal):
    path, fd = last_terminal
    box = cast.bundle().sh("tty")
    box.process["terminal"] = True
    box.without_mount("/dev/pts").mount("/dev/pts", path, "bind", ["bind"])
    stage.unmoved(lambda: cast.up(box).fails("no space left on device").one_line())
    os.close(fd)
    cast.up(box).ok()
    cast.supervised.wait(box).ok("0\n")
    cast.rm(box).ok()
