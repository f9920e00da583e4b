"""Namespaces: new, inherited, joined by path; id mappings; time offsets; the view of the cgroup namespace (LX-01…06)."""
import json
import os
import subprocess

import pytest

from lib import host
from lib.bundle import DROP
from lib.cgroups import needs_v1
from lib.marks import OLD, differs_from

PROC_NAMES = {"pid": "pid", "network": "net", "mount": "mnt", "ipc": "ipc", "uts": "uts", "user": "user",
              "cgroup": "cgroup", "time": "time"}


def own(kind):
    return os.readlink(f"/proc/self/ns/{PROC_NAMES[kind]}")


@pytest.fixture
def holder():
    """holder("--net"): a process in new namespaces, whose /proc/PID/ns files can be joined."""
    processes = []

    def make(*flags):
        process = subprocess.Popen(["unshare", *flags, "sleep", "1000"])
        processes.append(process)
        host.eventually(lambda: host.read(f"/proc/{process.pid}/comm") == "sleep\n")
        return process.pid
    yield make
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["pid", "network", "mount", "ipc", "uts", "cgroup",
                                  pytest.param("time", marks=differs_from(OLD, "unknown"))])
def test_lx01_new_namespace(runtime, bundle, kind):
    b = bundle().namespace(kind)
    assert runtime.probe(b)["ns"][PROC_NAMES[kind]] != own(kind)


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "user", "time"])
def test_lx01_unlisted_namespace_is_inherited(runtime, bundle, kind):
    b = bundle().without_namespace(kind)
    if kind == "uts":
        del b.config["hostname"]
    if kind == "network":
        b.without_mount("/sys").mount("/sys", "/sys", "bind", ["rbind", "ro"])
    if kind == "ipc":
        b.without_mount("/dev/mqueue")
    assert runtime.probe(b)["ns"][PROC_NAMES[kind]] == own(kind)


def test_lx01_pid_1_and_what_it_sees(runtime, bundle):
    b = bundle("sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'")
    first, count = runtime.run(b).ok().out.split()
    assert first == "1" and int(count) <= 4


def test_lx_loopback_is_up(runtime, bundle):
    result = runtime.run(bundle("sh", "-c", "ip addr show lo; ip link")).ok()
    assert "127.0.0.1/8" in result.out and "UP" in result.out.split("lo:")[1].split("\n")[0]
    assert "eth" not in result.out


@pytest.mark.parametrize("kind, flag", [("network", "--net"), ("ipc", "--ipc"), ("uts", "--uts")])
def test_lx03_join_by_path(runtime, bundle, holder, kind, flag):
    path = f"/proc/{holder(flag)}/ns/{PROC_NAMES[kind]}"
    b = bundle().namespace(kind, path)
    if kind == "uts":
        b.config["hostname"] = "joined"
    assert runtime.probe(b)["ns"][PROC_NAMES[kind]] == os.readlink(path)


def test_lx03_join_of_a_bind_mounted_namespace(runtime, bundle, holder, work):
    pid = holder("--net")
    open(f"{work}/netns", "wb").close()
    host.mount(f"/proc/{pid}/ns/net", f"{work}/netns", None, host.MS_BIND)
    try:
        seen = runtime.probe(bundle().namespace("network", f"{work}/netns"))
        assert seen["ns"]["net"] == os.readlink(f"/proc/{pid}/ns/net")
    finally:
        host.umount(f"{work}/netns")


def test_lx03_join_of_another_containers_namespaces(runtime, bundle):
    first, second = bundle(), bundle()
    pid = runtime.idle(first)
    for kind in ("pid", "network", "ipc", "uts"):
        second.namespace(kind, f"/proc/{pid}/ns/{PROC_NAMES[kind]}")
    del second.config["hostname"]
    seen = runtime.probe(second)
    for kind in ("pid", "network", "ipc", "uts"):
        assert seen["ns"][PROC_NAMES[kind]] == os.readlink(f"/proc/{pid}/ns/{PROC_NAMES[kind]}")
    assert seen["pid"] > 1
    assert runtime.status(first) == "running"


