"""What supervised containers write, when the way into their logs is disturbed."""
import os
import stat

import pytest

from lib import host


@pytest.fixture(autouse=True)
def only_ours(peer):
    if peer:
        pytest.skip("about gantry's own supervisor")


def staging_pipe(keeper):
    """The writing end of the pipe of which the keeper holds both."""
    ends = {}
    for name in os.listdir(f"/proc/{keeper}/fd"):
        path = f"/proc/{keeper}/fd/{name}"
        if stat.S_ISFIFO(os.stat(path).st_mode):
            flags = int(host.read(f"/proc/{keeper}/fdinfo/{name}").split()[3], 8)
            ends.setdefault(os.readlink(path), {})[flags & os.O_ACCMODE] = path
    [both] = [found for found in ends.values() if len(found) == 2]
    return both[os.O_WRONLY]


def test_bytes_that_are_nobodys_in_the_staging_pipe_end_no_supervisor(supervised, bundle):
    supervised.begin()
    box = bundle().sh("i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done")
    supervised.up(box).ok()
    pid = supervised.runtime.state(box)["pid"]
    host.eventually(lambda: "2\n" in supervised.log(box), what="output")
    os.kill(supervised.supervisor(), 19)
    with open(staging_pipe(supervised.keeper), "wb", buffering=0) as pipe:
        pipe.write(b"x")
    supervised.await_supervisor(supervised.kill_supervisor())
    assert "what was on its way into logs is lost" in host.read(supervised.errors)
    before = supervised.log(box)
    host.eventually(lambda: len(supervised.log(box)) > len(before) + 6, what="output after the loss")
    # The new journal is the one that the next supervisor gets.
    supervised.await_supervisor(supervised.kill_supervisor())
    assert host.read(supervised.errors).count("what was on its way") == 1
    before = supervised.log(box)
    host.eventually(lambda: len(supervised.log(box)) > len(before) + 6, what="output after a takeover")
    assert supervised.runtime.state(box)["pid"] == pid
    supervised.rm("-f", box).ok()
