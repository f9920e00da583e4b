"""The keeper: gantry-init's third job, the parent of containers whose supervisor may die at any moment. Whose child a
container is, what is held, and what is reaped."""
import os
import re
import signal
import statistics
import sys
import time

import pytest

from conftest import HERE
from lib import host
from lib.keeper import (EXITED, FIRST_HELD, HELD, fd_links, keeper, pss_kib, sleeping,  # noqa: F401
                        until_exits, up)

KEEPER_PSS_KIB = 128


# -- whose child, whose descriptors ------------------------------------------------------------------------------------

def test_keeper_is_the_process_and_the_parent(runtime, bundle, keeper):
    k = keeper()
    assert host.read(f"/proc/{k.pid}/comm") == "gantry-keeper\n"
    assert k.hello["keeper"] == k.pid and k.hello["starts"] == 1
    assert host.proc_stat(k.supervisor)["ppid"] == k.pid
    b = sleeping(bundle, runtime)
    pid = up(k, b)
    assert host.proc_stat(pid)["ppid"] == k.pid
    assert k.do("exec", b.id, "sh", "-c", "exit 9")["status"] == 9
    k.do("delete", b.id)
    until_exits(k, 2)
    host.eventually(lambda: host.children(k.pid) == [k.supervisor], 5, "no children but the supervisor")


def test_no_filter_and_no_descriptor_of_ours(runtime, bundle, keeper):
    k = keeper()
    b = bundle("sh", "-c", "cat /proc/self/status > /status; ls -l /proc/self/fd > /fds; ulimit -n > /limit")
    b.writable().config["process"].pop("rlimits", None)
    b.config["process"]["noNewPrivileges"] = False
    runtime.track(b.write().id)
    up(k, b)
    limit = host.eventually(lambda: host.read(f"{b.rootfs}/limit"), 5, "the container's report")
    status = host.read(f"{b.rootfs}/status")
    for text in (status, host.read(f"/proc/{k.pid}/status")):
        assert re.search(r"^Seccomp:\t0$", text, re.M) and re.search(r"^NoNewPrivs:\t0$", text, re.M)
    numbers = {int(word) for word in re.findall(r" (\d+) -> ", host.read(f"{b.rootfs}/fds"))}
    assert numbers <= {0, 1, 2, 3}  # 3: the directory that ls reads
    import resource
    assert int(limit) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize("code", ["ENOSYS", "EPERM"])
def test_below_a_filter_that_hides_newer_calls(runtime, bundle, keeper, code):
    k = keeper(prefix=(sys.executable, f"{HERE}/lib/outer_filter.py", "clone3,close_range", code))
    b = sleeping(bundle, runtime)
    pid = up(k, b)
    k.do("hold", 0, 1, pid, "pipe", "pidfd")
    assert k.do("exec", b.id, "sh", "-c", "exit 9")["status"] == 9
    assert max(fd_links(pid)) < 3
    k.crash()
    assert k.slot(0)["pid"] == pid
    k.do("delete", b.id)
    host.eventually(lambda: k.slot(0)["signal"] == signal.SIGKILL, what="the keeper's record of the end")


def test_limit_on_descriptors_is_the_callers(runtime, bundle, keeper):
    """Keeper and supervisor raise theirs; nothing of that reaches a container."""
    k = keeper(prefix=("sh", "-c", 'ulimit -S -n 700; exec "$@"', "sh"))
    assert re.search(r"^Max open files +(\d+) +\1 ", host.read(f"/proc/{k.pid}/limits"), re.M)
    assert re.search(r"^Max open files +(\d+) +\1 ", host.read(f"/proc/{k.supervisor}/limits"), re.M)
    b = sleeping(bundle, runtime)
    b.config["process"].pop("rlimits", None)
    pid = up(k, b.write())
    assert re.search(r"^Max open files +700 ", host.read(f"/proc/{pid}/limits"), re.M)


def test_memory_and_descriptors_of_the_keeper(runtime, keeper, record_property):
    k = keeper()
    own = fd_links(k.pid)
    assert max(own) < 16, own
    pss = pss_kib(k.pid)
    record_property("keeper_pss_kib", pss)
    print(f"keeper: {pss} KiB PSS, {len(own)} descriptors")
    assert pss < KEEPER_PSS_KIB


# -- what is held ------------------------------------------------------------------------------------------------------

