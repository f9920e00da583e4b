"""What the tests ask of the host kernel: process, mount and cgroup census, namespaces, polling."""
import contextlib
import ctypes
import os
import signal
import subprocess
import time
import weakref

_libc = ctypes.CDLL(None, use_errno=True)

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x00020000
CLONE_NEWTIME = 0x00000080
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x20, 0x1000, 0x4000, 1 << 18, 1 << 20
MNT_DETACH = 2

CGROUP_ROOT = "/sys/fs/cgroup"
CGROUP_PARENT = "gantry-test"
SESSION = f"gt{os.getpid()}"


def _check(result, what):
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")
    return result


def become_subreaper():
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def unshare(flags):
    _check(_libc.unshare(flags), "unshare")


def mount(source, target, fstype=None, flags=0, data=None):
    def enc(text):
        return None if text is None else os.fsencode(str(text))
    _check(_libc.mount(enc(source), enc(target), enc(fstype), ctypes.c_ulong(flags), enc(data)), f"mount {target}")


def umount(target, flags=MNT_DETACH):
    _check(_libc.umount2(os.fsencode(str(target)), flags), f"umount {target}")


@contextlib.contextmanager
def small_disk(path, size):
    """A directory on a disk of its own; more room: mount("small", path, None, MS_REMOUNT, "size=...")."""
    os.mkdir(path)
    mount("small", path, "tmpfs", data=f"size={size}")
    try:
        yield path
    finally:
        umount(path)


def private_mount_namespace():
    """The census of mounts is exact only in a namespace where nobody else mounts."""
    unshare(CLONE_NEWNS)
    mount("none", "/", None, MS_REC | MS_PRIVATE)


def eventually(predicate, timeout=8.0, what="condition"):
    """Polls until predicate() is truthy and returns its value; an exception counts as not yet."""
    deadline = time.monotonic() + timeout
    pause = 0.001
    last = None
    while True:
        reap_containers()
        try:
            value = predicate()
            if value:
                return value
            last = value
        except (OSError, AssertionError, ValueError) as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} not reached in {timeout} s (last: {last!r})")
        time.sleep(pause)
        pause = min(pause * 2, 0.05)


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


# --- processes -------------------------------------------------------------------------------------------------------

def proc_stat(pid):
    """State letter, parent, session and start time; None when there is no such process."""
    try:
        text = read(f"/proc/{pid}/stat")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2:].split()
    return {"state": fields[0], "ppid": int(fields[1]), "sid": int(fields[3]), "start": int(fields[19])}


def alive(pid):
    stat = proc_stat(pid)
    return stat is not None and stat["state"] not in "ZX"


def children(pid=None):
    """Direct children of all threads of a process (default: the test process)."""
    pid = pid or os.getpid()
    found = []
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            found += [int(word) for word in read(f"/proc/{pid}/task/{tid}/children").split()]
    except OSError:
        pass
    return found


def descendants(pid=None):
    found, queue = [], children(pid)
    while queue:
        child = queue.pop()
        found.append(child)
        queue += children(child)
    return found


def describe(pid):
    try:
        command = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip() or read(f"/proc/{pid}/comm").strip()
    except OSError:
        command = "?"
    stat = proc_stat(pid)
    return f"{pid} [{stat['state'] if stat else 'gone'}] {command}"


def kill_quietly(pid, signo=signal.SIGKILL):
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        pass


_exits = {}
_reaping = [True]
_own = weakref.WeakSet()
_popen_init = subprocess.Popen.__init__


def _remember(self, *args, **more):
    _popen_init(self, *args, **more)
    _own.add(self)


# Children that a Popen object waits for must be left to it; everything else that becomes our child was re-parented.
subprocess.Popen.__init__ = _remember


def reap():
    """Collects dead children that no Popen object waits for (containers re-parented to us); statuses are kept for
    wait_status()."""
    keep = {process.pid for process in _own if process.returncode is None}
    for pid in children():
        stat = proc_stat(pid)
        if pid in keep or not stat or stat["state"] != "Z":
            continue
        try:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                _exits[pid] = status
        except ChildProcessError:
            pass


def reap_containers():
    """As a caller with a child subreaper must all the time: a pid namespace does not end while a zombie of it that
    was re-parented to us is left."""
    if _reaping[0]:
        reap()


@contextlib.contextmanager
def no_reaping():
    _reaping[0] = False
    try:
        yield
    finally:
        _reaping[0] = True


