"""Device nodes, default links and their identity (LX-07…09, GP-06)."""
import os
import stat

import pytest

from lib import host
from lib.marks import differs_from

DEFAULTS = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
LINKS = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
         "stderr": "/proc/self/fd/2"}


def node(path, kind="c", major=1, minor=3, **more):
    return {"path": path, "type": kind, "major": major, "minor": minor, **more}


def allow_all(b):
    b.linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    return b


def test_lx08_default_nodes_and_links(runtime, bundle):
    seen = runtime.probe(bundle(), umask=0o77)["dev"]
    for name, number in DEFAULTS.items():
        entry = seen[name]
        assert (entry["type"], entry["major"], entry["minor"]) == ("c", *number), name
        assert entry["mode"] == 0o666 and (entry["uid"], entry["gid"]) == (0, 0), name
    for name, target in LINKS.items():
        assert seen[name]["link"] == target, name
    assert "console" not in seen


@pytest.mark.parametrize("device, kind", [
    (node("/dev/one", "c", 1, 5), "c"), (node("/dev/two", "u", 1, 5), "c"), (node("/dev/blk", "b", 7, 0), "b"),
    ({"path": "/dev/pipe", "type": "p"}, "p")], ids=lambda v: v["type"] if isinstance(v, dict) else "")
def test_lx07_types(runtime, bundle, device, kind):
    entry = runtime.probe(allow_all(bundle(linux={"devices": [device]})))["dev"][device["path"][5:]]
    assert entry["type"] == kind
    if kind != "p":
        assert (entry["major"], entry["minor"]) == (device["major"], device["minor"])


def test_lx07_mode_and_owner(runtime, bundle):
    devices = [node("/dev/plain"), node("/dev/own", fileMode=0o640, uid=7, gid=8)]
    seen = runtime.probe(bundle(linux={"devices": devices}), umask=0o77)["dev"]
    assert (seen["plain"]["mode"], seen["plain"]["uid"]) == (0o666, 0)
    assert (seen["own"]["mode"], seen["own"]["uid"], seen["own"]["gid"]) == (0o640, 7, 8)


def test_lx07_outside_dev_and_in_missing_directories(runtime, bundle):
    b = bundle("sh", "-c", "stat -c '%F %t:%T' /opt/nodes/null /dev/sub/dir/null").writable()
    b.linux["devices"] = [node("/opt/nodes/null"), node("/dev/sub/dir/null")]
    runtime.run(b).ok("character special file 1:3\n" * 2)


def test_lx08_config_entry_wins_over_the_default(runtime, bundle):
    b = allow_all(bundle(linux={"devices": [node("/dev/null", "c", 1, 3, fileMode=0o600)]}))
    assert runtime.probe(b)["dev"]["null"]["mode"] == 0o600


@pytest.mark.parametrize("name", ["/dev/tty", "/dev/ptmx"])
def test_at07_redundant_defaults_in_the_config(runtime, bundle, name):
    number = (5, 0) if name == "/dev/tty" else (5, 2)
    b = bundle("true", linux={"devices": [node(name, "c", *number)]})
    runtime.run(b).ok()


@differs_from("runc", "takes any existing file as it is")
@pytest.mark.parametrize("make", ["regular", "other device", "directory"])
def test_gp06_existing_node_that_does_not_match(runtime, bundle, make):
    b = bundle("true").writable()
    b.linux["devices"] = [node("/opt/null")]
    os.mkdir(f"{b.rootfs}/opt")
    path = f"{b.rootfs}/opt/null"
    if make == "regular":
        open(path, "wb").close()
    elif make == "directory":
        os.mkdir(path)
    else:
        os.mknod(path, 0o20666, os.makedev(1, 5))
    runtime.run(b).fails("/opt/null")


def test_gp06_existing_node_that_matches(runtime, bundle):
    b = bundle("true", linux={"devices": [node("/opt/null")]}).writable()
    os.mkdir(f"{b.rootfs}/opt")
    os.mknod(f"{b.rootfs}/opt/null", 0o20666, os.makedev(1, 3))
    runtime.run(b).ok()