def test_held_descriptors_and_exits_outlive_the_supervisor(runtime, bundle, keeper):
    k = keeper()
    b = sleeping(bundle, runtime)
    pid = up(k, b)
    host.eventually(lambda: os.path.exists(f"{b.rootfs}/ready"))
    k.do("hold", 3, 77, pid, "pipe", "pidfd")
    k.do("write", 3, "kept")
    before = k.slot(3)
    assert before["state"] == HELD and before["owner"] == 77 and before["pid"] == pid and before["kind"] == 7
    assert all(fd >= FIRST_HELD for fd in before["fds"][:3]) and before["fds"][3] == -1
    keepers = fd_links(k.pid)

    # It dies; while it is dead, so does the container.
    os.kill(k.supervisor, signal.SIGSTOP)
    os.kill(pid, signal.SIGTERM)
    host.eventually(lambda: not host.alive(pid))
    old = k.supervisor
    k.crash()
    assert k.supervisor != old and k.hello["starts"] == 2 and k.hello["crashes"] == 1
    assert k.hello["last_signal"] == signal.SIGKILL
    after = k.slot(3)
    assert after["state"] == EXITED and (after["code"], after["signal"]) == (42, 0)
    assert abs(after["time"] / 1e9 - time.time()) < 60
    assert after["fds"] == before["fds"]
    links = fd_links(k.supervisor)
    for fd in before["fds"][:3]:
        assert links[fd] == keepers[fd]
    assert k.do("read", 3)["text"] == "kept"
    assert {"slot": 3, "pid": pid, "known": True, "code": 42, "signal": 0} in until_exits(k, 1)
    # Until released it is told again and again.
    k.crash()
    assert [exit["slot"] for exit in until_exits(k, 1)] == [3]
    k.do("release", 3)
    assert k.slot(3) is None
    k.crash()
    assert k.exits() == [] and fd_links(k.pid).keys() < keepers.keys()
    k.do("delete", b.id)


def test_keeper_starts_with_what_it_is_given(keeper):
    k = keeper(env={"PUPPET_KEEPS": "given"})
    slot = k.slot(9)
    assert slot["state"] == HELD and slot["owner"] == 5 and k.table()["used"] == 10
    assert k.do("read", 9)["text"] == "given"
    assert len([fd for fd in fd_links(k.pid) if fd >= FIRST_HELD]) == 2


def test_hold_adds_positions_and_guards_the_owner(keeper):
    k = keeper()
    k.do("hold", 0, 1, 0, "pipe")
    first = k.slot(0)["fds"]
    k.do("hold", 0, 1, 0, "pipe")
    second = k.slot(0)["fds"]
    links = fd_links(k.pid)
    assert len([fd for fd in links if fd >= FIRST_HELD]) == 2 and set(second[:2]) <= set(links)
    assert "file exists" in k.ask("hold", 0, 2, 0, "pipe")["error"]
    assert k.slot(0)["fds"] == second != first
    assert "invalid argument" in k.ask("hold", 1 << 20, 2, 0)["error"]
    k.do("release", 0)
    k.do("release", 0)
    assert not [fd for fd in fd_links(k.pid) if fd >= FIRST_HELD]


def test_hold_after_the_end_finds_the_status(runtime, bundle, keeper):
    """Between its birth and the hold a process may have ended: the last exits are remembered."""
    k = keeper()
    b = bundle("sh", "-c", "exit 33")
    runtime.track(b.write().id)
    pid = up(k, b)
    host.eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    k.do("hold", 5, 1, pid, "pidfd")
    slot = k.slot(5)
    assert (slot["state"], slot["code"], slot["signal"], slot["unknown"]) == (EXITED, 33, 0, False)
    # A second slot for the same pid: its exit is spent, and nothing is made up.
    k.do("hold", 6, 1, pid, "pidfd")
    assert k.slot(6)["unknown"] and k.slot(6)["state"] == EXITED
    seen = {exit["slot"]: exit for exit in until_exits(k, 2)}
    assert seen[5]["code"] == 33 and not seen[6]["known"]
    k.do("delete", b.id)


def test_foreign_process_is_said_to_be_foreign(keeper):
    k = keeper()
    k.do("hold", 1, 1, os.getpid())
    slot = k.slot(1)
    assert slot["foreign"] and slot["state"] == HELD


# -- children of all kinds ---------------------------------------------------------------------------------------------

