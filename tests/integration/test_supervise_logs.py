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


def test_an_unfinished_line_is_marked_although_a_grandchild_keeps_the_pipe(supervised, bundle):
    supervised.begin()
    path = f"{supervised.work}/log"
    box = bundle().sh("printf unfinished")
    supervised.up(box, flags=("--log", f"cri,path={path}")).ok()
    supervised.wait(box)
    host.eventually(lambda: host.read(path), what="output")
    expected = [line.split(" ", 1)[1] for line in host.read(path).splitlines()]
    box2 = bundle().sh("sleep 30 & printf unfinished")
    # Without a pid namespace of its own the grandchild outlives init.
    box2.config["linux"]["namespaces"] = [n for n in box2.config["linux"]["namespaces"] if n["type"] != "pid"]
    path2 = f"{supervised.work}/log2"
    supervised.up(box2, flags=("--log", f"cri,path={path2}")).ok()
    supervised.wait(box2)

    def marked():
        return [line.split(" ", 1)[1] for line in host.read(path2).splitlines()] == expected
    host.eventually(marked, what="the mark of the unfinished line")
    supervised.rm("-f", box, box2).ok()


def test_two_containers_cannot_share_a_log(supervised, bundle):
    supervised.begin()
    first, second = bundle(), bundle()
    first.sh("sleep 1000")
    second.sh("echo second")
    path = f"{supervised.work}/log"
    supervised.up(first, flags=("--log", f"cri,path={path}")).ok()
    for log in (f"cri,path={path}", f"json,path={supervised.work}/./log"):
        supervised.up(second, flags=("--log", log)).fails(
            f"is the log of container {first.id}: give each a path of its own")
    supervised.rm("-f", first).ok()
    supervised.up(second, flags=("--log", f"cri,path={path}")).ok()
    supervised.wait(second)
    supervised.rm(second).ok()


def test_one_path_for_many_containers_is_refused_at_once(supervised, bundle):
    supervised.begin()
    boxes = [bundle().sh("true"), bundle().sh("true")]
    log = ("--log", f"cri,path={supervised.work}/log")
    refusal = "--log path= names one file, which cannot be that of"
    supervised.up(boxes[0], flags=("--count", "2", *log)).fails(f"{refusal} 2 containers").one_line()
    supervised.up(*boxes, flags=log).fails(f"{refusal} 2 containers").one_line()
    assert supervised.listing() == []
    supervised.up(boxes[0], flags=("--count", "1", *log)).ok()
    supervised.wait(f"{boxes[0].id}-1")
    supervised.rm(f"{boxes[0].id}-1").ok()