def test_lx09_bound_dev_is_left_alone(runtime, bundle, work):
    os.mkdir(f"{work}/dev")
    os.mknod(f"{work}/dev/null", 0o20666, os.makedev(1, 3))
    open(f"{work}/dev/mine", "wb").close()
    b = bundle("ls", "/dev").without_mount("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    b.mount("/dev", f"{work}/dev", "bind", ["bind"])
    runtime.run(b).ok("mine\nnull\n")
    assert sorted(os.listdir(f"{work}/dev")) == ["mine", "null"]


@pytest.mark.parametrize("path", ["/dev/../../../escaped", "/dev/../escaped"])
def test_b_device_path_with_dots_stays_inside(runtime, bundle, work, path):
    b = bundle("true").writable()
    b.linux["devices"] = [node(path)]
    runtime.run(b)
    for outside in (f"{work}/escaped", f"{b.path}/escaped", f"{os.path.dirname(b.path)}/escaped", "/escaped"):
        assert not os.path.lexists(outside)


@pytest.mark.parametrize("change", [{"major": -1}, {"minor": -5}, {"major": 1 << 40}, {"type": "x"},
                                    {"path": ""}, {"path": "relative"}], ids=str)
def test_e_bad_devices(runtime, bundle, change):
    if runtime.peer and change != {"type": "x"}:
        pytest.skip("runc checks less")
    result = runtime.run(bundle("true", linux={"devices": [{**node("/dev/x"), **change}]}))
    assert result.code == 1 and next(iter(change)) in result.message or "linux.devices" in result.message, result


# --- what the device cgroup lets through -----------------------------------------------------------------------------


@pytest.mark.parametrize("rules, out", [
    ([{"allow": False, "access": "rwm"}], "no"),
    ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 7, "minor": 0, "access": "rw"}], "yes"),
    ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "major": 7, "minor": 1, "access": "rw"}], "no"),
    ([{"allow": True, "access": "rwm"}], "yes"),
    ([{"allow": True, "access": "rwm"}, {"allow": False, "type": "b", "major": 7, "minor": 0, "access": "r"}], "no"),
    ([{"allow": False, "access": "rwm"}, {"allow": True, "type": "b", "access": "r"}], "yes"),
], ids=["deny all", "allow one", "allow other", "allow all", "deny read", "wildcard"])
def test_rs23_device_rules(runtime, bundle, rules, out):
    if not os.path.exists("/dev/loop0"):
        pytest.skip("no loop device")
    b = bundle("sh", "-c", "head -c 0 /dev/blk 2>/dev/null && echo yes || echo no")
    b.linux["devices"] = [node("/dev/blk", "b", 7, 0, fileMode=0o666)]
    b.linux["resources"]["devices"] = rules
    runtime.run(b).ok(f"{out}\n")


def test_rs23_default_nodes_work_under_deny_all(runtime, bundle):
    b = bundle("sh", "-c", "head -c 1 /dev/zero >/dev/null; head -c 1 /dev/urandom > /dev/null && echo x > /dev/full; echo $?")
    assert runtime.run(b).ok().out == "1\n"
    # A terminal of its own instance is allowed as well.
    runtime.run(bundle("sh", "-c", ": <> /dev/ptmx && echo ok")).ok("ok\n")


def test_rs23_mknod_is_allowed_open_is_not(runtime, bundle):
    b = bundle("sh", "-c", "mknod /tmp/mem c 1 1 && echo made; head -c 1 /tmp/mem >/dev/null 2>&1 || echo refused").writable()
    b.add_capabilities("CAP_MKNOD")
    runtime.run(b).ok("made\nrefused\n")


def test_null_of_the_host_keeps_its_mode(runtime, bundle):
    before = host.null_identity()
    b = bundle("sh", "-c", "chmod 600 /dev/null; chown 5:5 /dev/null; true").add_capabilities("CAP_CHOWN", "CAP_FOWNER")
    runtime.run(b).ok()
    assert host.null_identity() == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