def test_strangers_are_reaped(runtime, bundle, keeper):
    k = keeper()
    b = bundle("sh", "-c", "(sleep 0.2; exit 5) & exit 3")
    b.without_namespace("pid")
    runtime.track(b.write().id)
    pid = up(k, b)
    host.eventually(lambda: not os.path.exists(f"/proc/{pid}"))
    assert host.children(k.pid) != [k.supervisor]
    host.eventually(lambda: host.children(k.pid) == [k.supervisor], 5, "the stranger's end")
    codes = {exit["code"] for exit in k.exits()}
    assert {3, 5} <= codes
    k.do("delete", b.id)


def test_many_exits_at_once_while_nobody_reads(runtime, bundle, keeper):
    """More than the keeper remembers and the socket takes: zombies wait, nothing is lost."""
    k = keeper()
    b = bundle("sh", "-c", "i=0; while [ $i -lt 1200 ]; do (read x < /gate; exit 6) & i=$((i+1)); done; exit 1")
    b.without_namespace("pid").writable()
    os.mkfifo(f"{b.rootfs}/gate")
    runtime.track(b.write().id)
    up(k, b)
    host.eventually(lambda: len(host.children(k.pid)) == 1201, 20, "1200 strangers")
    before = len(k.exits())
    os.kill(k.supervisor, signal.SIGSTOP)
    with open(f"{b.rootfs}/gate", "r+b", buffering=0) as gate:
        gate.write(b"\n" * 1200)
        host.eventually(lambda: len(k.zombies()) > 200, 10, "zombies: nobody hears of them")
        os.kill(k.supervisor, signal.SIGCONT)
        host.eventually(lambda: host.children(k.pid) == [k.supervisor], 10, "all reaped")
    assert len([exit for exit in until_exits(k, before + 1200) if exit["code"] == 6]) == 1200
    k.do("delete", b.id)


def test_garbage_is_answered_not_obeyed(keeper):
    k = keeper()
    k.do("hold", 0, 1, 0, "pipe")
    for kind in range(8):
        k.do("garbage", kind)
    assert k.slot(0)["state"] == HELD
    k.do("hold", 1, 1, 0, "pipe")
    assert host.alive(k.pid) and not k.do("gone")["gone"]
    assert len(fd_links(k.pid)) == len(fd_links(k.pid).keys() - {-1}) and k.slot(1)["state"] == HELD


def test_spawn_costs_the_same_with_many_descriptors_held(runtime, work, keeper, record_property):
    k = keeper()

    def median_us(*words):
        k.do("spawns", 10)
        return statistics.median(k.do("spawns", 40, *words)["took_ns"]) / 1000

    none = median_us()
    k.do("many", 0, 1250)
    assert len([fd for fd in fd_links(k.pid) if fd >= FIRST_HELD]) == 5000
    many = median_us()
    pss = pss_kib(k.pid)
    started = time.monotonic()
    k.crash()
    restart_ms = (time.monotonic() - started) * 1000
    numbers = {"none_us": none, "held_5000_us": many, "pss_5000_kib": pss, "restart_5000_ms": restart_ms}
    for name, value in numbers.items():
        record_property(name, value)
    print({name: round(value, 1) for name, value in numbers.items()})
    assert many < 5 * none + 5000
    assert len([fd for fd in fd_links(k.supervisor) if fd >= FIRST_HELD]) == 5000


def test_frozen_cgroup_stops_only_who_is_born_in_it(keeper):
    unified = f"{host.CGROUP_ROOT}/unified"
    if not os.path.exists(f"{unified}/cgroup.procs"):
        unified = host.CGROUP_ROOT
    directory = f"{unified}/{host.CGROUP_PARENT}/frozen-{os.getpid()}"
    os.makedirs(directory)
    try:
        if not os.path.exists(f"{directory}/cgroup.freeze"):
            pytest.skip("no cgroup2")
        k = keeper()
        answer = k.do("spawns", 3, directory)
        assert answer["in_cgroup"]
        print("into a cgroup:", [round(ns / 1000) for ns in answer["took_ns"]], "us")
        with open(f"{directory}/cgroup.freeze", "w", encoding="ascii") as file:
            file.write("1")
        k.say("spawns", 1, directory)  # is born, does not end
        host.eventually(lambda: host.read(f"{directory}/cgroup.procs").split())
        k.crash()
        k.do("spawns", 3)
    finally:
        for pid in host.read(f"{directory}/cgroup.procs").split():
            host.kill_quietly(int(pid))
        host.eventually(lambda: os.rmdir(directory) is None)
