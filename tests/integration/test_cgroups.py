"""Cgroups on v1 and hybrid hosts: paths, resources, freeze, kill, removal, update (CG, RS, UP rows)."""
import json
import os
import subprocess
import time

import pytest

from lib import host
from lib.bundle import DROP
from lib.cgroups import MIB, V1, memberships, needs_v1
from lib.marks import OLD, differs_from


def value(b, controller, name):
    return host.read(f"{b.cgroup(controller)}/{name}").strip()


# --- paths and membership --------------------------------------------------------------------------------------------

@needs_v1
def test_cg02_init_is_in_every_hierarchy(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    for controller, path in memberships(pid).items():
        if controller in ("", "hugetlb", "misc", "rdma", "perf_event"):
            continue
        assert path == b.linux["cgroupsPath"], controller


@needs_v1
def test_cg01_hybrid_joins_the_unified_tree(runtime, bundle):
    b = bundle()
    pid = runtime.idle(b)
    assert memberships(pid)[""] == b.linux["cgroupsPath"]


@pytest.mark.parametrize("shared", [False, True], ids=["own_pid_namespace", "shared_pid_namespace"])
def test_a_cgroup_in_which_everything_was_once_killed_can_be_used_again(runtime, bundle, shared):
    """The kernel counts kills of a cgroup, and kills what is cloned into one with another count than the parent's."""
    box = bundle()
    if shared:
        box.without_namespace("pid").without_mount("/proc", "/sys/fs/cgroup")
        box.linux["maskedPaths"], box.linux["readonlyPaths"] = [], []
    path = f"/sys/fs/cgroup/unified{box.linux['cgroupsPath']}"
    if not os.path.isdir("/sys/fs/cgroup/unified"):
        pytest.skip("no cgroup2 tree beside v1")
    os.makedirs(path)
    with open(f"{path}/cgroup.kill", "w", encoding="ascii") as file:
        file.write("1")
    runtime.idle(box)
    runtime.exec(box, ["true"]).ok()
    runtime.stop(box)


def test_cg02_dots_are_cleaned_and_stay_below_the_root(runtime, bundle):
    b = bundle()
    b.linux["cgroupsPath"] = f"/{host.CGROUP_PARENT}/x/../{b.id}"
    result = runtime.create(b.args("true"))
    base = f"{host.CGROUP_ROOT}/pids" if V1 else host.CGROUP_ROOT
    assert result.code == 1 or os.path.isdir(f"{base}/{host.CGROUP_PARENT}/{b.id}"), result


@needs_v1
def test_cg03_relative_path_is_below_the_callers_cgroup(runtime, bundle):
    b = bundle("true")
    b.linux["cgroupsPath"] = b.id
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    own = memberships(os.getpid())
    for controller in ("pids", "memory", "cpu"):
        assert memberships(pid)[controller] == os.path.join(own[controller], b.id), controller
    runtime.delete(b).ok()
    for controller in ("pids", "memory", "cpu"):
        assert not os.path.exists(f"{host.CGROUP_ROOT}/{controller}{own[controller]}/{b.id}")


@needs_v1
def test_cg03_empty_path_uses_the_id(runtime, bundle):
    b = bundle("true", linux={"cgroupsPath": DROP})
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    assert memberships(pid)["pids"] == os.path.join(memberships(os.getpid())["pids"], b.id)
    runtime.delete(b).ok()


def test_cg06_the_path_is_the_one_of_create(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    pid = runtime.state(b)["pid"]
    b.linux["cgroupsPath"] += "-changed"
    b.write()
    runtime.exec(b, ["true"]).ok()
    assert json.loads(runtime.call("ps", "-f", "json", b.id).ok().out) == [pid]
    runtime.delete(b, "--force").ok()
    assert host.cgroup_dirs(b.id) == []


def test_deep_path(runtime, bundle):
    b = bundle("true")
    b.linux["cgroupsPath"] += "/one/two/three"
    runtime.run(b).ok()
    host.purge_cgroups(b.id)


def test_sub_cgroups_with_many_levels_are_removed(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    directory = b.cgroup("pids")
    for number in range(30):
        directory += f"/d{number}"
        os.mkdir(directory)
    runtime.delete(b, "--force").ok()
    assert host.cgroup_dirs(b.id) == []


def test_processes_in_sub_cgroups_are_killed_and_listed(runtime, bundle):
    b = bundle("sh", "-c", "sleep 1000 & sleep 1000 & wait")
    pid = runtime.up(b)
    host.eventually(lambda: len(host.cgroup_procs(b.cgroup("pids"))) == 3)
    for base in set(host.hierarchies().values()):
        os.makedirs(f"{base}{b.linux['cgroupsPath']}/sub", exist_ok=True)
    child = host.children(pid)[0]
    for controller in ("pids", "memory", "freezer"):
        with open(f"{b.cgroup(controller)}/sub/cgroup.procs", "w", encoding="ascii") as file:
            file.write(str(child))
    assert len(json.loads(runtime.call("ps", "-f", "json", b.id).ok().out)) == 3
    runtime.delete(b, "--force").ok()
    assert not host.alive(child) and host.cgroup_dirs(b.id) == []


# --- resources, v1 ---------------------------------------------------------------------------------------------------

@needs_v1
@pytest.mark.parametrize("resources, controller, name, expected", [
    ({"memory": {"limit": 64 * MIB}}, "memory", "memory.limit_in_bytes", str(64 * MIB)),
    ({"memory": {"reservation": 32 * MIB}}, "memory", "memory.soft_limit_in_bytes", str(32 * MIB)),
    ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, "memory", "memory.memsw.limit_in_bytes", str(96 * MIB)),
    ({"memory": {"limit": -1}}, "memory", "memory.limit_in_bytes", str((1 << 63) - 4096)),
    ({"memory": {"swappiness": 20}}, "memory", "memory.swappiness", "20"),
    ({"memory": {"limit": 64 * MIB, "disableOOMKiller": True}}, "memory", "memory.oom_control", "oom_kill_disable 1"),
    ({"memory": {"limit": 64 * MIB, "useHierarchy": True}}, "memory", "memory.limit_in_bytes", str(64 * MIB)),
    ({"cpu": {"shares": 333}}, "cpu", "cpu.shares", "333"),
    ({"cpu": {"quota": 50000, "period": 200000}}, "cpu", "cpu.cfs_quota_us", "50000"),
    ({"cpu": {"quota": 50000, "period": 200000}}, "cpu", "cpu.cfs_period_us", "200000"),
    ({"cpu": {"quota": -1}}, "cpu", "cpu.cfs_quota_us", "-1"),
    pytest.param({"cpu": {"quota": 50000, "period": 100000, "burst": 20000}}, "cpu", "cpu.cfs_burst_us", "20000",
                 marks=differs_from(OLD, "no burst")),
    pytest.param({"cpu": {"idle": 1}}, "cpu", "cpu.idle", "1", marks=differs_from(OLD, "no idle")),
    ({"cpu": {"cpus": "0"}}, "cpuset", "cpuset.cpus", "0"),
    ({"cpu": {"mems": "0"}}, "cpuset", "cpuset.mems", "0"),
    ({"pids": {"limit": 42}}, "pids", "pids.max", "42"),
    ({"pids": {"limit": -1}}, "pids", "pids.max", "max"),
    ({"blockIO": {"throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 1048576}]}}, "blkio",
     "blkio.throttle.read_bps_device", "254:0 1048576"),
    ({"blockIO": {"throttleWriteBpsDevice": [{"major": 254, "minor": 0, "rate": 2097152}]}}, "blkio",
     "blkio.throttle.write_bps_device", "254:0 2097152"),
    ({"blockIO": {"throttleReadIOPSDevice": [{"major": 254, "minor": 0, "rate": 100}]}}, "blkio",
     "blkio.throttle.read_iops_device", "254:0 100"),
    ({"blockIO": {"throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 200}]}}, "blkio",
     "blkio.throttle.write_iops_device", "254:0 200"),
], ids=lambda v: json.dumps(v) if isinstance(v, dict) else "")
def test_rs_values_v1(runtime, bundle, resources, controller, name, expected):
    if "blkio" in name and not os.path.exists("/sys/dev/block/254:0"):
        pytest.skip("no such disk")
    b = bundle("true", linux={"resources": resources})
    runtime.create(b).ok()
    text = value(b, controller, name)
    assert text == expected or expected in text.splitlines(), text


@needs_v1
def test_rs13_cpuset_of_the_parents_is_copied(runtime, bundle):
    b = bundle("true")
    b.linux["cgroupsPath"] = f"/{host.CGROUP_PARENT}/{b.id}/fresh/leaf"
    runtime.create(b).ok()
    assert value(b, "cpuset", "cpuset.cpus") == host.read(f"{host.CGROUP_ROOT}/cpuset/cpuset.cpus").strip()
    runtime.delete(b).ok()
    host.purge_cgroups(b.id)


@needs_v1
@differs_from("runc", "ignored or made 1 (GP-15)")
def test_gp15_pids_limit_zero(runtime, bundle):
    """0 is a valid limit: what is there goes on, nothing can fork."""
    b = bundle("/bin/probe", "fork", "5", linux={"resources": {"pids": {"limit": 0}}})
    runtime.create(b).ok()
    assert value(b, "pids", "pids.max") == "0"
    runtime.start(b).ok()
    runtime.wait_stopped(b)
    assert b.out() == "0\n"


@needs_v1
@differs_from("runc", "its helpers are counted, or 0 is made 1 (GP-15)")
@pytest.mark.parametrize("limit", [0, 1])
@pytest.mark.parametrize("kind", ["host", "joined"])
def test_rs15_a_limit_of_one_without_a_pid_namespace_of_its_own(runtime, bundle, limit, kind):
    """Whoever clones the one process must not be counted with it."""
    pod = bundle()
    pid = runtime.idle(pod)
    b = bundle("/bin/probe", "fork", "5", linux={"resources": {"pids": {"limit": limit}}}).without_namespace("pid")
    if kind == "joined":
        b.namespace("pid", f"/proc/{pid}/ns/pid")
    assert runtime.run(b).out == "0\n"
    b = bundle("/bin/probe", "idle", linux={"resources": {"pids": {"limit": limit}}}).without_namespace("pid")
    runtime.idle(b)
    assert value(b, "pids", "pids.max") == str(limit)


@needs_v1
@differs_from("runc", "names no limit")
def test_exec_into_a_full_container_says_so(runtime, bundle):
    b = bundle(linux={"resources": {"pids": {"limit": 2}}})
    runtime.idle(b)
    runtime.exec(b, ["true"]).fails("process limit is used up", "pids.max is 2 and pids.current 1", code=255)
    runtime.call("update", "--pids-limit", "3", b.id).ok()
    runtime.exec(b, ["true"]).ok()


@needs_v1
def test_rs15_pids_limit_works(runtime, bundle):
    b = bundle("/bin/probe", "fork", "20", linux={"resources": {"pids": {"limit": 5}}})
    assert runtime.run(b).out == "4\n"


@needs_v1
def test_rs01_memory_limit_works(runtime, bundle):
    b = bundle("/bin/probe", "allocate", "100", linux={"resources": {"memory": {"limit": 30 * MIB, "swap": 30 * MIB}}})
    result = runtime.run(b)
    assert result.code == 137 and "allocated" not in result.out, result


@needs_v1
@pytest.mark.parametrize("memory", [{"limit": 64 * MIB, "swap": 32 * MIB}, {"swap": 32 * MIB}], ids=str)
def test_rs03_swap_below_the_limit_is_an_error(runtime, bundle, memory):
    result = runtime.run(bundle("true", linux={"resources": {"memory": memory}}))
    assert result.code == 1 or "limit" not in memory, result


@needs_v1
@differs_from(OLD, "writes them")
def test_rs04_kernel_memory_is_a_warning(runtime, bundle):
    result = runtime.run(bundle("true", linux={"resources": {"memory": {"kernel": 64 * MIB, "kernelTCP": 64 * MIB}}})).ok()
    assert any("ernel" in text for text in result.warnings), result


@needs_v1
@differs_from(OLD, "other wording")
def test_cr14_limit_below_what_init_needs(runtime, bundle):
    result = runtime.run(bundle("true", linux={"resources": {"memory": {"limit": 4096}}}))
    assert result.code == 1 and ("memory" in result.message or "OOM" in result.message), result
    assert os.listdir(runtime.root) == []


@needs_v1
@pytest.mark.parametrize("resources, texts", [
    ({"cpu": {"cpus": "4096"}}, ["cpuset.cpus"]), ({"cpu": {"cpus": "banana"}}, ["cpuset.cpus"]),
    ({"memory": {"swappiness": 200}}, ["swappiness"]), ({"blockIO": {"weight": 5}}, ["weight"]),
    pytest.param({"unified": {"pids.max": "7"}}, ["invalid configuration: cannot use unified on cgroup v1"], id="RS-24"),
    pytest.param({"network": {"classID": 7}}, ["cannot set net_cls limit: container could not join or create cgroup"],
                 id="RS-21", marks=pytest.mark.skipif(os.path.isdir("/sys/fs/cgroup/net_cls"), reason="the host has it")),
    ({"hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, ["3MB"]),
    ({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}, []),
], ids=lambda v: json.dumps(v) if isinstance(v, dict) else "")
def test_bad_resources_name_the_file_and_leave_nothing(runtime, bundle, resources, texts):
    if runtime.peer and ("hugepageLimits" in resources or "blockIO" in resources or "memory" in resources):
        pytest.skip("runc ignores or words it differently")
    result = runtime.create(bundle("true", linux={"resources": resources}))
    assert result.code == 1, result
    assert all(text in result.message for text in texts), result
    assert os.listdir(runtime.root) == []


@needs_v1
def test_limits_are_in_place_before_the_hooks(runtime, bundle, work):
    """HK-03: prestart sees the limits."""
    b = bundle("true", linux={"resources": {"pids": {"limit": 33}}})
    b.hook("prestart", f"cat {b.cgroup('pids')}/pids.max > {work}/seen; head -1 {b.cgroup('pids')}/cgroup.procs > {work}/pid")
    runtime.run(b).ok()
    assert host.read(f"{work}/seen").strip() == "33"
    assert host.read(f"{work}/pid").strip()


# --- freeze and kill -------------------------------------------------------------------------------------------------

@needs_v1
def test_rs27_pause_freezes_everything(runtime, bundle):
    b = bundle("sh", "-c", "(while :; do echo x; sleep 0.01; done) & (while :; do echo y; sleep 0.01; done) & wait")
    runtime.up(b)
    host.eventually(lambda: "x" in b.out() and "y" in b.out())
    runtime.call("pause", b.id).ok()
    size = len(b.out())
    time.sleep(0.1)
    assert len(b.out()) == size
    runtime.call("resume", b.id).ok()
    host.eventually(lambda: len(b.out()) > size)


@needs_v1
def test_rs27_pause_with_a_frozen_sub_cgroup(runtime, bundle):
    """runc #2105: an inner frozen cgroup must not block delete."""
    b = bundle()
    runtime.idle(b)
    inner = f"{b.cgroup('freezer')}/inner"
    os.mkdir(inner)
    with open(os.devnull, "wb") as out:
        runtime.exec(b, "-d", "--pid-file", f"{b.path}/pid", ["sleep", "1000"], stdout=out, stderr=out).ok()
    with open(f"{inner}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(host.read(f"{b.path}/pid"))
    with open(f"{inner}/freezer.state", "w", encoding="ascii") as file:
        file.write("FROZEN")
    if runtime.peer:
        with open(f"{inner}/freezer.state", "w", encoding="ascii") as file:
            file.write("THAWED")
    result = runtime.delete(b, "--force", timeout=15).ok()
    assert result.seconds < 10
    assert host.cgroup_dirs(b.id) == []


def test_rs28_fork_bomb_is_killed(runtime, bundle):
    b = bundle("sh", "-c", "while :; do sleep 1000 & done 2>/dev/null", linux={"resources": {"pids": {"limit": 100}}})
    b.without_namespace("pid")
    runtime.up(b)
    host.eventually(lambda: len(host.cgroup_procs(b.cgroup("pids"))) > 50)
    result = runtime.delete(b, "--force", timeout=15).ok()
    assert result.seconds < 8
    assert host.cgroup_dirs(b.id) == []


# --- update, as podman and docker call it ----------------------------------------------------------------------------

@needs_v1
def test_up01_resources_from_stdin_and_file(runtime, bundle, work):
    b = bundle(linux={"resources": {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}}})
    runtime.idle(b)
    change = json.dumps({"memory": {"limit": 48 * MIB}})
    runtime.call("update", "--resources", "-", b.id, stdin=change).ok()
    assert (value(b, "memory", "memory.limit_in_bytes"), value(b, "pids", "pids.max")) == (str(48 * MIB), "50")
    with open(f"{work}/r.json", "w", encoding="ascii") as file:
        json.dump({"pids": {"limit": 60}, "cpu": {"shares": 200}}, file)
    runtime.call("update", f"--resources={work}/r.json", b.id).ok()
    assert (value(b, "pids", "pids.max"), value(b, "cpu", "cpu.shares")) == ("60", "200")
    assert value(b, "memory", "memory.limit_in_bytes") == str(48 * MIB)


@needs_v1
def test_up06_devices_are_never_touched(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    before = value(b, "devices", "devices.list")
    runtime.call("update", "-r", "-", b.id, stdin=json.dumps({"pids": {"limit": 60}, "devices": [{"allow": True, "access": "rwm"}]})).ok()
    assert value(b, "devices", "devices.list") == before
    runtime.exec(b, ["sh", "-c", "head -c 1 /dev/zero > /dev/null"]).ok()


@needs_v1
@pytest.mark.parametrize("first, second", [(64, 128), (128, 64)])
def test_up06_memory_and_swap_in_both_directions(runtime, bundle, first, second):
    b = bundle(linux={"resources": {"memory": {"limit": first * MIB, "swap": first * MIB}}})
    runtime.idle(b)
    change = json.dumps({"memory": {"limit": second * MIB, "swap": second * MIB}})
    runtime.call("update", "-r", "-", b.id, stdin=change).ok()
    assert value(b, "memory", "memory.limit_in_bytes") == value(b, "memory", "memory.memsw.limit_in_bytes") == str(second * MIB)


@needs_v1
def test_up08_paused_and_stopped(runtime, bundle):
    b = bundle()
    runtime.idle(b)
    runtime.call("pause", b.id).ok()
    runtime.call("update", "-r", "-", b.id, stdin='{"pids": {"limit": 60}}').ok()
    runtime.kill(b).ok()
    runtime.wait_stopped(b)
    runtime.call("update", "-r", "-", b.id, stdin='{"pids": {"limit": 60}}').fails("container not running")


@needs_v1
def test_v1_create_joins_through_tasks(runtime, bundle, work):
    """Design: init writes 0 to each `tasks`; never nine cgroup.procs by the parent."""
    if runtime.peer:
        pytest.skip("runc writes cgroup.procs")
    b = bundle("true").write()
    runtime.track(b.id)
    trace = ["strace", "-D", "-f", "-y", "-o", f"{work}/trace", "-e", "trace=write,openat,openat2"]
    runtime.in_view(trace).call("create", "--bundle", b.path, b.id).ok()
    writes = [line for line in host.read(f"{work}/trace").splitlines() if " write(" in line and "cgroup.procs" in line]
    assert not writes, writes[:3]
    assert subprocess.run(["grep", "-c", "/tasks>", f"{work}/trace"], capture_output=True, check=False).stdout.strip() != b"0"