def test_lx03_container_in_a_joined_pid_namespace_is_killed_whole(runtime, bundle):
    first, second = bundle(), bundle()
    pid = runtime.idle(first)
    second.namespace("pid", f"/proc/{pid}/ns/pid")
    runtime.idle(second)
    with open(os.devnull, "wb") as out:
        runtime.exec(second, "-d", ["sleep", "1000"], stdout=out, stderr=out).ok()
    runtime.delete(second, "--force").ok()
    assert host.cgroup_dirs(second.id) == []
    assert runtime.status(first) == "running"


def test_lx03_wrong_type_fails(runtime, bundle, holder):
    pid = holder("--net", "--ipc")
    b = bundle("true").namespace("network", f"/proc/{pid}/ns/ipc")
    runtime.run(b).fails("run failed: ")


@pytest.mark.parametrize("path", ["relative/ns", "/proc/1/ns/a,b"])
def test_lx03_bad_paths(runtime, bundle, path):
    runtime.run(bundle("true").namespace("network", path)).fails("run failed: ")


def test_lx03_file_that_is_no_namespace(runtime, bundle, work):
    open(f"{work}/file", "wb").close()
    runtime.run(bundle("true").namespace("network", f"{work}/file")).fails("run failed: ")


def test_kd15_joined_namespace_survives_delete(runtime, bundle, holder):
    pid = holder("--net")
    b = bundle("true").namespace("network", f"/proc/{pid}/ns/net")
    runtime.run(b).ok()
    assert host.alive(pid) and os.path.exists(f"/proc/{pid}/ns/net")


# --- user namespaces -------------------------------------------------------------------------------------------------

def id_map(pid, kind="uid"):
    return [tuple(map(int, line.split())) for line in host.read(f"/proc/{pid}/{kind}_map").splitlines()]


def test_lx05_mappings(runtime, bundle):
    b = bundle().user_namespace(100000, 65536)
    b.linux["gidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 10},
                              {"containerID": 10, "hostID": 200000, "size": 5}]
    pid = runtime.idle(b)
    assert id_map(pid) == [(0, 100000, 65536)]
    assert id_map(pid, "gid") == [(0, 100000, 10), (10, 200000, 5)]
    assert os.stat(f"/proc/{pid}").st_uid == 100000
    seen = runtime.exec_probe(b)
    assert (seen["uids"], seen["gids"]) == ([0] * 3, [0] * 3)


def test_lx05_many_mappings(runtime, bundle):
    b = bundle("/bin/probe").user_namespace()
    b.linux["uidMappings"] = [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(300)]
    seen = json.loads(runtime.run(b).ok().out)
    assert seen["uids"] == [0] * 3


def test_lx05_program_runs_as_a_mapped_user(runtime, bundle):
    b = bundle(process={"user": {"uid": 1000, "gid": 1000, "additionalGids": [1234]}}).user_namespace()
    seen = runtime.probe(b)
    assert (seen["uids"], seen["gids"]) == ([1000] * 3, [1000] * 3)
    assert 1234 in seen["groups"]


def test_lx05_root_of_the_container_owns_its_files(runtime, bundle):
    b = bundle("sh", "-c", "touch /new; stat -c %u /new /dev/null /dev/pts /proc/1").writable().user_namespace()
    lines = runtime.run(b).ok().out.split()
    assert lines[0] == "0" and lines[3] == "0"
    assert os.stat(f"{b.rootfs}/new").st_uid == 100000


def test_lx05_all_namespaces_belong_to_the_user_namespace(runtime, bundle):
    """The hostname may be changed with CAP_SYS_ADMIN of the new user namespace."""
    b = bundle("sh", "-c", "hostname changed && hostname").user_namespace().add_capabilities("CAP_SYS_ADMIN")
    runtime.run(b).ok("changed\n")


def test_lx05_capabilities_in_a_user_namespace_are_full(runtime, bundle):
    b = bundle().user_namespace()
    names = [f"CAP_{n}" for n in ("CHOWN", "SYS_ADMIN", "NET_ADMIN", "SETPCAP")]
    b.process["capabilities"] = {kind: names for kind in ("bounding", "effective", "permitted")}
    seen = runtime.probe(b)
    assert int(seen["status"]["CapEff"], 16) == (1 << 0) | (1 << 21) | (1 << 12) | (1 << 8)


