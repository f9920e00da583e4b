"""What the processes of the runtime show to a container and take from it: descriptors, files that they open, programs and
credentials that it has prepared (classes A, B, C and F)."""
import glob
import json
import os
import re
import shutil
import socket
import struct
import subprocess

import pytest

from lib import host
from lib.marks import OLD, differs_from

# A sanitizer is linked dynamically and opens files of its own.
as_released = pytest.mark.skipif(bool(os.environ.get("GANTRY_SANITIZED")), reason="about the calls of the program as it is")
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")

# The flag with which each call that makes descriptors keeps them from what is executed; those without a flag always do.
CLOSING = {"open": "O_CLOEXEC", "openat": "O_CLOEXEC", "openat2": "O_CLOEXEC", "socket": "SOCK_CLOEXEC",
           "socketpair": "SOCK_CLOEXEC", "accept4": "SOCK_CLOEXEC", "pipe2": "O_CLOEXEC", "memfd_create": "MFD_CLOEXEC",
           "eventfd2": "EFD_CLOEXEC", "epoll_create1": "EPOLL_CLOEXEC", "fsopen": "FSOPEN_CLOEXEC",
           "fsmount": "FSMOUNT_CLOEXEC", "open_tree": "OPEN_TREE_CLOEXEC", "fspick": "FSPICK_CLOEXEC",
           "inotify_init1": "IN_CLOEXEC", "signalfd4": "SFD_CLOEXEC", "timerfd_create": "TFD_CLOEXEC",
           "recvmsg": "MSG_CMSG_CLOEXEC"}
NEVER = ["pipe", "dup", "accept", "epoll_create", "creat", "eventfd", "signalfd", "inotify_init"]


def own_calls(runtime, work, *words, expected=0):
    """The calls of one command that open something, of it and its helpers, until they become the program; in the order
    of each process."""
    calls = ",".join(f"?{name}" for name in [*CLOSING, *NEVER, "fcntl", "dup2", "dup3", "execve", "execveat"])
    result = runtime.in_view(["strace", "-ff", "-qq", "-s", "300", "-o", f"{work}/trace", "-e", f"trace={calls}",
                              "-e", "signal=none"]).call(*words)
    assert result.code == expected, result
    found = []
    for path in sorted(glob.glob(f"{work}/trace.*")):
        lines = host.read(path).splitlines()
        # Of the processes that execute a program of the container all but what came before.
        ends = [at for at, line in enumerate(lines) if re.match(r'execve\("/bin/', line) and line.endswith(" = 0")]
        found.append(lines[:ends[0]] if ends else lines)
        os.unlink(path)
    assert found and any("execveat" in line for lines in found for line in lines)
    return found


def closes_by_itself(line):
    name = re.match(r"(\w+)\(", line)
    if not name or re.search(r" = -1 E", line):
        return True
    if name[1] == "fcntl":
        return not re.search(r"F_DUPFD(?!_CLOEXEC)", line)
    if name[1] == "recvmsg":
        return "SCM_RIGHTS" not in line or "MSG_CMSG_CLOEXEC" in line
    return name[1] not in NEVER and CLOSING.get(name[1], "") in line


@pytest.fixture(params=["run", "exec"])
def words(request, runtime, bundle):
    """A command that starts a program, with as much around it as can be."""
    b = bundle("sh", "-c", "id -u").writable()
    b.linux["maskedPaths"].append("/etc/group")
    b.config["hooks"] = {kind: [{"path": "/bin/true"}] for kind in ("createRuntime", "createContainer", "poststop")}
    b.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}
    if request.param == "exec":
        runtime.idle(b)
        return b, ["exec", "--user", "1000", b.id, "sh", "-c", "id -u"]
    b.write()
    runtime.track(b.id)
    return b, ["run", "--bundle", b.path, b.id]


@as_released
@needs_strace
@pytest.mark.ours("other runtimes close what they have left open")
def test_a_no_descriptor_is_made_that_a_program_would_inherit(runtime, words, work):
    _, words = words
    for lines in own_calls(runtime, work, *words):
        found = [line for line in lines if not closes_by_itself(line)]
        # A launcher gets its descriptors at fixed numbers; that is the last that is done before it is executed.
        assert all(line.startswith(("dup2", "dup3")) for line in found), found
        if found:
            after = lines[lines.index(found[-1]) + 1:]
            assert after and after[0].startswith("execveat"), lines


LOADED = re.compile(r"\.so\b|ld\.so|nsswitch|gconv|locale|charset|localtime|terminfo")
LOG_TIME = 'openat(AT_FDCWD, "/etc/localtime"'  # gantry itself, which never enters a container, logs the host's time


