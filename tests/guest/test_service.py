"""gantry as a service of systemd."""
import os
import signal
import time

import pytest

from conftest import CONTAINERS, call, eventually, read

COUNT = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.3; done"
SLEEP = "while :; do sleep 1000; done"


def numbered(log):
    """How many lines there are, all of them, in order."""
    lines = log.splitlines()
    assert lines == [f"line {i}" for i in range(len(lines))]
    return len(lines)


def goes_on(service, name):
    """Its output still comes, and nothing of it is missing."""
    before = numbered(service.log(name))
    eventually(lambda: numbered(service.log(name)) > before, f"more output of {name}")


def cgroup(pid):
    return read(f"/proc/{pid}/cgroup").strip().removeprefix("0::")


def test_the_units_are_sound_and_can_be_enabled():
    units = [f"/usr/local/lib/systemd/system/gantry{name}" for name in (".service", ".socket", "-containers.service")]
    done = call("systemd-analyze", "verify", *units)
    assert [line for line in done.stderr.splitlines() if "gantry" in line] == []
    call("systemctl", "enable", "gantry.service")
    assert call("systemctl", "is-enabled", "gantry.service", "gantry.socket").stdout.split() == ["enabled", "enabled"]
    assert "cycle" not in call("systemd-analyze", "verify", "default.target", check=False).stderr
    call("systemctl", "disable", "gantry.service")


def test_the_first_call_starts_the_service(service, bundle):
    call("systemctl", "stop", "gantry.service")
    assert call("systemctl", "is-active", "gantry.service", "gantry.socket", check=False).stdout.split() == ["inactive", "active"]
    pid = service.up("web", bundle("web", COUNT, resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 33}}))
    assert service.show("ActiveState", "SubState", "Type") == {"ActiveState": "active", "SubState": "running", "Type": "notify"}
    # Cgroups: the service has its own, the containers have theirs, with limits.
    assert cgroup(service.keeper) == cgroup(service.supervisor()) == "/system.slice/gantry.service"
    assert cgroup(pid) == "/system.slice/gantry-containers.service/web"
    assert read(f"{CONTAINERS}/web/memory.max") == f"{64 << 20}\n" and read(f"{CONTAINERS}/web/pids.max") == "33\n"
    assert "gantry.service" in call("systemctl", "status", "--no-pager", "gantry.service").stdout
    assert "Unknown" not in service.journal()


def test_reload_is_over_when_the_new_supervisor_serves(service, bundle):
    pid = service.up("web", bundle("web", COUNT))
    for _ in range(2):
        keeper, former = service.keeper, service.supervisor()
        call("systemctl", "reload", "gantry.service")
        assert service.show("ActiveState") == "active"
        assert service.supervisor() not in (0, former)
        assert service.keeper == keeper and service.pid("web") == pid
    goes_on(service, "web")


