"""Published escapes of runtimes, each as a deterministic test (classes A to F), and two short races."""
import hashlib
import json
import os
import signal
import stat
import subprocess

import pytest

from lib import host
from lib.marks import OLD, differs_from


@pytest.fixture
def canary(work):
    """A tree of the host that must stay as it is."""
    path = f"{work}/canary"
    os.makedirs(f"{path}/dev")
    for name in ("file", "dev/ptmx", "dev/null"):
        with open(f"{path}/{name}", "w", encoding="ascii") as file:
            file.write("intact")
        os.chmod(f"{path}/{name}", 0o600)

    def picture():
        found = []
        for directory, names, files in os.walk(path):
            for name in sorted(names + files):
                info = os.lstat(f"{directory}/{name}")
                text = host.read(f"{directory}/{name}") if stat.S_ISREG(info.st_mode) else ""
                found.append((name, info.st_ino, info.st_mode, info.st_uid, info.st_gid, text))
        return sorted(found)
    before = picture()
    yield path
    assert picture() == before


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


# --- A: the runtime itself is within reach ---------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["args", "link", "interpreter"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_cve_2019_5736_self_exe(runtime, bundle, how, verb):
    """A program that is /proc/self/exe must not execute or show a file of the host that can be written."""
    before = digest(runtime.program)
    b = bundle().writable()
    if how == "args":
        program = "/proc/self/exe"
    elif how == "link":
        os.symlink("/proc/self/exe", f"{b.rootfs}/bin/self")
        program = "/bin/self"
    else:
        b.file("bin/self", "#!/proc/self/exe\n", 0o755)
        program = "/bin/self"
    if verb == "run":
        result = runtime.run(b.args(program, "--version"), timeout=10)
    else:
        runtime.idle(b)
        result = runtime.exec(b, [program, "--version"], timeout=10)
    assert "version" not in result.out or runtime.peer, result
    assert digest(runtime.program) == before


def test_a_cve_2019_5736_overwrite_by_a_watcher(runtime, bundle):
    """A process of the container holds /proc/PID/exe of each exec and tries to write to it, also afterwards."""
    before = digest(runtime.program)
    b = bundle("sh", "-c", "echo up; while :; do for p in /proc/[0-9]*; do n=${p#/proc/}; "
                           "[ $n -gt 1 ] && (exec 9<$p/exe && printf x >/proc/self/fd/9) 2>/dev/null; done; done").writable()
    b.add_capabilities("CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE")
    runtime.up(b)
    host.eventually(lambda: "up" in b.out())
    for _ in range(5):
        runtime.exec(b, ["true"], timeout=10)
    runtime.delete(b, "--force").ok()
    assert digest(runtime.program) == before
    assert os.access(runtime.program, os.X_OK)


def watched(runtime, bundle, *capabilities):
    """What a hostile pid 1 reached of the processes that exec brings into its pid namespace."""
    b = bundle("/bin/probe", "watch", "1500").add_capabilities(*capabilities)
    # Without it the home directory is looked up in the container's /etc/passwd, which is no secret to a watcher.
    b.process["env"].append("HOME=/")
    runtime.up(b)
    host.eventually(lambda: "ready" in b.out())
    for _ in range(8):
        runtime.exec(b, ["true"], timeout=10).ok()
    host.eventually(lambda: "done" in b.out())
    return [line for line in b.out().splitlines() if line.startswith("reached")]