@as_released
@needs_strace
@pytest.mark.ours("linked dynamically")
def test_b_nothing_of_the_image_is_loaded(runtime, words, work):
    """CVE-2019-14271 and its like: no library, name service or locale, of the image or of the host."""
    b, words = words
    for name in ("nsswitch.conf", "ld.so.preload", "ld.so.cache", "localtime", "locale.alias"):
        os.mkfifo(f"{b.rootfs}/etc/{name}")  # who opens it waits
    for lines in own_calls(runtime, work, *words):
        ours = lines[0].startswith(f'execve("{runtime.program}"')
        opened = [line for line in lines if line.startswith("open") and not (ours and line.startswith(LOG_TIME))]
        assert not [line for line in opened if LOADED.search(line)], opened


@differs_from(OLD, "is dumpable for a moment")
def test_g_a_neighbour_in_the_pid_namespace_reaches_nothing_of_a_creation(runtime, bundle):
    """Containers that share a pid namespace: the first one looks at the processes that become the others."""
    watcher = bundle("/bin/probe", "watch", "2500").add_capabilities("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
    watcher.process["env"].append("HOME=/")
    pid = runtime.up(watcher)
    host.eventually(lambda: "ready" in watcher.out())
    for _ in range(8):
        runtime.run(bundle("true").namespace("pid", f"/proc/{pid}/ns/pid"), timeout=10).ok()
    host.eventually(lambda: "done" in watcher.out())
    reached = [line for line in watcher.out().splitlines() if line.startswith("reached")]
    assert not reached, reached[:5]


@differs_from(OLD, "waits for ever")
@pytest.mark.parametrize("flags", [[], ["--user", "1000"], ["--cwd", "/tmp"], ["--cap", "CAP_KILL"]], ids=" ".join)
def test_c_exec_believes_nothing_that_the_containers_proc_says(runtime, bundle, flags):
    """LXC's CVE-2015-1334: pid 1 has covered /proc with files of its own, which nobody may even open: they are FIFOs."""
    b = bundle().sh("mount -t tmpfs none /proc && mkdir -p /proc/self/attr/apparmor /proc/self/fd /proc/self/ns "
                    "/proc/thread-self/attr /proc/sys/kernel /proc/1/ns && "
                    "for name in attr/exec attr/current attr/apparmor/exec setgroups uid_map oom_score_adj status stat "
                    "mountinfo cgroup timens_offsets fd/3 fd/4 fd/5 loginuid; do mkfifo /proc/self/$name; done; "
                    "mkfifo /proc/thread-self/attr/exec /proc/sys/kernel/cap_last_cap /proc/filesystems /proc/cgroups; "
                    "echo covered; while :; do sleep 1; done").writable().add_capabilities("CAP_SYS_ADMIN")
    runtime.up(b)
    host.eventually(lambda: "covered" in b.out())
    result = runtime.exec(b, *flags, ["sh", "-c", "echo in; test -p /proc/self/setgroups && echo forged"], timeout=10)
    assert result.ok().out == "in\nforged\n"


# --- credentials -----------------------------------------------------------------------------------------------------

def capability_xattr(permitted, inheritable, effective):
    """security.capability, revision 2 (linux/capability.h), for capabilities below 32."""
    return struct.pack("<IIIII", 0x02000000 | effective, permitted, inheritable, 0, 0)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_f_inheritable_file_capabilities_give_nothing(runtime, bundle, verb):
    """CVE-2022-29162: with an inheritable set of its own a program of another user would get CAP_NET_RAW."""
    b = bundle(process={"noNewPrivileges": False, "user": {"uid": 1000, "gid": 1000}})
    b.add_capabilities("CAP_NET_RAW")
    path = f"{b.rootfs}/bin/special"
    shutil.copy(f"{b.rootfs}/bin/probe", path)
    os.chmod(path, 0o755)
    os.setxattr(path, "security.capability", capability_xattr(0, 1 << 13, 1))
    if verb == "run":
        seen = json.loads(runtime.run(b.args("/bin/special")).ok().out)
    else:
        runtime.idle(b)
        seen = json.loads(runtime.exec(b, "--cap", "CAP_NET_RAW", ["/bin/special"]).ok().out)
    inheritable, effective = (int(seen["status"][name], 16) for name in ("CapInh", "CapEff"))
    # `exec --cap` gives it to the process, as runc does; the file has no part in that.
    wanted = 0 if verb == "run" else effective & 1 << 13
    assert inheritable == 0 and effective == wanted, seen["status"]
    if verb == "run":
        b.process["capabilities"]["inheritable"] = ["CAP_NET_RAW"]
        seen = json.loads(runtime.run(b).ok().out)
        assert int(seen["status"]["CapEff"], 16) == 1 << 13, "the file's capability is not in force here"


def test_f_groups_that_are_denied_are_there(runtime, bundle):
    """CVE-2022-36109: whoever is in the group of a file 0604 may not read it."""
    b = bundle("cat", "/etc/denied", process={"user": {"uid": 1000, "gid": 1000, "additionalGids": [1234]}})
    os.chown(b.file("etc/denied", "secret\n", 0o604), 0, 1234)
    assert runtime.run(b).code != 0
    b.process["user"]["additionalGids"] = []
    runtime.run(b).ok("secret\n")


def test_f_own_group_is_denied_as_well(runtime, bundle):
    b = bundle("cat", "/etc/denied", process={"user": {"uid": 1000, "gid": 1000}})
    os.chown(b.file("etc/denied", "secret\n", 0o604), 0, 1000)
    assert runtime.run(b).code != 0


@needs_strace
@pytest.mark.ours("counts calls of gantry-init")
def test_f_without_room_for_a_keyring_the_container_starts(runtime, bundle, work):
    """Hundreds of containers of one user meet kernel.keys.maxkeys."""
    b = bundle("echo", "on")
    b.write()
    runtime.track(b.id)
    view = runtime.in_view(["strace", "-f", "-qq", "-o", f"{work}/trace", "-e", "trace=keyctl",
                            "-e", "inject=keyctl:error=EDQUOT", "-e", "signal=none"])
    result = view.call("run", "--bundle", b.path, b.id).ok("on\n")
    assert "EDQUOT" in host.read(f"{work}/trace")
    assert any("keyctl" in text for text in result.warnings), result


@pytest.mark.ours("runs set-uid")
def test_h_a_set_uid_program_refuses_to_run(runtime, work):
    """CVE-2026-41163: AT_SECURE is somebody's attempt to get at root's rights."""
    path = f"{work}/gantry"
    shutil.copy(runtime.program, path)
    os.chmod(path, 0o4755)
    done = subprocess.run([path, "--version"], user=1000, group=1000, extra_groups=[], capture_output=True, text=True,
                          timeout=10, check=False)
    assert done.returncode == 1 and "refuses to run set-uid" in done.stderr and done.stdout == ""


def test_h_no_socket_of_the_supervisor_has_an_abstract_name(supervised, bundle):
    """CVE-2020-15257: such a name can be reached from each container with the host's network namespace."""
    supervised.begin()
    box = bundle().sh("cat /proc/net/unix; echo over; sleep 1000").without_namespace("network")
    supervised.up(box).ok()
    host.eventually(lambda: "over\n" in supervised.log(box), what="the list of sockets")
    inodes = set()
    for pid in [supervised.keeper, *host.descendants(supervised.keeper)]:
        for path in glob.glob(f"/proc/{pid}/fd/*"):
            try:
                inodes |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(path)))
            except FileNotFoundError:
                pass
    named = [line.split()[7] for line in supervised.log(box).splitlines() if len(line.split()) > 7 and line.split()[6] in inodes]
    assert supervised.socket in named and not [name for name in named if name.startswith("@")], named
    mode = os.stat(supervised.socket).st_mode & 0o777
    assert mode == 0o600 and os.stat(os.path.dirname(supervised.socket)).st_mode & 0o777 == 0o700


