"""What supervised containers write, when the way into their logs is disturbed."""
import os
import stat

import pytest

from lib import host


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
    os.symlink(supervised.work, f"{supervised.work}/link")
    for other in (path, f"{supervised.work}/./log", f"{supervised.work}/link/log"):
        shown = "" if other == path else f" ({path})"
        supervised.up(second, flags=("--log", f"json,path={other}")).fails(
            f"log {other} is the log of container {first.id}{shown}: give each a path of its own").one_line()
    supervised.rm("-f", first).ok()
    supervised.up(second, flags=("--log", f"cri,path={path}")).ok()
    supervised.wait(second)
    supervised.rm(second).ok()


def test_a_log_may_not_be_what_another_is_rotated_to(supervised, bundle):
    supervised.begin()
    boxes = [bundle().sh("sleep 1000") for _ in range(4)]
    top = f"{supervised.work}/logs"
    os.symlink(top, f"{supervised.work}/link")

    def up(box, log):
        return supervised.up(box, flags=("--log", log))
    up(boxes[0], f"cri,files=3,path={top}/log.2").ok()  # which makes the directory
    up(boxes[1], f"cri,files=3,path={supervised.work}/link/log").fails(
        f"would be rotated to the log of container {boxes[0].id} ({top}/log.2): give each a path of its own")
    up(boxes[1], f"cri,files=2,path={top}/log").ok()
    up(boxes[2], f"cri,path={supervised.work}/link/log.1").fails(
        f"log {supervised.work}/link/log.1 is what the log of container {boxes[1].id} ({top}/log) is rotated to")
    # So it is after a restart of the supervisor, which has not seen them come.
    supervised.await_supervisor(supervised.kill_supervisor())
    up(boxes[2], f"cri,path={supervised.work}/link/log.1").fails("is rotated to")
    up(boxes[2], f"cri,files=1,path={supervised.work}/link/log").fails(f"is the log of container {boxes[1].id} ({top}/log)")
    up(boxes[3], f"none,path={top}/log").ok()  # writes nothing
    supervised.rm("-f", *boxes[:2], boxes[3]).ok()


@pytest.mark.parametrize("words", ["other's", "top", "link", "root", "record", "definition", "deeper"])
def test_a_log_may_not_lie_among_the_files_of_the_supervisor(supervised, bundle, words):
    supervised.begin()
    other, box = bundle().sh("sleep 1000"), bundle().sh("true")
    supervised.up(other).ok()
    os.symlink(f"{supervised.state_dir}/{other.id}", f"{supervised.work}/link")
    state, root = supervised.state_dir, supervised.runtime.root
    path, text = {
        "other's": (f"{state}/{other.id}/mine", f"lies in the supervisor's state directory {state}"),
        "top": (f"{state}/mine", f"lies in the supervisor's state directory {state}"),
        "link": (f"{supervised.work}/link/deep/er", f"lies in the supervisor's state directory {state}"),
        "root": (f"{root}/mine/log", f"lies in {root}, where the states of containers are"),
        "record": (f"{root}/{other.id}/state.json", f"lies in {root}, where the states of containers are"),
        "definition": (f"{state}/{box.id}/definition.json", "this is not a name for a log there"),
        "deeper": (f"{state}/{box.id}/deep/log", f"lies in the supervisor's state directory {state}"),
    }[words]
    before = sorted(os.walk(state)), sorted(os.listdir(root))
    supervised.up(box, flags=("--log", f"cri,path={path}")).fails(f"log {path}", text).one_line()
    assert (sorted(os.walk(state)), sorted(os.listdir(root))) == before
    supervised.rm("-f", other).ok()


def test_a_log_may_have_another_name_in_its_own_directory(supervised, bundle):
    supervised.begin()
    box = bundle().sh("echo hi")
    path = f"{supervised.state_dir}/{box.id}/output"
    for _ in range(2):
        supervised.up(box, flags=("--log", f"cri,path={path}")).ok()
        supervised.wait(box)
        host.eventually(lambda: "hi" in host.read(path), what="output")
        supervised.rm("--keep-log", box).ok()
    os.unlink(path)


def test_a_failed_up_removes_only_the_log_that_it_made(supervised, bundle, work):
    """What is left of another day, rotated by whomever, is not its own."""
    supervised.begin()
    box = bundle("/no/such/program")
    os.mkdir(f"{work}/logs")
    flags = ("--log", f"cri,path={work}/logs/app.log")
    assert supervised.up(box, flags=flags).code != 0
    assert os.listdir(f"{work}/logs") == []
    with open(f"{work}/logs/app.log.2", "w", encoding="ascii") as older:
        older.write("of another day\n")
    assert supervised.up(box, flags=flags).code != 0
    assert host.read(f"{work}/logs/app.log.2") == "of another day\n"


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