def test_containers_live_through_stop_start_and_restart(service, bundle):
    pid = service.up("web", bundle("web", COUNT))
    call("systemctl", "stop", "gantry.service", "gantry.socket")
    assert service.show("ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    left = read("/sys/fs/cgroup/system.slice/gantry.service/cgroup.procs").split()
    assert [read(f"/proc/{each}/comm") for each in left] == ["gantry-holder\n"]
    assert os.path.exists(f"/proc/{pid}")
    assert call("gantry", "up", bundle("late", "true"), check=False).returncode != 0
    time.sleep(1)
    service.start()
    assert service.pid("web") == pid
    goes_on(service, "web")
    former = service.keeper
    call("systemctl", "restart", "gantry.service")
    assert service.keeper not in (0, former) and service.pid("web") == pid
    goes_on(service, "web")
    service.up("next", bundle("next", "exit 5"))
    assert call("gantry", "wait", "next").stdout == "5\n"


def test_what_ends_between_stop_and_start_loses_no_output(service, bundle, tmp_path):
    service.up("short", bundle("short", "echo first; sleep 5; echo last; exit 7"), "--restart", "no")
    pid = service.pid("short")
    call("systemctl", "stop", "gantry.service", "gantry.socket")
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the container's end")
    service.start()
    # Before Linux 6.15 nobody keeps the code of a process whose parent has left: unknown, never invented.
    assert call("gantry", "wait", "short", check=False).stdout in ("7\n", "unknown\n")
    assert service.log("short") == "first\nlast\n"


def test_kill_9_of_the_supervisor(service, bundle):
    pid = service.up("web", bundle("web", COUNT))
    service.up("short", bundle("short", "sleep 4; echo said; exit 9"))
    keeper, former = service.keeper, service.supervisor()
    os.kill(former, signal.SIGKILL)
    service.settled(former)
    assert service.keeper == keeper and service.show("NRestarts") == "0"
    assert service.pid("web") == pid
    assert call("gantry", "wait", "short").stdout == "9\n"
    assert service.log("short") == "said\n"
    goes_on(service, "web")


@pytest.mark.parametrize("both", [False, True], ids=["keeper", "keeper and supervisor"])
def test_kill_9_of_the_keeper(service, bundle, both):
    pid = service.up("web", bundle("web", COUNT))
    keeper, former = service.keeper, service.supervisor()
    restarts = int(service.show("NRestarts"))
    os.kill(keeper, signal.SIGKILL)
    if both:
        os.kill(former, signal.SIGKILL)
    service.settled(former)
    assert service.keeper != keeper and int(service.show("NRestarts")) == restarts + 1
    assert service.pid("web") == pid
    if not both:  # who has killed both has the reading ends closed: documented
        goes_on(service, "web")
    service.up("next", bundle("next", "echo new; exit 5"))
    assert call("gantry", "wait", "next").stdout == "5\n"
    eventually(lambda: service.log("next") == "new\n", "its output")


@pytest.fixture
def interval(service):
    """Seconds of a shorter watchdog."""
    seconds = 24
    os.makedirs("/run/systemd/system/gantry.service.d", exist_ok=True)
    with open("/run/systemd/system/gantry.service.d/watchdog.conf", "w", encoding="ascii") as file:
        file.write(f"[Service]\nWatchdogSec={seconds}s\n")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", "gantry.service")
    yield seconds
    os.unlink("/run/systemd/system/gantry.service.d/watchdog.conf")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", "gantry.service")


def test_a_hung_supervisor_is_replaced_by_the_keeper(service, bundle, interval):
    pid = service.up("web", bundle("web", COUNT))
    keeper, former = service.keeper, service.supervisor()
    time.sleep(interval * 1.5)  # nothing happens
    assert service.keeper == keeper and service.supervisor() == former
    os.kill(former, signal.SIGSTOP)
    start = time.monotonic()
    service.settled(former)
    assert time.monotonic() - start < 2 * interval
    time.sleep(interval * 1.5)
    assert service.keeper == keeper and service.show("NRestarts", "Result") == {"NRestarts": "0", "Result": "success"}
    assert service.pid("web") == pid
    goes_on(service, "web")
    assert "the keeper killed it" in service.journal()


def test_a_hung_keeper_is_replaced_by_systemd(service, bundle, interval):
    pid = service.up("web", bundle("web", COUNT))
    keeper, former = service.keeper, service.supervisor()
    os.kill(keeper, signal.SIGSTOP)
    start = time.monotonic()
    service.settled(0, former)
    assert time.monotonic() - start < 3 * interval
    assert service.keeper not in (0, keeper) and service.pid("web") == pid
    goes_on(service, "web")


def test_the_containers_unit_ends_them_all(service, bundle):
    pid = service.up("web", bundle("web", COUNT), "--restart", "always")
    other = service.up("once", bundle("once", SLEEP))
    call("systemctl", "stop", "gantry-containers.service")
    assert service.show("ActiveState") == "inactive"
    assert not os.path.exists(f"/proc/{pid}") and not os.path.exists(f"/proc/{other}")
    assert not os.path.exists(CONTAINERS)
    service.start()
    eventually(lambda: service.pid("web") not in (0, pid), "the next run of web")
    assert call("gantry", "wait", "once", check=False).stdout in ("137\n", "143\n", "unknown\n")


def test_who_kills_the_process_that_keeps_the_cgroup_kills_no_container(service, bundle):
    pid = service.up("web", bundle("web", COUNT))
    sleeper = int(call("systemctl", "show", "-pMainPID", "--value", "gantry-containers.service").stdout)
    os.kill(sleeper, signal.SIGKILL)
    time.sleep(2)
    assert service.pid("web") == pid and service.show("ActiveState") == "active"
    goes_on(service, "web")
    call("gantry", "rm", "--force", "web")
    call("systemctl", "stop", "gantry-containers.service")


def test_another_boot_starts_what_is_to_run(service, bundle):
    """The same machine with an empty /run and another boot id: what gantry sees of a boot."""
    for name, policy in (("always", "always"), ("once", "no"), ("stopped", "always")):
        service.up(name, bundle(name, f"echo {name}; {SLEEP}"), "--restart", policy)
    call("gantry", "stop", "--time", "1", "stopped")
    call("systemctl", "stop", "gantry.service", "gantry.socket", "gantry-containers.service")
    for pid in read("/sys/fs/cgroup/system.slice/gantry.service/cgroup.procs").split():
        os.kill(int(pid), signal.SIGTERM)
    call("rm", "-rf", "/run/gantry")
    with open("/run/boot_id", "w", encoding="ascii") as file:
        file.write("01234567-89ab-cdef-0123-456789abcdef\n")
    call("mount", "--bind", "/run/boot_id", "/proc/sys/kernel/random/boot_id")
    try:
        service.start()
        eventually(lambda: service.pid("always"), "the next run")
        assert not service.pid("once") and not service.pid("stopped")
        eventually(lambda: service.log("always") == "always\nalways\n", "its output")
        assert service.log("once") == "once\n"
        call("gantry", "rm", "--force", "always", "once", "stopped")
    finally:
        call("systemctl", "stop", "gantry.service", "gantry.socket", "gantry-containers.service")
        call("umount", "/proc/sys/kernel/random/boot_id")