def test_h_another_user_of_the_host_is_not_served(supervised, work):
    """The socket's mode is not the only lock: somebody has made it everybody's."""
    supervised.begin()
    for path in (supervised.socket, os.path.dirname(supervised.socket), supervised.runtime.root, work):
        os.chmod(path, 0o777)
    script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{supervised.socket}'); " \
             "s.sendall(b'{\"method\":\"gantry.supervisor.Status\",\"parameters\":{}}\\0'); print(s.recv(1000))"
    done = subprocess.run(["/usr/bin/python3", "-c", script], user=1000, group=1000, extra_groups=[], capture_output=True,
                          text=True, timeout=10, check=False)
    assert "version" not in done.stdout, done
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(supervised.socket)
    assert supervised.status()["version"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077], ids=oct)
def test_h_what_is_made_is_nobody_elses(supervised, bundle, umask):
    """CVE-2021-41103, CVE-2024-25621: whoever is not root reaches no root file system, log, fifo or socket."""
    supervised.begin(umask=umask)
    box = bundle().sh("echo words; sleep 1000")
    supervised.up(box, umask=umask).ok()
    host.eventually(lambda: "words" in supervised.log(box), what="the log")
    found = {}
    for top in (supervised.state_dir, supervised.runtime.root):
        for directory, names, files in os.walk(top):
            for path in [directory, *(f"{directory}/{name}" for name in names + files)]:
                found[path] = os.lstat(path).st_mode & 0o7777
    del found[supervised.runtime.root]  # the test has made it
    fifos = {f"{supervised.runtime.root}/{box.id}/exec.fifo"}  # 0622 below a directory 0711: the container's own user writes
    written = [f"{path}: {mode:o}" for path, mode in found.items() if mode & 0o022 and path not in fifos]
    read = [f"{path}: {mode:o}" for path, mode in found.items() if mode & 0o004]
    assert not written and not read, (written, read)
    private = [supervised.state_dir, f"{supervised.state_dir}/{box.id}", os.path.dirname(supervised.socket)]
    assert [found[path] for path in private] == [0o700] * 3, found
