"""A host with cgroup2 only: all verbs, device rules by eBPF, unified, delegation (CG, RS, MT-16, EX-23)."""
import json
import os
import sys

import pytest

from lib import host, outer_filter
from lib.cgroups import MIB, V1, memberships
from lib.marks import OLD, differs_from

# A mount namespace in which cgroup2 is all there is (with the controllers that v1 leaves over: hugetlb).
V2_VIEW = ["unshare", "-m", "--propagation", "private", "sh", "-c",
           'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "sh"]


@pytest.fixture
def v2(runtime):
    return runtime.in_view(V2_VIEW) if V1 else runtime


def v2_directory(b):
    return f"{host.CGROUP_ROOT}{'/unified' if V1 else ''}{b.linux['cgroupsPath']}"


def test_v2_life(v2, bundle):
    b = bundle("/bin/probe", "idle")
    v2.create(b).ok()
    pid = v2.state(b)["pid"]
    assert memberships(pid)[""] == b.linux["cgroupsPath"]
    v2.start(b).ok()
    host.eventually(lambda: "ready" in b.out())
    assert json.loads(v2.call("ps", "-f", "json", b.id).ok().out) == [pid]
    v2.kill(b).ok()
    v2.wait_stopped(b)
    v2.delete(b).ok()
    assert not os.path.exists(v2_directory(b))


def test_v2_run(v2, bundle):
    v2.run(bundle("echo", "hi")).ok("hi\n")


def test_v2_exec_is_in_the_cgroup(v2, bundle):
    b = bundle()
    v2.idle(b)
    seen = v2.exec_probe(b)
    assert f"0::{b.linux['cgroupsPath']}" in seen["cgroup"]


def test_v2_cgroup_namespace(v2, bundle):
    b = bundle().namespace("cgroup")
    seen = v2.probe(b)
    assert "0::/" in seen["cgroup"]
    lines = [line for line in seen["mounts"] if line.split()[4] == "/sys/fs/cgroup"]
    assert " - cgroup2 " in lines[-1] and "ro" in lines[-1].split()[5].split(",")


def test_v2_without_clone3_the_process_joins_by_itself(v2, bundle):
    """There is no CLONE_INTO_CGROUP then; the cgroup namespace must still have its root there."""
    hidden = v2.in_view([*v2.prefix, sys.executable, outer_filter.__file__, "clone3", "ENOSYS"])
    b = bundle().namespace("cgroup")
    pid = hidden.idle(b)
    assert memberships(pid)[""] == b.linux["cgroupsPath"]
    assert "0::/" in hidden.exec_probe(b)["cgroup"]
    assert "0::/" in hidden.probe(bundle().namespace("cgroup").user_namespace())["cgroup"]


def test_v2_mount_without_namespace_shows_the_own_cgroup(v2, bundle):
    """MT-16: the container's directory is bound."""
    b = bundle("cat", "/sys/fs/cgroup/cgroup.procs").namespace("cgroup")
    assert v2.run(b).ok().out.split() == ["1"]


def test_v2_pause_and_resume(v2, bundle):
    b = bundle()
    v2.idle(b)
    v2.call("pause", b.id).ok()
    assert "frozen 1" in host.read(f"{v2_directory(b)}/cgroup.events")
    assert v2.status(b) == "paused"
    v2.exec(b, ["true"]).fails("paused", code=255)
    v2.call("resume", b.id).ok()
    assert v2.status(b) == "running"


def test_v2_delete_force_of_a_paused_container(v2, bundle):
    b = bundle()
    v2.idle(b)
    v2.call("pause", b.id).ok()
    v2.delete(b, "--force").ok()
    assert not os.path.exists(v2_directory(b))


@differs_from(OLD, "leaves the cgroup")
def test_v2_kill_reaches_all_with_a_shared_pid_namespace(v2, bundle):
    b = bundle("/bin/probe", "background").without_namespace("pid")
    v2.up(b)
    v2.wait_stopped(b)
    daemon = int(b.out().split()[0])
    v2.delete(b, "--force").ok()
    host.eventually(lambda: not host.alive(daemon))


@pytest.mark.parametrize("rules, out", [
    ([{"allow": False, "access": "rwm"}], "no"),
    ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rw"}], "yes"),
    ([{"allow": True, "access": "rwm"}], "yes"),
    ([{"allow": True, "access": "rwm"}, {"allow": False, "type": "b", "major": 7, "access": "r"}], "no"),
], ids=["deny all", "allow one", "allow all", "deny major"])
def test_v2_device_rules(v2, bundle, rules, out):
    if not os.path.exists("/dev/loop0"):
        pytest.skip("no loop device")
    # The v1 devices hierarchy of the host must not be what decides.
    b = bundle("sh", "-c", "head -c 0 /dev/blk 2>/dev/null && echo yes || echo no; head -c 1 /dev/zero | wc -c")
    b.linux["devices"] = [{"path": "/dev/blk", "type": "b", "major": 7, "minor": 0, "fileMode": 0o666}]
    b.linux["resources"]["devices"] = rules
    v2.run(b).ok(f"{out}\n1\n")


@differs_from(OLD, "no rsvd")
def test_v2_hugetlb(v2, bundle):
    if "hugetlb" not in host.read(f"{host.CGROUP_ROOT}{'/unified' if V1 else ''}/cgroup.controllers"):
        pytest.skip("no hugetlb controller")
    b = bundle("true", linux={"resources": {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}})
    v2.create(b).ok()
    assert host.read(f"{v2_directory(b)}/hugetlb.2MB.max").strip() == str(4 * MIB)
    assert host.read(f"{v2_directory(b)}/hugetlb.2MB.rsvd.max").strip() == str(4 * MIB)


def test_rs24_unified_key(v2, bundle):
    b = bundle("true", linux={"resources": {"unified": {"hugetlb.2MB.max": "6291456"}}})
    v2.create(b).ok()
    assert host.read(f"{v2_directory(b)}/hugetlb.2MB.max").strip() == "6291456"


@pytest.mark.parametrize("key, text", [
    ("a/b", 'unified resource "a/b" must be a file name (no slashes)'),
    ("word", "must be in the form CONTROLLER.PARAMETER"),
    ("nope.max", "controller \"nope\" not available")])
def test_rs24_bad_unified_keys(v2, bundle, key, text):
    v2.create(bundle("true", linux={"resources": {"unified": {key: "1"}}})).fails(text)
    assert os.listdir(v2.root) == []


@pytest.mark.skipif(not V1, reason="needs controllers that the view lacks")
def test_rs26_limits_of_a_missing_controller_are_an_error(v2, bundle):
    result = v2.create(bundle("true", linux={"resources": {"memory": {"limit": 64 * MIB}}}))
    assert result.code == 1 and "memory" in result.message, result
    assert os.listdir(v2.root) == []


def test_v2_sub_cgroups_are_removed(v2, bundle):
    b = bundle()
    v2.idle(b)
    os.makedirs(f"{v2_directory(b)}/a/b/c")
    v2.delete(b, "--force").ok()
    assert not os.path.exists(v2_directory(b))


@differs_from(OLD, "accepts it with a warning")
def test_cr13_v2_non_empty(v2, bundle):
    first, second = bundle(), bundle("true")
    v2.idle(first)
    second.linux["cgroupsPath"] = first.linux["cgroupsPath"]
    v2.create(second).fails("container's cgroup is not empty")


def test_cr13_v2_frozen(v2, bundle):
    b = bundle("true")
    os.makedirs(v2_directory(b))
    with open(f"{v2_directory(b)}/cgroup.freeze", "w", encoding="ascii") as file:
        file.write("1")
    try:
        v2.create(b).fails("container's cgroup unexpectedly frozen")
    finally:
        host.purge_cgroups(b.id)


def test_v2_exec_when_init_moved_itself(v2, bundle):
    """EX-23: a program that made sub-cgroups with controllers leaves its own directory unjoinable."""
    b = bundle()
    pid = v2.idle(b)
    if not host.pass_controllers_on(v2_directory(b), pid):
        pytest.skip("no controller to delegate")
    assert f"0::{b.linux['cgroupsPath']}/moved" in v2.exec_probe(b)["cgroup"]


@differs_from(OLD, "other wording")
def test_v2_exec_into_a_sub_cgroup(v2, bundle):
    b = bundle()
    v2.idle(b)
    os.mkdir(f"{v2_directory(b)}/sub")
    seen = json.loads(v2.exec(b, "--cgroup", "sub", ["/bin/probe"]).ok().out)
    assert f"0::{b.linux['cgroupsPath']}/sub" in seen["cgroup"]
    v2.exec(b, "--cgroup", "../x", ["true"]).fails("bad sub cgroup path", code=255)


@differs_from(OLD, "does not chown it")
def test_cg07_delegation(v2, bundle):
    """A private cgroup namespace with a writable mount: the directory belongs to the container's root."""
    b = bundle().namespace("cgroup").user_namespace()
    next(m for m in b.config["mounts"] if m["destination"] == "/sys/fs/cgroup")["options"].remove("ro")
    v2.idle(b)
    assert os.stat(v2_directory(b)).st_uid == 100000
    assert os.stat(f"{v2_directory(b)}/cgroup.procs").st_uid == 100000
    plain = bundle()
    v2.idle(plain)
    assert os.stat(v2_directory(plain)).st_uid == 0


def test_v2_create_never_writes_pids_of_init(v2, bundle, work):
    """Design: CLONE_INTO_CGROUP, the engine does not move init by cgroup.procs."""
    if v2.peer:
        pytest.skip("runc writes cgroup.procs")
    b = bundle("true").write()
    v2.track(b.id)
    trace = [*v2.prefix, "strace", "-D", "-f", "-o", f"{work}/trace", "-e", "trace=openat,openat2,clone3"]
    v2.in_view(trace).call("create", "--bundle", b.path, b.id).ok()
    text = host.read(f"{work}/trace")
    assert "CLONE_INTO_CGROUP" in text or "0x200000000" in text
    writes = [line for line in text.splitlines() if "cgroup.procs" in line and "O_WRONLY" in line]
    assert not writes, writes