@differs_from(OLD, "is dumpable for a moment")
def test_a_cve_2016_9962_watcher_reaches_nothing_during_exec(runtime, bundle):
    """Root of the container, without CAP_SYS_PTRACE, looks at every new process' descriptors, directories and memory."""
    reached = watched(runtime, bundle, "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
    assert not reached, reached[:5]


@differs_from(OLD, "shows its own binary for an instant")
def test_a_watcher_with_ptrace_finds_nothing_of_the_host(runtime, bundle):
    """With CAP_SYS_PTRACE every process of the namespace is an open book: there must be nothing of the host in it."""
    reached = watched(runtime, bundle, "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
    harmless = ("/memfd:", "socket:", "pipe:", "anon_inode:", runtime.workdir)
    found = []
    for line in reached:
        what, link = line.split(" of ", 1)[0], line.rsplit(": ", 1)[-1]
        if what.endswith((" mem", " exe")) or link.startswith(harmless) or link == "own root":
            continue
        found.append(line)
    assert not found, found[:8]


@differs_from(OLD, "is dumpable for a moment")
def test_a_created_init_is_not_dumpable(runtime, bundle):
    b = bundle("true")
    runtime.create(b).ok()
    pid = runtime.state(b)["pid"]
    # Files of a process that is not dumpable belong to root of the initial namespace whatever its user is.
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0
    assert host.read(f"/proc/{pid}/environ") == "" or "SECRET" not in host.read(f"/proc/{pid}/environ")


def test_a_environment_of_the_runtime_is_not_in_init(runtime, bundle):
    b = bundle("true")
    runtime.create(b, env={"SECRET": "hidden"}).ok()
    pid = runtime.state(b)["pid"]
    if runtime.peer:
        pytest.skip("runc passes it to its init and clears it later")
    assert "SECRET" not in host.read(f"/proc/{pid}/environ")


@pytest.mark.parametrize("target", ["/proc/self/fd/{}", "/proc/1/fd/{}", "/proc/self/cwd/../fd/{}", "link:/proc/self/fd/{}"])
@pytest.mark.parametrize("verb", ["run", "exec"])
def test_a_cve_2024_21626_cwd(runtime, bundle, verb, target):
    """A working directory that names a leaked descriptor of the host: an error, or a directory of the container."""
    if runtime.peer == OLD:
        pytest.skip("vulnerable")
    b = bundle().writable()
    if verb == "exec":
        runtime.idle(b)
    for number in range(0, 14):
        path = target.format(number)
        if path.startswith("link:"):
            link = f"{b.rootfs}/link{number}"
            os.symlink(path[5:], link)
            path = f"/link{number}"
        if verb == "run":
            b.process["cwd"] = path
            result = runtime.run(b.args("/bin/probe"))
        else:
            result = runtime.exec(b, "--cwd", path, ["/bin/probe"])
        if result.code == 0:
            seen = json.loads(result.out)
            assert seen["cwd_is_inside"] and "unreachable" not in seen["cwd"], result


def test_a_program_does_not_share_the_callers_session(runtime, bundle):
    seen = runtime.probe(bundle())
    assert seen["sid"] == seen["pid"] == 1


# --- B: paths of a hostile image -------------------------------------------------------------------------------------

LINKS = ["{canary}", "../../../../../../../../..{canary}", "/proc/self/cwd/../..{canary}"]


@differs_from(OLD, "vulnerable: deletes and makes files on the host")
@pytest.mark.parametrize("terminal", [False, True], ids=["plain", "terminal"])
@pytest.mark.parametrize("target", LINKS, ids=["absolute", "relative", "magic"])
def test_b_cve_2026_41579_dev_is_a_link(runtime, bundle, canary, target, terminal):
    """No mount on /dev: default nodes and links must not be made or removed where the link points on the host."""
    from lib.terminal import fd_socket
    b = bundle("true").without_mount("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue").writable()
    os.rmdir(f"{b.rootfs}/dev")
    os.symlink(target.format(canary=f"{canary}/dev"), f"{b.rootfs}/dev")
    if not terminal:
        runtime.run(b, timeout=10)
        return
    b.process["terminal"] = True
    b.write()
    runtime.track(b.id)
    with fd_socket(f"{os.path.dirname(canary)}/c.sock") as server:
        runtime.call("create", "--bundle", b.path, "--console-socket", server.path, b.id, timeout=10)


@pytest.mark.parametrize("name", ["pts", "shm", "mqueue", "ptmx", "fd", "stdin", "null", "tty", "console"])
def test_b_entries_of_dev_are_links(runtime, bundle, canary, name):
    b = bundle("true").without_mount("/dev").writable()
    os.symlink(f"{canary}/dev", f"{b.rootfs}/dev/{name}")
    runtime.run(b, timeout=10)


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "tmp", "etc", "sys/fs/cgroup"])
@pytest.mark.parametrize("target", LINKS, ids=["absolute", "relative", "magic"])
def test_b_mount_points_are_links(runtime, bundle, canary, name, target):
    if runtime.peer == OLD and name == "dev":
        pytest.skip("vulnerable (CVE-2026-41579)")
    b = bundle("true").writable().mount("/tmp/deep/dir", "x", "tmpfs").mount("/etc/made", f"{canary}/file", "bind", ["bind", "ro"])
    path = f"{b.rootfs}/{name}"
    if "/" in name:
        os.makedirs(os.path.dirname(path))
    else:
        os.rename(path, f"{path}.moved")
    os.symlink(target.format(canary=canary), path)
    before = host.mount_table()
    runtime.run(b, timeout=10)
    assert host.mount_table() == before


