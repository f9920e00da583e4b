"""What supervising costs when nothing happens, and what happens when something has run out."""
import contextlib
import os
import resource
import time

import pytest

from lib import host
from lib.stage import kinds_of_files  # noqa: F401

# Counts descriptors, wake-ups and memory of a supervisor that nobody else keeps busy.
pytestmark = pytest.mark.alone


# A sanitizer keeps what was freed, so memory says nothing there.
SANITIZED = "ASAN_OPTIONS" in os.environ


@pytest.fixture(autouse=True)
def no_cgroups_of_many(runtime):
    """No cgroup of a copy stays, whatever a test has come to."""
    yield
    runtime.cleanup()
    host.purge_cgroups()


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def settled_files(pids):
    """What is open when nobody opens and closes any more."""
    def same():
        before = [kinds_of_files(pid) for pid in pids]
        time.sleep(0.3)
        return before if before == [kinds_of_files(pid) for pid in pids] else None
    return host.eventually(same, 8, "a supervisor that has come to rest")


def status_of(pid, name):
    return next(int(line.split()[1]) for line in host.read(f"/proc/{pid}/status").splitlines()
                if line.startswith(f"{name}:"))


def private_kib(pid):
    return sum(int(line.split()[1]) for line in host.read(f"/proc/{pid}/smaps_rollup").splitlines()
               if line.startswith("Private_"))


def zombies(pid):
    return [child for child in host.children(pid) if (host.proc_stat(child) or {"state": ""})["state"] == "Z"]


def copies(bundle, count):
    return [f"{bundle.id}-{number + 1}" for number in range(count)]


def idle_bundle(bundle):
    return bundle("sleep", "1000")


def limit(**limits):
    """preexec_fn: sets resource limits of a child, as nofile=(soft, hard)."""
    def apply():
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), value)
    return apply


def without_rlimits(box):
    del box.process["rlimits"]
    return box


# --- idle ------------------------------------------------------------------------------------------------------------

def test_what_an_idle_container_costs(supervised, bundle):
    """At most three descriptors in each of both processes, a few KiB, and no wake-up at all."""
    supervised.begin()
    count, both = 20, (supervised.keeper, supervised.supervisor())
    box = idle_bundle(bundle)
    # The first containers pay for what all share.
    supervised.up(box, flags=("--count", "20", "--id", f"{box.id}-warm")).ok()
    warm = [f"{box.id}-warm-{number + 1}" for number in range(20)]
    time.sleep(1.2)  # logs are closed after a second
    files, memory = [open_files(pid) for pid in both], [private_kib(pid) for pid in both]
    supervised.up(box, flags=("--count", str(count))).ok()

    def few():
        for pid, before in zip(both, files):
            assert open_files(pid) - before <= 3 * count, (pid, before, open_files(pid))
        return True
    host.eventually(few, 5, "at most three descriptors each")
    grown = [private_kib(pid) - before for pid, before in zip(both, memory)]
    assert SANITIZED or sum(grown) <= 32 * count, grown
    for _ in range(5):
        before = [status_of(pid, "voluntary_ctxt_switches") for pid in both]
        time.sleep(1)
        after = [status_of(pid, "voluntary_ctxt_switches") for pid in both]
        if before == after:
            break
    assert before == after, "somebody wakes up although nothing happens"
    supervised.rm("--force", *warm, *copies(box, count)).ok()


def test_a_hundred_lives_leave_nothing(supervised, bundle):
    supervised.begin()
    both = (supervised.keeper, supervised.supervisor())
    box = bundle().sh("echo hello")
    rounds, count = 5, 20

    def live():
        supervised.up(box, flags=("--count", str(count)), timeout=40).ok()
        supervised.wait(*copies(box, count), timeout=40).ok("0\n" * count)
        supervised.rm(*copies(box, count)).ok()
    live()
    files, memory = settled_files(both), [private_kib(pid) for pid in both]
    for _ in range(rounds):
        live()

    def same():
        now = [kinds_of_files(pid) for pid in both]
        assert now == files, (now, files)
        return True
    host.eventually(same, 4, "the descriptors of before")

    def no_larger():
        grown = [private_kib(pid) - before for pid, before in zip(both, memory)]
        assert SANITIZED or (grown[0] <= 8 and grown[1] <= 256), f"KiB grown in keeper and supervisor: {grown}"
        return True
    # What a burst needed is given back a moment later.
    host.eventually(no_larger, 4, "the memory of before")
    assert zombies(supervised.keeper) == []
    assert host.children(supervised.keeper) == [supervised.supervisor()]
    assert os.listdir(supervised.state_dir) in ([], ["@lock"]), os.listdir(supervised.state_dir)


def cpu_seconds(*pids):
    ticks = 0
    for pid in pids:
        fields = host.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_crash_loops_burn_no_time(supervised, bundle):
    supervised.begin()
    box = bundle().sh("exit 1")
    supervised.up(box, flags=("--restart", "always", "--count", "5")).ok()
    host.eventually(lambda: all(entry["restarts"] >= 4 for entry in supervised.listing()), 8, "four restarts each")
    before = cpu_seconds(supervised.keeper, supervised.supervisor())
    time.sleep(1)
    assert cpu_seconds(supervised.keeper, supervised.supervisor()) - before < 0.25
    supervised.rm("--force", *copies(box, 5)).ok()


# --- limits ----------------------------------------------------------------------------------------------------------