def test_lx05_rootfs_the_mapped_root_may_not_read(runtime, bundle, work):
    """MT-21: sources below a directory only the host's root may enter."""
    os.mkdir(f"{work}/secret", 0o700)
    os.mkdir(f"{work}/secret/dir", 0o755)
    with open(f"{work}/secret/dir/file", "w", encoding="ascii") as file:
        file.write("shown\n")
    b = bundle("cat", "/mnt/file").user_namespace().mount("/mnt", f"{work}/secret/dir", "bind", ["bind", "ro"])
    runtime.run(b).ok("shown\n")


@differs_from(OLD, "wants mappings")
def test_lx05_join_of_another_containers_user_namespace(runtime, bundle):
    first, second = bundle().user_namespace(), bundle().user_namespace()
    pid = runtime.idle(first)
    second.namespace("user", f"/proc/{pid}/ns/user")
    del second.linux["uidMappings"], second.linux["gidMappings"]
    seen = runtime.probe(second)
    assert seen["ns"]["user"] == os.readlink(f"/proc/{pid}/ns/user")
    assert seen["uids"] == [0] * 3


@differs_from(OLD, "leaves the group to nobody")
def test_mt20_message_queues_belong_to_the_containers_root(runtime, bundle):
    b = bundle("sh", "-c", "stat -c '%u:%g %a' /dev/mqueue; readlink /proc/self/ns/ipc").user_namespace()
    owner, ipc = runtime.run(b).ok().out.splitlines()
    assert owner == "0:0 1777" and ipc != os.readlink("/proc/self/ns/ipc")


def test_lx05_devices_in_a_user_namespace(runtime, bundle):
    """mknod is not possible there: the host's nodes are bound."""
    seen = runtime.probe(bundle().user_namespace())
    assert seen["dev"]["null"]["type"] == "c"
    assert (seen["dev"]["null"]["major"], seen["dev"]["null"]["minor"]) == (1, 3)


def test_lx05_setgroups_stays_possible(runtime, bundle):
    b = bundle().user_namespace()
    pid = runtime.idle(b)
    assert host.read(f"/proc/{pid}/setgroups").strip() == "allow"


# --- time and cgroup namespaces --------------------------------------------------------------------------------------

@differs_from(OLD, "no time namespaces")
def test_lx06_offsets(runtime, bundle):
    import time
    b = bundle("/bin/probe", "clocks", linux={"timeOffsets": {"monotonic": {"secs": 7881, "nanosecs": 2718},
                                                              "boottime": {"secs": 1337, "nanosecs": 3141}}})
    b.namespace("time")
    before = time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)
    monotonic, boot = map(int, runtime.run(b).ok().out.split())
    assert 7880 <= monotonic - before[0] <= 7900
    assert 1336 <= boot - before[1] <= 1356


@differs_from(OLD, "no time namespaces")
def test_lx06_offsets_in_a_user_namespace(runtime, bundle):
    b = bundle(linux={"timeOffsets": {"boottime": {"secs": 1000}}}).namespace("time").user_namespace()
    pid = runtime.idle(b)
    assert any(line.split()[:2] == ["boottime", "1000"] for line in host.read(f"/proc/{pid}/timens_offsets").splitlines())


@needs_v1
def test_cgroup_namespace_is_rooted_at_the_containers_cgroup(runtime, bundle):
    b = bundle().namespace("cgroup")
    seen = runtime.probe(b)
    lines = {line.split(":")[1]: line.split(":", 2)[2] for line in seen["cgroup"]}
    for controller in ("memory", "pids", "cpu", "devices"):
        assert lines[controller] == "/", lines


@needs_v1
def test_cgroup_namespace_mounts_show_the_own_directory(runtime, bundle):
    b = bundle("sh", "-c", "cat /sys/fs/cgroup/pids/cgroup.procs").namespace("cgroup")
    result = runtime.run(b).ok()
    assert "1" in result.out.split()