@pytest.mark.parametrize("name", ["cwd", "device", "file target"])
def test_b_what_is_created_is_created_inside(runtime, bundle, canary, name):
    """CVE-2024-45310: missing directories and files are made through links of the image."""
    b = bundle("true").writable()
    os.symlink(canary, f"{b.rootfs}/out")
    os.symlink(f"{canary}/new", f"{b.rootfs}/dangling")
    if name == "cwd":
        b.process["cwd"] = "/out/fresh/dir"
    elif name == "device":
        b.linux["devices"] = [{"path": "/out/node", "type": "c", "major": 1, "minor": 3}]
    else:
        b.mount("/dangling", f"{canary}/file", "bind", ["bind", "ro"]).mount("/out/other", f"{canary}/file", "bind", ["bind", "ro"])
    runtime.run(b, timeout=10)


@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
@pytest.mark.parametrize("image", ["link", "regular", "fifo", "none"])
def test_b_cve_2026_88265_stdio_is_not_exchanged(runtime, bundle, canary, work, kind, image):
    """The image's /dev/null leads to a file of the host, nothing is mounted on /dev: stdio keeps its identity and the
    file its owner."""
    import socket
    b = bundle("/bin/probe", process={"user": {"uid": 1000, "gid": 1000}})
    b.without_mount("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue").writable()
    path = f"{b.rootfs}/dev/null"
    if image == "link":
        os.symlink(f"{canary}/file", path)
    elif image == "regular":
        b.file("dev/null", "")
    elif image == "fifo":
        os.mkfifo(path)
    ends = []
    if kind == "pipe":
        reader, writer = os.pipe()
        ends = [reader, writer]
        os.set_blocking(reader, False)
    elif kind == "socket":
        left, right = socket.socketpair()
        ends = [left.detach(), right.detach()]
        writer = ends[1]
    else:
        writer = os.open(f"{work}/stdio", os.O_CREAT | os.O_RDWR)
        ends = [writer]
    identity = os.fstat(writer)
    try:
        b.write()
        runtime.track(b.id)
        result = runtime.call("run", "-d", "--bundle", b.path, b.id, stdin=writer, stdout=writer, stderr=2, timeout=10)
        if result.code == 0:
            runtime.wait_stopped(b)
        assert os.fstat(writer).st_ino == identity.st_ino
    finally:
        for fd in ends:
            os.close(fd)


def test_b_nothing_is_created_in_the_image_but_mount_points(runtime, bundle):
    b = bundle("true")
    before = sorted(os.path.join(d, n) for d, ns, fs in os.walk(b.rootfs) for n in ns + fs)
    runtime.run(b).ok()
    after = sorted(os.path.join(d, n) for d, ns, fs in os.walk(b.rootfs) for n in ns + fs)
    made = {path[len(b.rootfs):] for path in set(after) - set(before)}
    assert made <= {"/dev/pts", "/dev/shm", "/dev/mqueue", "/sys/fs", "/sys/fs/cgroup", "/etc/hosts"}, made