def test_containers_get_the_callers_limits_and_the_supervisor_what_it_can_have(supervised, bundle):
    supervised.begin(preexec_fn=limit(nofile=(700, 3000)))
    box = without_rlimits(bundle().sh("ulimit -Sn; ulimit -Hn"))
    supervised.up(box).ok()
    supervised.wait(box).ok("0\n")
    host.eventually(lambda: supervised.log(box) == "700\n3000\n", what="the log")
    for pid in (supervised.keeper, supervised.supervisor()):
        limits = next(line for line in host.read(f"/proc/{pid}/limits").splitlines() if "open files" in line)
        assert limits.split()[3:5] == ["3000", "3000"], limits


def test_a_limit_of_descriptors_is_told_by_name_before_it_bites(supervised, bundle):
    supervised.begin(preexec_fn=limit(nofile=(700, 700)))
    box = without_rlimits(bundle().sh("i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done"))
    result = supervised.up(box, flags=("--count", "60"), timeout=40)
    assert result.code == 1
    running = result.out.split()
    assert 10 <= len(running) < 60, running
    errors = result.logs("error")
    assert len(errors) == 60 - len(running)
    for text in errors:
        assert "RLIMIT_NOFILE" in text and "700" in text and "LimitNOFILE=" in text, text
    # Who runs goes on, and the last of them has a log like the first.
    for name in (running[0], running[-1]):
        lines = supervised.log(name).count("\n")
        host.eventually(lambda n=name, seen=lines: supervised.log(n).count("\n") > seen + 3, 5, "further lines")
    # Room for one makes room for one.
    supervised.rm("--force", *running[:5]).ok()
    again = without_rlimits(bundle("sleep", "1000"))
    supervised.up(again).ok()
    supervised.rm("--force", again, *running[5:], timeout=40).ok()


def test_too_few_descriptors_for_the_keeper_itself(supervised):
    result = supervised.runtime.call("supervise", "--state-dir", supervised.state_dir,
                                     preexec_fn=limit(nofile=(256, 256)))
    result.fails("RLIMIT_NOFILE is 256", "LimitNOFILE=").one_line()


def test_connections_that_take_all_descriptors_go_away_again(supervised, bundle):
    supervised.begin(preexec_fn=limit(nofile=(700, 700)))
    box = without_rlimits(bundle().sh("i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"))
    supervised.up(box).ok()
    with contextlib.ExitStack() as crowd:
        for _ in range(800):
            with contextlib.suppress(OSError):
                crowd.enter_context(supervised.api(timeout=1))
        lines = supervised.log(box).count("\n")
        host.eventually(lambda: supervised.log(box).count("\n") > lines + 10, 5, "further lines")
    supervised.runtime.call("wait", "nobody-is-called-so").fails("does not exist")
    other = without_rlimits(bundle("true"))
    supervised.up(other).ok()
    supervised.rm("--force", box, other).ok()


def test_a_limit_of_processes_is_told_by_name(supervised, bundle):
    group = f"{host.CGROUP_ROOT}/pids/{host.CGROUP_PARENT}/{host.SESSION}-limit"
    os.makedirs(group)
    supervised.begin(prefix=("sh", "-c", f'echo 0 > {group}/tasks && exec "$@"', "sh"))
    box = idle_bundle(bundle)
    with open(f"{group}/pids.max", "w", encoding="ascii") as file:
        file.write("4")
    supervised.up(box).fails("pids.max", group, "TasksMax=").one_line()
    with open(f"{group}/pids.max", "w", encoding="ascii") as file:
        file.write("max")
    supervised.up(box).ok()
    supervised.rm("--force", box).ok()
    supervised.end()
    os.rmdir(group)


# --- a full state directory ------------------------------------------------------------------------------------------

@pytest.fixture
def tiny_state(work):
    path = f"{work}/state"
    os.mkdir(path)
    host.mount("tiny", path, "tmpfs", data="size=256k")
    yield path
    host.umount(path)


def fill(path):
    file = os.open(f"{path}/ballast", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, b"x" * 4096)
    os.close(file)


def test_an_end_that_cannot_be_saved_is_saved_later(tiny_state, supervised, bundle):
    supervised.begin()
    gate = f"{supervised.work}/gate"
    os.mkdir(gate)
    os.mkfifo(f"{gate}/fifo")
    ending, other = bundle().sh("read line < /gate/fifo; exit 23"), bundle("sleep", "1000")
    ending.mount("/gate", gate, "bind", ["bind"])
    supervised.up(ending, other).ok()
    fill(tiny_state)
    with open(f"{gate}/fifo", "w", encoding="ascii") as file:
        file.write("go\n")
    host.eventually(lambda: "cannot be saved" in host.read(supervised.errors), what="a warning")
    waiting = supervised.runtime.spawn("wait", ending.id)
    assert supervised.runtime.status(other) == "running"
    one_more = bundle("true")
    supervised.up(one_more).fails("no space left").one_line()
    assert not os.path.exists(f"{supervised.runtime.root}/{one_more.id}")
    # Who makes room is not kept from it, though nothing can be noted about that.
    supervised.rm("--force", other).ok()
    # Not even a crash in the meantime loses the end.
    supervised.await_supervisor(supervised.kill_supervisor())
    os.unlink(f"{tiny_state}/ballast")
    assert supervised.runtime.finish(waiting).ok().out == "23\n"
    supervised.up(one_more).ok()
    supervised.rm("--force", ending, one_more).ok()
