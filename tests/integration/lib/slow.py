"""A file system that passes through to a directory and hangs or fails when told to (programs/slow_fuse.c)."""
import os
import select
import subprocess

from . import host


class Slow:
    """Mounted at `point`; what is there is in `behind`, which always answers."""

    def __init__(self, program, work, name="slow"):
        self.program, self.point, self.behind = program, f"{work}/{name}", f"{work}/{name}-behind"
        self.process = None
        os.mkdir(self.point)
        os.mkdir(self.behind)

    def begin(self):
        self.process = subprocess.Popen([self.program, self.point, self.behind], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self._hear(b"ready\n")
        return self

    def _hear(self, text):
        assert select.select([self.process.stdout], [], [], 10)[0], f"no {text}"
        assert self.process.stdout.readline() == text

    def _say(self, word):
        self.process.stdin.write(word + b"\n")
        self.process.stdin.flush()
        self._hear(b"ok\n")

    def hang(self, how="hang"):
        """`hang`: who waits can be killed; `take`: not even that."""
        self._say(how.encode())

    def fail(self):
        self._say(b"fail")

    def go(self):
        self._say(b"go")

    def break_off(self):
        """The server is gone: everybody who waits, and whoever comes, gets an error."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process = None

    def end(self):
        if not self.process:
            return
        self.break_off()
        host.umount(self.point)