def test_b_ps_is_the_hosts(runtime, bundle, canary):
    """CVE-2022-1227: no program of the container is run on the host."""
    b = bundle().writable()
    os.unlink(f"{b.rootfs}/bin/ps")
    b.file("bin/ps", f"#!/bin/sh\necho evil > {canary}/file\n", 0o755)
    runtime.idle(b)
    runtime.call("ps", b.id).ok()


# --- F: passwd and group are not trusted ------------------------------------------------------------------------------

@differs_from(OLD, "fails or leaves HOME empty")
@pytest.mark.parametrize("line", ["root:x:1000:0:::\nroot:x:4294967296:0::/evil:\n", "::::::\n", ":x:0:0::/evil\n",
                                  "a" * 100_000 + "\n", "x:x:00000000000000000000:0::/evil:/x\n", "\0\0\0\n"],
                         ids=["large uid", "empty", "no name", "long", "zeros", "NUL"])
def test_f_odd_passwd_lines(runtime, bundle, line):
    b = bundle("sh", "-c", "echo $HOME; id -u")
    b.file("etc/passwd", line)
    result = runtime.run(b, timeout=10).ok()
    home, uid = result.out.split()
    assert uid == "0" and home in ("/", "/root", "/evil"), result


# --- races -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def racer(tool):
    running = []

    def start(a, b):
        process = subprocess.Popen([tool("racer"), a, b])
        running.append(process)
    yield start
    for process in running:
        process.send_signal(signal.SIGKILL)
        process.wait()


@differs_from(OLD, "vulnerable: makes directories on the host (CVE-2024-45310)")
def test_b_cve_2021_30465_mount_target_is_exchanged(runtime, bundle, work, canary, racer):
    """A volume shared with a neighbour, who swaps the mount target and a link to the host's root."""
    os.makedirs(f"{work}/vol/target/inner")
    os.symlink("/", f"{work}/vol/link")
    b = bundle("/bin/probe").mount("/v", f"{work}/vol", "bind", ["bind"]).mount("/v/target/inner", "marker", "tmpfs")
    os.mkdir(f"{b.rootfs}/v")
    racer(f"{work}/vol/target", f"{work}/vol/link")
    before = host.mount_table()
    for _ in range(25):
        result = runtime.run(b, timeout=10)
        if result.code == 0:
            for line in json.loads(result.out)["mounts"]:
                if " marker " in line:
                    assert line.split()[4].startswith(("/v", "/inner", "/target")), line
    assert host.mount_table() == before
    assert not os.path.lexists("/inner")


def test_d_null_is_exchanged_while_masking(runtime, bundle, work, racer):
    """CVE-2025-31133: a neighbour swaps /dev/null of a shared /dev while the masks are made."""
    core_pattern = host.read("/proc/sys/kernel/core_pattern")
    os.mkdir(f"{work}/dev")
    os.mknod(f"{work}/dev/null", 0o20666, os.makedev(1, 3))
    os.symlink("/proc/sys/kernel/core_pattern", f"{work}/dev/other")
    b = bundle("sh", "-c", "stat -c '%t:%T' /etc/secret")
    if runtime.peer == OLD:
        pytest.skip("vulnerable")
    b.without_mount("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue").mount("/dev", f"{work}/dev", "bind", ["bind"])
    b.file("etc/secret", "x")
    b.linux["maskedPaths"].append("/etc/secret")
    racer(f"{work}/dev/null", f"{work}/dev/other")
    for _ in range(25):
        result = runtime.run(b, timeout=10)
        assert result.code != 0 or result.out == "1:3\n", result
    assert host.read("/proc/sys/kernel/core_pattern") == core_pattern


def test_b_link_chains(runtime, bundle, canary):
    """Forty-one links, a loop and a name of the greatest length as mount targets."""
    b = bundle("true").writable()
    os.symlink(canary, f"{b.rootfs}/l0")
    for number in range(1, 42):
        os.symlink(f"l{number - 1}", f"{b.rootfs}/l{number}")
    for destination in ("/l41/x", "/l5/x", "/" + "n" * 255, "/" + "/".join(["d" * 200] * 21)):
        b.config["mounts"] = b.config["mounts"][:7]
        runtime.run(b.mount(destination, "x", "tmpfs"), timeout=10)
