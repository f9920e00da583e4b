"""What processes cost, as /proc tells it, and their removal."""

import contextlib
import dataclasses
import os
import pathlib
import signal
import time

_DEADLINE_SECONDS = 20


def _text(pid, name):
    return pathlib.Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")


def pss_bytes(pid):
    """Proportional set size: private memory, and a share of what several processes map."""
    lines = _text(pid, "smaps_rollup").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@dataclasses.dataclass
class Activity:
    """How much a process has run."""

    cpu_ms: float
    wakeups: int

    @classmethod
    def of(cls, pid):
        ran_ns = int(_text(pid, "schedstat").split()[0])
        switches = [int(line.split()[1]) for line in _text(pid, "status").splitlines() if "ctxt_switches" in line]
        return cls(ran_ns / 1e6, sum(switches))

    def since(self, before):
        return Activity(round(self.cpu_ms - before.cpu_ms, 3), self.wakeups - before.wakeups)


def activity(pids, seconds):
    """What the processes do in that time when nobody asks them for anything."""
    before = [Activity.of(pid) for pid in pids]
    time.sleep(seconds)
    changes = [Activity.of(pid).since(old) for pid, old in zip(pids, before)]
    return Activity(round(sum(c.cpu_ms for c in changes), 3), sum(c.wakeups for c in changes))


def command_line(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return _text(pid, "cmdline").split("\0")[:-1]
    return []


def children(pid):
    return [int(word) for word in _text(pid, f"task/{pid}/children").split()]


def naming(directory):
    """Processes, other than this one, whose command line names something below `directory`, which is ours alone."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            if any(str(directory) in word for word in command_line(entry)):
                found.append(int(entry))
    return found


def eventually(happened, what):
    """Waits for a true value and returns it."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not (value := happened()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"bench: waited {_DEADLINE_SECONDS} s until {what}")
        time.sleep(0.002)
    return value


def end_naming(directory):
    """Ends what is left of all that was started for `directory`."""
    def kill_all():
        left = naming(directory)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left
    eventually(kill_all, f"the processes of {directory} are gone")
