"""Makes single system calls of a running process fail (strace's fault injection)."""
import os
import re
import subprocess

from . import host


def tracer_of(pid):
    return int(re.search(r"^TracerPid:\s+(\d+)", host.read(f"/proc/{pid}/status"), re.M).group(1))


class Injected:
    """`with Injected(pid, "openat:error=EMFILE:when=1", work):` traces that process alone, and only that call. strace
    slows what it traces: keep it short. With the flag -f what it starts is traced, too, each with a count of its own."""

    def __init__(self, pid, what, work, *flags):
        self.pid, self.report = pid, f"{work}/inject-{pid}"
        call = what.split(":", 1)[0]
        self.argv = ["strace", "-q", "-o", self.report, "-e", f"trace={call}", "-e", "signal=none", "-e",
                     f"inject={what}", *flags, "-p", str(pid)]
        self.process, self.text = None, ""

    def __enter__(self):
        with open(f"{self.report}.err", "wb") as errors:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stderr=errors)
        try:
            host.eventually(lambda: tracer_of(self.pid) == self.process.pid, what="strace")
        except AssertionError as error:
            self.end()
            raise AssertionError(f"{error}: {host.read(f'{self.report}.err')}") from None
        return self

    def end(self):
        self.process.terminate()  # lets go of the process, which goes on
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if os.path.exists(self.report):
            self.text = host.read(self.report)

    def __exit__(self, *_):
        self.end()

    @property
    def hits(self):
        """How many calls have been made to fail; can be asked meanwhile."""
        text = host.read(self.report) if not self.text and os.path.exists(self.report) else self.text
        return text.count("(INJECTED")
