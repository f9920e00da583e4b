"""A file system that never answers (programs/hung_fuse.c)."""
import os
import select
import subprocess

from . import host


class Hung:
    """The file system that never answers; end() gives everybody who waits an error."""

    def __init__(self, program, work):
        self.program, self.point, self.asked = program, f"{work}/hung", f"{work}/asked"
        self.process = None
        os.mkdir(self.point)

    def begin(self, mode):
        self.end()
        self.process = subprocess.Popen([self.program, self.point, self.asked, mode], stdout=subprocess.PIPE)
        assert select.select([self.process.stdout], [], [], 10)[0], "no greeting"
        assert self.process.stdout.readline() == b"ready\n"

    def end(self):
        if not self.process:
            return
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process = None
        host.umount(self.point)
        if os.path.exists(self.asked):
            os.unlink(self.asked)
