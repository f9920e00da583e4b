"""A process above pytest that outlives it and leaves nothing behind, however pytest ends."""

import ctypes
import os
import pathlib
import shutil
import signal
import sys

import host

_PR_SET_CHILD_SUBREAPER = 36


def _descendants(top):
    """All processes below `top`, from the parents that /proc names."""
    children = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            # The command's name may hold anything, so what follows its last bracket is parsed.
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry.name))
    found = list(children.get(top, []))
    for pid in found:
        found += children.get(pid, [])
    return found


def _kill_all_and_reap():
    """True when nothing is left below this process."""
    for pid in _descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        return True
    return False


def _watch(child, world):
    """Reaps until pytest ends, then kills and removes what is left; returns pytest's exit status."""
    status = None
    while status is None:
        pid, raw = os.wait()
        if pid == child:
            status = os.waitstatus_to_exitcode(raw)
    host.eventually(_kill_all_and_reap, "all processes below the guardian are gone")
    host.remove_cgroups(f"/gantry-test/{world.name}")
    if world.exists():
        shutil.rmtree(world)
    return status if status >= 0 else 128 - status


def stand_guard(world):
    """Forks: the child returns and goes on as pytest, the parent becomes its guardian and ends with its status.

    `world` is a function from the guardian's pid to the directory of this run; its name is also that of its cgroup.
    Daemons, shims and containers that lose their parent become the guardian's children, so it finds them all, whatever
    namespace they are in. Mounts need no care: they are in a mount namespace that ends with its last process.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        # A shell starts background jobs with it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return
    # Ctrl-C reaches pytest by itself; SIGTERM is passed on as one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGINT))
    try:
        status = _watch(child, world(os.getpid()))
    except BaseException as failure:  # whatever it is: this must not become a second pytest
        print(f"clients: cleaning up failed: {failure!r}", file=sys.stderr, flush=True)
        status = 1
    os._exit(status)
