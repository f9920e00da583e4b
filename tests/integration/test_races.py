"""Commands that meet on one container: two that act without a supervisor, one and a supervisor that starts at this moment,
a delete and a creation. One of them stops after each of its calls in turn, and the other one does its work then."""
import fcntl
import os
import shutil
import signal
import threading
import time

import pytest

from lib import host
from lib.inject import Injected
from lib.player import rewrite, write_definition
from lib.stepper import Stopped, count_calls, steps

# Of all calls of one command, those that a run of the suite visits; set GANTRY_RACE_STEPS=100000 for all of them.
BUDGET = int(os.environ.get("GANTRY_RACE_STEPS", "6"))
CALLS = {"openat", "close", "flock", "renameat", "unlinkat", "rmdir", "mkdir", "sendmsg", "connect", "pidfd_send_signal"}

pytestmark = [pytest.mark.ours("about gantry's own supervisor"),
              pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")]


def stops(runtime, work, *words, budget=BUDGET):
    """After which calls of the command to stop it; it is counted on a run that succeeds."""
    with open(f"{work}/count.out", "wb") as out:
        counts = count_calls([runtime.program, "--root", runtime.root, *words], f"{work}/count", stdout=out, stderr=out)
    # Before the tenth file of a process or so it is still being loaded.
    return steps({name: count for name, count in counts.items() if name in CALLS}, budget)


def meet(runtime, work, stop, first, second):
    """Both commands' results: `second` runs while `first` has stopped, as far as it comes without it."""
    one = Stopped(runtime, work, *stop, *first)
    two = runtime.spawn(*second)
    try:
        host.eventually(lambda: not host.alive(two.pid), 0.25)
    except AssertionError:
        pass  # it waits for the first one
    return one.go_on(), runtime.finish(two)


def done_or_gone(result):
    assert result.code == 0 or "does not exist" in result.message, result


@pytest.fixture
def definitions(work):
    path = f"{work}/definitions"
    os.mkdir(path)
    return path


# --- two commands, and no supervisor ---------------------------------------------------------------------------------

@pytest.mark.parametrize("verb", [["stop"], ["rm"], ["rm", "--force"], ["rm", "--keep-log"]], ids=" ".join)
def test_what_is_removed_stays_removed(runtime, work, definitions, verb):
    """As after a reboot: there is a definition, but no record of a container."""
    first, second = [[*words, "--state-dir", definitions, "old"] for words in (verb, ["rm", "--force"])]
    write_definition(definitions, "old")
    for stop in stops(runtime, work, *first):
        write_definition(definitions, "old")
        one, two = meet(runtime, work, stop, first, second)
        done_or_gone(one)
        two.ok()
        assert os.listdir(definitions) == [], (stop, os.listdir(f"{definitions}/old"))


@pytest.mark.parametrize("verb", [["stop"], ["rm", "--force"]], ids=" ".join)
def test_a_stop_that_meets_another_command_is_on_record_or_the_container_gone(runtime, work, definitions, verb):
    first, second = [[*words, "--state-dir", definitions, "old"] for words in (verb, ["stop"])]
    write_definition(definitions, "old")
    for stop in stops(runtime, work, *first):
        write_definition(definitions, "old")
        one, two = meet(runtime, work, stop, first, second)
        one.ok()
        done_or_gone(two)
        names = os.listdir(definitions)
        if verb == ["stop"]:
            assert names == ["old"]
            assert '"stopped_by_user":true' in host.read(f"{definitions}/old/definition.json")
            assert os.listdir(f"{definitions}/old") == ["definition.json"], "something half-written stays"
        else:
            assert names == [], stop


@pytest.mark.parametrize("verb", [["kill", "ID", "TERM"], ["stop", "--time", "0", "ID"], ["delete", "--force", "ID"]],
                         ids=lambda words: words[0])
def test_no_definition_outlives_the_removal_of_a_running_container(runtime, bundle, work, definitions, verb):
    def orphan():
        """A container whose supervisor has gone."""
        made = bundle("sleep", "1000")
        runtime.up(made)
        rewrite(f"{runtime.root}/{made.id}/state.json", supervisor_socket=f"{work}/nobody", state_dir=definitions)
        write_definition(definitions, made.id, bundle=made.path)
        return made.id

    def words(name):
        return [name if word == "ID" else word for word in verb]
    for stop in stops(runtime, work, *words(orphan())):
        name = orphan()
        one, two = meet(runtime, work, stop, words(name), ["rm", "--force", name])
        assert one.code == 0 or any(text in one.message for text in ("does not exist", "not running")), one
        two.ok()
        assert not os.path.exists(f"{definitions}/{name}") and not os.path.exists(f"{runtime.root}/{name}"), stop


def test_who_waits_for_a_removal_marks_nothing_that_has_taken_its_place(runtime, definitions):
    """The test is the one that removes, and makes another one of the same name."""
    write_definition(definitions, "old")
    held = os.open(f"{definitions}/old", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    stop = runtime.spawn("stop", "--state-dir", definitions, "old")
    time.sleep(0.3)
    assert stop.poll() is None
    os.rename(f"{definitions}/old", f"{definitions}/.gone")
    write_definition(definitions, "old")
    other = os.open(f"{definitions}/old", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(other, fcntl.LOCK_EX)
    os.close(held)
    time.sleep(0.3)
    assert stop.poll() is None, "it has the lock of a directory that is not the definition's any more"
    os.close(other)
    runtime.finish(stop).ok()
    assert '"stopped_by_user":true' in host.read(f"{definitions}/old/definition.json")
    assert "stopped_by_user" not in host.read(f"{definitions}/.gone/definition.json")


# --- a command and a supervisor that starts --------------------------------------------------------------------------

def orphaned(supervised, bundle):
    """A container that outlived keeper and supervisor."""
    box = bundle().sh("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    supervised.up(box, flags=("--restart", "always")).ok()
    pid = supervised.supervisor()
    os.kill(supervised.keeper, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    supervised.process.wait()
    host.eventually(lambda: not host.alive(pid), what="the end of the supervisor")
    return box


@pytest.mark.parametrize("verb", [["stop", "--time", "5"], ["rm", "--force"]], ids=" ".join)
def test_what_a_person_ends_while_a_supervisor_starts_has_ended(supervised, bundle, work, verb):
    runtime, state_dir = supervised.runtime, ["--state-dir", supervised.state_dir]
    supervised.begin()
    points = stops(runtime, work, *verb, *state_dir, orphaned(supervised, bundle).id, budget=max(BUDGET // 2, 1))
    supervised.begin()
    for stop in points:
        box = orphaned(supervised, bundle)
        one = Stopped(runtime, work, *stop, *verb, *state_dir, box.id)
        starting = threading.Thread(target=supervised.begin)
        starting.start()
        time.sleep(0.3)
        result = one.go_on()
        starting.join()
        result.ok()
        if verb[0] == "rm":
            assert box.id not in [entry["id"] for entry in supervised.listing()], stop
            assert not os.path.exists(f"{supervised.state_dir}/{box.id}") and not os.path.exists(f"{runtime.root}/{box.id}")
            continue
        supervised.wait(box)
        assert supervised.definition(box)["stopped_by_user"], stop
        assert [entry["status"] for entry in supervised.listing() if entry["id"] == box.id] == ["stopped"], stop
        supervised.rm(box).ok()


# --- delete and create -----------------------------------------------------------------------------------------------

def is_free(path):
    """Whether another delete could take the directory away."""
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(directory)


@pytest.mark.parametrize("flags", [[], ["--force"]], ids=["plain", "force"])
def test_a_delete_that_found_nothing_whole_leaves_what_comes_then(runtime, bundle, work, flags):
    """What it found is half-made. Another delete takes that away, and a new container gets the name."""
    box = bundle("sleep", "1000")
    path = f"{runtime.root}/{box.id}"

    def half_made():
        os.mkdir(path)
    half_made()
    for stop in stops(runtime, work, "delete", "--force", box.id, budget=2 * BUDGET):
        half_made()
        one = Stopped(runtime, work, *stop, "delete", *flags, box.id)
        if is_free(path):
            os.rmdir(path)
        came = not os.path.exists(path)
        if came:
            runtime.up(box)
        result = one.go_on()
        assert result.code == 0 or "exist" in result.message or "is not stopped" in result.message, result
        if os.path.exists(path):
            assert runtime.status(box) == "running", stop
            runtime.delete(box, "--force").ok()
        elif came:
            assert flags, f"{stop}: a delete without --force has ended a running container"


# --- one name, one container after the other ------------------------------------------------------------------------

def test_a_run_does_not_remove_what_came_after_its_container(runtime, bundle):
    box = bundle("sleep", "1000")
    running = runtime.spawn_run(box)
    host.eventually(lambda: runtime.call("state", box.id).code == 0 and runtime.status(box) == "running", what="the run")
    running.send_signal(signal.SIGSTOP)
    runtime.delete(box, "--force").ok()
    runtime.up(box)
    running.send_signal(signal.SIGCONT)
    assert runtime.finish(running).code == 137
    assert runtime.status(box) == "running"


@pytest.mark.parametrize("verb", [["rm", "--force"], ["stop", "--time", "0"]], ids=" ".join)
def test_a_namesake_of_a_definition_is_left_alone(runtime, bundle, definitions, verb):
    """As after a reboot: the definition's container is gone, and somebody has made one of that name."""
    box = bundle("sleep", "1000")
    runtime.up(box)
    write_definition(definitions, box.id, bundle=box.path)
    runtime.call(*verb, "--state-dir", definitions, box.id).ok()
    assert runtime.status(box) == "running"
    assert os.listdir(definitions) == ([] if verb[0] == "rm" else [box.id])


def test_a_supervisor_leaves_the_namesake_of_its_container_alone(supervised, bundle):
    supervised.begin()
    box, namesake = bundle("true"), bundle("sleep", "1000")
    supervised.up(box).ok()
    supervised.wait(box).ok("0\n")
    shutil.rmtree(f"{supervised.runtime.root}/{box.id}")
    host.purge_cgroups(box.id)
    supervised.runtime.create(namesake, id=box.id).ok()
    supervised.runtime.start(box).ok()
    supervised.rm("--force", box).ok()
    assert supervised.listing() == [] and supervised.runtime.status(box) == "running"


def test_a_start_that_finds_its_name_taken_leaves_it_alone(supervised, bundle, work):
    supervised.begin()
    box, namesake = bundle("sleep", "1000"), bundle("sleep", "1000")
    box.write()
    supervised.runtime.track(box.id)
    path = f"{supervised.runtime.root}/{box.id}"
    # The supervisor has looked whether the name is free, and stands before it takes it.
    with Injected(supervised.supervisor(), "mkdir:delay_enter=1000000:when=1", work, "-P", path):
        coming = supervised.runtime.spawn("up", box.path)
        time.sleep(0.4)
        supervised.runtime.create(namesake, id=box.id).ok()
        supervised.runtime.start(box).ok()
        supervised.runtime.finish(coming).fails("already exists")
    assert supervised.listing() == [] and supervised.runtime.status(box) == "running"