def wait_status(pid, timeout=10.0):
    """Exit status of a re-parented child as a shell would say it."""
    def finished():
        if pid in _exits:
            return (_exits[pid],)
        done, status = os.waitpid(pid, os.WNOHANG)
        return (status,) if done else None
    (status,) = eventually(finished, timeout, f"exit of {pid}")
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


# --- cgroups ---------------------------------------------------------------------------------------------------------

def hierarchies(root=CGROUP_ROOT):
    """Directory of every mounted hierarchy: v1 controllers by name and "unified"; {"": root} for pure v2."""
    if os.path.exists(f"{root}/cgroup.controllers"):
        return {"": root}
    return {name: f"{root}/{name}" for name in sorted(os.listdir(root)) if os.path.isdir(f"{root}/{name}")}


def cgroup_dirs(prefix=None):
    """All directories of this session's cgroups, deepest first."""
    prefix = prefix or SESSION
    found = []
    for base in set(hierarchies().values()):
        parent = f"{base}/{CGROUP_PARENT}"
        if not os.path.isdir(parent):
            continue
        for name in os.listdir(parent):
            if name.startswith(prefix):
                for directory, _, _ in os.walk(f"{parent}/{name}", topdown=False):
                    found.append(directory)
    return found


def cgroup_procs(directory):
    try:
        return [int(line) for line in read(f"{directory}/cgroup.procs").split()]
    except OSError:
        return []


def purge_cgroups(prefix=None):
    """Thaws, kills and removes what a test left in cgroups of its own."""
    for directory in cgroup_dirs(prefix):
        for name, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            try:
                with open(f"{directory}/{name}", "w", encoding="ascii") as file:
                    file.write(value)
            except OSError:
                pass
        for pid in cgroup_procs(directory):
            kill_quietly(pid)

    def gone():
        reap()
        for directory in cgroup_dirs(prefix):
            try:
                os.rmdir(directory)
            except OSError:
                pass
        return not cgroup_dirs(prefix)
    eventually(gone, 5, "removal of cgroups")


def keep_parent():
    """Concurrent sessions share /gantry-test: an own child keeps it from vanishing between two steps of a create."""
    for base in set(hierarchies().values()):
        os.makedirs(f"{base}/{CGROUP_PARENT}/keep-{SESSION}", exist_ok=True)


def release_parent():
    for base in set(hierarchies().values()):
        for path in (f"{base}/{CGROUP_PARENT}/keep-{SESSION}", f"{base}/{CGROUP_PARENT}"):
            try:
                os.rmdir(path)
            except OSError:
                pass


# --- census ----------------------------------------------------------------------------------------------------------

def mount_table():
    return sorted(read("/proc/self/mountinfo").splitlines())


def null_identity():
    stat = os.stat("/dev/null")
    return (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_rdev)


class Census:
    """Oracle L: what must be the same before and after a test."""

    def __init__(self):
        self.children = set(children())
        self.mounts = mount_table()
        self.null = null_identity()
        self.cgroups = set(cgroup_dirs())

    def leaks(self):
        """One line for each thing that was left behind."""
        reap()
        found = [f"process {describe(pid)}" for pid in children() if pid not in self.children]
        found += [f"cgroup {path} {cgroup_procs(path)}" for path in cgroup_dirs() if path not in self.cgroups]
        found += [f"mount {line}" for line in mount_table() if line not in self.mounts]
        found += [f"mount lost: {line}" for line in self.mounts if line not in mount_table()]
        if null_identity() != self.null:
            found.append(f"/dev/null changed from {self.null} to {null_identity()}")
        return found

    def repair(self):
        for pid in descendants():
            if pid not in self.children:
                kill_quietly(pid)
        purge_cgroups()
        for line in reversed(read("/proc/self/mountinfo").splitlines()):
            if line not in self.mounts:
                try:
                    umount(line.split()[4])
                except OSError:
                    pass
        if null_identity() != self.null:
            os.chown("/dev/null", self.null[1], self.null[2])
            os.chmod("/dev/null", self.null[0] & 0o7777)


def pass_controllers_on(directory, pid):
    """The process moves below its cgroup2 directory, which then takes none itself; False without such a controller."""
    os.mkdir(f"{directory}/moved")
    with open(f"{directory}/moved/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(pid))
    try:
        with open(f"{directory}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write("+hugetlb")
    except OSError:
        return False
    return True
