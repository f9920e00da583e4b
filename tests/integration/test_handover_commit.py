"""The moment at which everything changes hands: whoever hands over and the next keeper never both have it, whatever
stops or dies in between. The test plays one of the two."""
import contextlib
import errno
import os
import socket
import struct
import subprocess

import pytest

from lib import host
from test_handover import (PLEASE, check_logs, gone, holders, kill_keeper, nobody_is_left, numbered,  # noqa: F401
                           orphans, terminate, wait_codes)

MAGIC = 0x46504B47
REFUSED, TABLE, SLOT, TAKEN = 19, 33, 34, 35


def frame(tag, slot=0, err=0):
    return struct.pack("=IHHIIIIi", MAGIC, tag, 0, 0, slot, 0, 0, err).ljust(56, b"\0")


def fields(data):
    _, tag, _, _, slot, _, _, err = struct.unpack_from("=IHHIIIIi", data)
    return tag, slot, err


def take_all(path):
    """Everything that is handed over, as the next keeper takes it, but not confirmed; the descriptors are dropped."""
    taker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    taker.settimeout(5)
    taker.connect(path)
    taker.send(PLEASE)
    left, first = 1, True
    while left:
        data, fds, _, _ = socket.recv_fds(taker, 4096, 8)
        for fd in fds:
            os.close(fd)
        tag, slot, err = fields(data)
        assert tag == (TABLE if first else SLOT), (tag, err)
        left = slot if first else left - 1
        first = False
    return taker


@pytest.mark.parametrize("who", ["orphan", "holder"])
def test_who_changes_its_mind_keeps_everything(supervised, bundle, who):
    it = supervised.begin()
    box = numbered(bundle, 0, 500)
    it.up(box).ok()
    if who == "orphan":
        kill_keeper(it)
    else:
        terminate(it)
    with take_all(f"{it.socket}.handover") as taker:
        taker.send(PLEASE)  # no confirmation
        assert fields(taker.recv(4096)) == (REFUSED, 0, errno.ETIMEDOUT)
        with pytest.raises(BrokenPipeError):
            taker.send(frame(TAKEN))
    it.begin()
    assert wait_codes(it, [box]) == ["1"]
    check_logs(it, [box], 500)


def keeper_table(slots=64):
    """A table of a keeper in which nothing is held."""
    fd = os.memfd_create("table")
    os.write(fd, struct.pack("=IIII", 0x54504B47, 1, slots, 0).ljust(256, b"\0"))
    os.ftruncate(fd, 256 + 64 * slots)
    return fd


@pytest.mark.parametrize("why", ["called off", "dead"])
def test_a_next_keeper_that_cannot_confirm(supervised, why):
    """Called off: there is a keeper elsewhere, or will be. Dead: what it had is nowhere else."""
    it = supervised
    os.makedirs(os.path.dirname(it.socket))
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as giver:
        giver.bind(f"{it.socket}.handover")
        giver.listen()
        giver.settimeout(5)
        with open(it.errors, "ab") as errors:
            it.process = subprocess.Popen([it.runtime.program, "--root", it.runtime.root, "supervise", "--state-dir",
                                           it.state_dir], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                                          env=it.runtime.environment(None))
        peer, _ = giver.accept()
        with peer:
            assert peer.recv(4096) == PLEASE
            fd = keeper_table()
            before = os.pread(fd, 4096, 0)
            # First, or the other side may have said that it has taken everything.
            peer.shutdown(socket.SHUT_RD)
            socket.send_fds(peer, [frame(TABLE)], [fd])
            if why == "called off":
                peer.send(frame(REFUSED, err=errno.ETIMEDOUT))
        os.unlink(f"{it.socket}.handover")
    if why == "called off":
        assert it.process.wait(5) != 0
        assert "called off" in host.read(it.errors)
        it.process = None
    else:
        it.await_supervisor(0)
    assert os.pread(fd, 4096, 0) == before
    os.close(fd)


def test_what_was_removed_while_a_holder_had_it_is_let_go(supervised, bundle):
    supervised.begin()
    box = bundle("sleep", "1000")
    supervised.up(box).ok()
    terminate(supervised)
    supervised.rm("--force", "--state-dir", supervised.state_dir, box).ok()
    supervised.begin()
    assert "goes on, and nobody supervises it" not in host.read(supervised.errors)
    held = [os.readlink(f"/proc/{supervised.keeper}/fd/{name}") for name in os.listdir(f"/proc/{supervised.keeper}/fd")]
    assert "anon_inode:[pidfd]" not in held, held
