"""The keeper and the lives of its supervisors: when the next one is started, which program, and whose signals are whose."""
import os
import re
import signal
import socket
import time

import pytest

from lib import host
from lib.built import built
from lib.keeper import HELD, keeper, sleeping, up  # noqa: F401


def test_crash_loop_backs_off(keeper):
    k = keeper()
    starts = []
    for _ in range(4):
        k.say("exit", 3)
        k.meet()
        starts.append(time.monotonic())
    gaps = [later - earlier for earlier, later in zip(starts, starts[1:])]
    assert 0.19 < gaps[0] < 2 and 0.39 < gaps[1] < 2 and 0.79 < gaps[2] < 3, gaps
    assert k.hello["crashes"] == 4 and k.hello["last_code"] == 3
    # One that lived for long is started again at once; the host may be slow, but not always.
    took = []
    while len(took) < 5 and min(took, default=1) > 0.09:
        time.sleep(1.1)
        begun = time.monotonic()
        k.crash()
        took.append(time.monotonic() - begun)
    assert min(took) < 0.09, took


def test_upgraded_program_is_used_a_missing_one_is_not_missed(work, keeper):
    path = f"{work}/puppet"
    with open(built("keeper/puppet"), "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
    os.chmod(path, 0o755)
    k = keeper(program=path)
    assert os.readlink(f"/proc/{k.supervisor}/exe") == path
    os.rename(path, f"{path}.old")
    k.crash()
    assert os.readlink(f"/proc/{k.supervisor}/exe") == f"{path}.old"
    with open(built("keeper/puppet"), "rb") as source, open(path, "wb") as copy:
        copy.write(source.read())
    os.chmod(path, 0o755)
    k.crash()
    assert os.readlink(f"/proc/{k.supervisor}/exe") == path


def test_leave_ends_the_keeper_not_the_containers(runtime, bundle, keeper):
    k = keeper()
    b = sleeping(bundle, runtime)
    pid = up(k, b)
    k.say("leave", 7)
    assert k.process.wait(5) == 7
    assert host.alive(pid) and host.proc_stat(pid)["ppid"] != k.pid


def test_signals_are_for_the_supervisor(keeper):
    k = keeper()
    for signo in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        k.end_supervisor(signo, k.pid)
        k.meet()
        assert k.hello["last_signal"] == signo


@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_that_does_not_listen_to_its_end_ends_the_keeper(keeper, signo):
    k = keeper()
    os.kill(k.pid, signo)
    assert k.process.wait(5) == 0


def test_who_ends_the_supervisor_alone_does_not_end_the_keeper(keeper):
    k = keeper()
    k.end_supervisor(signal.SIGTERM)
    k.meet()
    assert k.hello["last_signal"] == signal.SIGTERM


def test_term_without_a_supervisor_ends_the_keeper(keeper):
    k = keeper()
    for _ in range(4):
        k.say("exit", 1)
        k.meet()
    k.say("exit", 1)
    host.eventually(lambda: host.children(k.pid) == [])
    os.kill(k.pid, signal.SIGTERM)
    assert k.process.wait(5) == 0


def test_service_manager_is_told_fixed_words(work, keeper):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(f"{work}/notify")
    manager.settimeout(5)
    k = keeper(env={"NOTIFY_SOCKET": f"{work}/notify"})
    said = []
    for which in range(4):
        k.do("notify", which)
        said.append(manager.recv(4096).decode())
    assert [said[0], *said[2:]] == ["READY=1", "STOPPING=1", "WATCHDOG=1"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", said[1])
    manager.close()


def test_supervisor_of_a_dead_keeper_becomes_the_next(runtime, bundle, keeper):
    k = keeper()
    b = sleeping(bundle, runtime)
    pid = up(k, b)
    k.do("hold", 2, 9, pid, "pipe", "pidfd")
    k.do("write", 2, "kept")
    orphan = k.supervisor
    os.kill(k.pid, signal.SIGKILL)
    k.process.wait()
    host.eventually(lambda: k.do("gone")["gone"])
    assert "keeper is gone" in k.ask("hold", 4, 1, 0, "pipe")["error"]
    assert "keeper is gone" in k.ask("exec", b.id, "true")["error"]
    k.pids.add(orphan)
    k.say("become")
    k.meet()
    assert k.hello["keeper"] == orphan and host.read(f"/proc/{orphan}/comm") == "gantry-keeper\n"
    slot = k.slot(2)
    assert slot["foreign"] and slot["state"] == HELD and slot["pid"] == pid and slot["owner"] == 9
    assert k.do("read", 2)["text"] == "kept"
    k.pid = orphan
    # Nobody reaps it here; what its pidfd tells is better than nothing, and never made up.
    k.do("watch", pid)
    os.kill(pid, signal.SIGTERM)
    host.eventually(lambda: (host.reap_containers(), not os.path.exists(f"/proc/{pid}"))[1])
    ended = k.ask("wait", pid)
    assert ended.get("code") == 42 or "nobody saw how" in ended["error"]
    b = sleeping(bundle, runtime)
    up(k, b)
    assert k.do("exec", b.id, "sh", "-c", "exit 4")["status"] == 4
    k.do("delete", b.id)
    host.kill_quietly(orphan)


def test_idle_keeper_uses_no_time(keeper):
    k = keeper()

    def switches():
        return re.findall(r"_ctxt_switches:\t(\d+)", host.read(f"/proc/{k.pid}/status"))

    time.sleep(0.1)
    before = switches()
    time.sleep(0.5)
    assert switches() == before
