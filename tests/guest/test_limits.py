"""All controllers on cgroup2: limits are written, hold, and can be changed."""
import json
import subprocess

import pytest

from conftest import PATIENCE, call, eventually, read

DIRECTORY = "/sys/fs/cgroup/gantry-test/box"
MIB = 1 << 20


@pytest.fixture
def box(bundle):
    """box(script, **resources): a container that runs."""
    def make(script, **resources):
        path = bundle("box", script, cgroupsPath="/gantry-test/box", resources=resources)
        subprocess.run(["gantry", "run", "--detach", "--bundle", path, "box"], stdin=subprocess.DEVNULL, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE)
    yield make
    call("gantry", "delete", "--force", "box")
    assert not read(f"{DIRECTORY}/cgroup.procs")


def values(*names):
    return {name: read(f"{DIRECTORY}/{name}").strip() for name in names}


def disk():
    """Number of the first disk."""
    return read("/sys/block/vda/dev").strip()


def test_limits_are_written_and_updated(box):
    major, minor = (int(part) for part in disk().split(":"))
    box("sleep 1000", memory={"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        cpu={"quota": 50000, "period": 100000, "shares": 1024, "cpus": "0", "mems": "0"}, pids={"limit": 40},
        blockIO={"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 5 * MIB}]},
        unified={"memory.high": str(60 * MIB)})
    assert values("memory.max", "memory.swap.max", "memory.low", "memory.high") == {
        "memory.max": str(64 * MIB), "memory.swap.max": str(32 * MIB), "memory.low": str(32 * MIB),
        "memory.high": str(60 * MIB)}
    assert values("cpu.max", "cpuset.cpus", "cpuset.mems", "pids.max") == {
        "cpu.max": "50000 100000", "cpuset.cpus": "0", "cpuset.mems": "0", "pids.max": "40"}
    assert read(f"{DIRECTORY}/io.max").startswith(f"{disk()} rbps={5 * MIB} ")
    weight = int(read(f"{DIRECTORY}/cpu.weight"))
    assert 30 < weight < 110
    call("gantry", "update", "--memory", str(48 * MIB), "--memory-swap", str(48 * MIB), "--pids-limit", "50",
         "--cpu-quota", "20000", "--cpu-share", "2048", "box")
    assert values("memory.max", "memory.swap.max", "pids.max", "cpu.max") == {
        "memory.max": str(48 * MIB), "memory.swap.max": "0", "pids.max": "50", "cpu.max": "20000 100000"}
    assert int(read(f"{DIRECTORY}/cpu.weight")) > weight
    call("gantry", "update", "-r", "-", "box", input=json.dumps({"memory": {"limit": -1, "swap": -1}, "pids": {"limit": -1}}))
    assert values("memory.max", "memory.swap.max", "pids.max") == {
        "memory.max": "max", "memory.swap.max": "max", "pids.max": "max"}


def test_limits_hold(box):
    box("sleep 1; head -c 100000000 /dev/zero | tail > /dev/null; sleep 1000", memory={"limit": 24 * MIB, "swap": 24 * MIB})
    eventually(lambda: "oom_kill 0\n" not in read(f"{DIRECTORY}/memory.events"), "an OOM kill")
    assert json.loads(call("gantry", "state", "box").stdout)["status"] == "running"
    call("gantry", "update", "--pids-limit", "2", "box")
    done = call("gantry", "exec", "box", "sh", "-c", "sleep 1 & sleep 1 & wait", check=False)
    assert done.returncode != 0


def test_pause_exec_and_resume(box):
    box("sleep 1000")
    call("gantry", "pause", "box")
    assert "frozen 1\n" in read(f"{DIRECTORY}/cgroup.events")
    assert "paused" in call("gantry", "exec", "box", "true", check=False).stderr
    call("gantry", "resume", "box")
    assert call("gantry", "exec", "box", "cat", "/proc/self/cgroup").stdout.startswith("0::/")
    call("gantry", "pause", "box")
    call("gantry", "kill", "box", "KILL")
    call("gantry", "resume", "box", check=False)
    eventually(lambda: json.loads(call("gantry", "state", "box").stdout)["status"] == "stopped", "its end")


@pytest.mark.parametrize("namespace", [True, False], ids=["own namespace", "the host's namespace"])
def test_the_hosts_cgroup2_keeps_its_options(bundle, namespace):
    def options():
        return [line.rsplit(" ", 1)[1] for line in read("/proc/self/mountinfo").splitlines() if " - cgroup2 " in line]
    before = options()
    assert "nsdelegate" in before[0]
    path = bundle("box", "cat /sys/fs/cgroup/cgroup.controllers", cgroupsPath="/gantry-test/box")
    config = json.loads(read(f"{path}/config.json"))
    if not namespace:
        config["linux"]["namespaces"] = [each for each in config["linux"]["namespaces"] if each["type"] != "cgroup"]
    with open(f"{path}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    assert "memory" in call("gantry", "run", "--bundle", path, "box").stdout
    assert options() == before