@needs_v1
def test_exec_joins_the_cgroup_namespace(runtime, bundle):
    b = bundle().namespace("cgroup")
    pid = runtime.idle(b)
    seen = runtime.exec_probe(b)
    assert seen["ns"]["cgroup"] == os.readlink(f"/proc/{pid}/ns/cgroup")
    lines = {line.split(":")[1]: line.split(":", 2)[2] for line in seen["cgroup"]}
    assert lines["pids"] == "/"


# --- the host's mount namespace --------------------------------------------------------------------------------------

@differs_from(OLD, "needs /proc")
def test_tl10_minimal_config(runtime, bundle):
    """Only a mount namespace; nothing is masked or limited."""
    b = bundle("echo", "hi", hostname=DROP)
    b.config["linux"] = {"namespaces": [{"type": "mount"}], "cgroupsPath": b.linux["cgroupsPath"]}
    b.config["mounts"] = []
    runtime.run(b).ok("hi\n")


def chroot_bundle(bundle, *args):
    b = bundle(*args, mounts=[]).writable()
    b.config["linux"] = {"namespaces": [{"type": "pid"}, {"type": "uts"}], "cgroupsPath": b.linux["cgroupsPath"]}
    return b


@differs_from("runc", "mounts on the host, and exec leaves the root file system")
def test_hk11_a_chroot_in_the_hosts_mount_namespace(runtime, bundle, work):
    """Processes see the rootfs, init and exec alike; the host's mounts are as before."""
    mounts = host.mount_table()
    b = chroot_bundle(bundle)
    with open(f"{b.rootfs}/etc/mark", "w", encoding="ascii") as file:
        file.write("here")
    pid = runtime.idle(b)
    assert os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    assert os.readlink(f"/proc/{pid}/root") == b.rootfs and os.readlink(f"/proc/{pid}/cwd") == b.rootfs
    seen = runtime.exec(b, ["sh", "-c", "cat /etc/mark; echo; pwd; echo > /dev/null && cd / && ls -d /gantry* ..; hostname"])
    assert seen.out.split() == ["here", "/", "..", "box"], seen
    assert host.mount_table() == mounts
    runtime.delete(b, "--force").ok()
    assert host.mount_table() == mounts


@pytest.mark.parametrize("change, text", [
    ({"mounts": [{"destination": "/proc", "type": "proc"}]}, "mounts[0] /proc: would be mounted on the host"),
    ({"root": {"readonly": True}}, "root.readonly: would be mounted on the host"),
    ({"linux": {"rootfsPropagation": "slave"}}, "linux.rootfsPropagation: would change the host's mounts"),
])
@differs_from("runc", "mounts on the host")
def test_hk11_what_would_touch_the_hosts_mounts_is_refused(runtime, bundle, change, text):
    b = chroot_bundle(bundle, "true")
    for key, value in change.items():
        if isinstance(value, dict):
            b.config[key].update(value)
        else:
            b.config[key] = value
    mounts = host.mount_table()
    runtime.run(b).fails(text)
    assert host.mount_table() == mounts


@differs_from("runc", "changes the files that are in the way")
def test_hk11_files_of_the_host_are_not_replaced(runtime, bundle):
    b = chroot_bundle(bundle, "true")
    for name in ("ptmx", "fd", "core"):
        with open(f"{b.rootfs}/dev/{name}", "w", encoding="ascii") as file:
            file.write("mine")
    runtime.run(b).ok()
    for name in ("ptmx", "fd", "core"):
        assert host.read(f"{b.rootfs}/dev/{name}") == "mine"


@differs_from("runc", "changes the root of the host")
def test_joining_the_hosts_mount_namespace_is_refused(runtime, bundle):
    path = "/proc/self/ns/mnt"
    b = bundle("true").namespace("mount", path)
    mounts = host.mount_table()
    runtime.run(b).fails(f"linux.namespaces: mount {path}: is the mount namespace of the host")
    assert host.mount_table() == mounts


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_lx15_paths_need_a_mount_namespace(runtime, bundle, key):
    b = bundle("true", hostname=DROP, mounts=[])
    b.config["linux"] = {"namespaces": [{"type": "pid"}], "cgroupsPath": b.linux["cgroupsPath"], key: ["/x"]}
    runtime.run(b).fails("unable to restrict sys entries without a private MNT namespace")
