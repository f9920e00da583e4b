"""Kills a program at each of its state-changing system calls, one run per call (strace's fault injection)."""
import collections
import os
import re
import signal
import subprocess

from . import host

# Calls after which the world differs; reads and polls are left out, nothing can be torn between them.
CHANGING = ["mkdirat", "mkdir", "mknodat", "mknod", "openat", "openat2", "write", "pwrite64", "writev", "rename", "renameat",
            "renameat2", "unlink", "unlinkat", "rmdir", "clone", "clone3", "vfork", "sendmsg", "sendto", "connect",
            "memfd_create", "ftruncate", "fchmod", "fchown", "fchownat", "flock", "pidfd_send_signal", "kill", "close",
            "recvmsg", "socketpair", "wait4", "waitid", "execve", "execveat", "pidfd_getfd", "prlimit64", "bpf", "exit_group"]


def count_calls(argv, report, **popen):
    """Runs argv once; how often each call was made by the process itself (children are not followed)."""
    subprocess.run(["strace", "-qq", "-o", report, "-e", f"trace={','.join('?' + name for name in CHANGING)}", *argv],
                   check=True, stdin=subprocess.DEVNULL, **popen)
    counts = collections.Counter()
    for line in host.read(report).splitlines():
        match = re.match(r"(\w+)\(", line)
        if match:
            counts[match[1]] += 1
    os.unlink(report)
    return counts


def steps(counts, budget, start=0):
    """(call, which occurrence) for at most `budget` kills, spread evenly over each kind of call."""
    rare = [(name, number) for name, count in counts.items() for number in range(1, count + 1)]
    if len(rare) <= budget:
        return rare
    stride = len(rare) / budget
    return [rare[int(start + index * stride) % len(rare)] for index in range(budget)]


def killed_at(name, number, argv):
    """The command that runs argv and kills it with SIGKILL as it enters the given call."""
    return ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}", *argv]


class Stopped:
    """A command of the runtime that stops after the given call of its own, until go_on()."""

    def __init__(self, runtime, work, name, number, *words):
        self.runtime, self.report = runtime, f"{work}/stopped"
        open(self.report, "wb").close()
        prefix = ["strace", "-qq", "-o", self.report, "-e", f"trace={name}", "-e", f"inject={name}:signal=STOP:when={number}"]
        self.process = runtime.in_view(prefix).spawn(*words)
        host.eventually(lambda: self.stands() or not host.alive(self.process.pid), what=f"{words[0]} at {name} {number}")

    def stands(self):
        return "--- stopped by SIGSTOP ---" in host.read(self.report)

    def go_on(self):
        """Its result, when it is over."""
        if host.alive(self.process.pid):
            for pid in host.children(self.process.pid):
                host.kill_quietly(pid, signal.SIGCONT)
        return self.runtime.finish(self.process)
