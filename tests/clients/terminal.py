"""A person at a terminal: runs a program on a pty of ours and talks to it."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import termios
import time


class Terminal:
    """A child on its own pty; a context manager that leaves no process behind."""

    def __init__(self, argv, env=None, rows=33, columns=101):
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        # A new session whose controlling terminal is the pty, or Ctrl-C and resize signals would not reach the child.
        self._child = subprocess.Popen(
            argv,
            env=env,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.output = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        os.close(self._master)

    def send(self, text):
        os.write(self._master, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._child.send_signal(signal.SIGWINCH)

    def _read(self, seconds):
        """Takes what the child wrote; false at its end or when nothing came in time."""
        if not select.select([self._master], [], [], max(seconds, 0))[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last slave is closed
            return False
        self.output += data.decode(errors="replace")
        return bool(data)

    def expect(self, text, seconds=20):
        """Reads until `text` has appeared since the last expect, and drops what came before it."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            alive = self._read(deadline - time.monotonic())
            assert alive or text in self.output, f"{text!r} did not appear, but: {self.output!r}"
        self.output = self.output.split(text, 1)[1]

    def finish(self, seconds=20):
        """Reads to the end and returns the exit status."""
        deadline = time.monotonic() + seconds
        while self._read(deadline - time.monotonic()):
            pass
        return self._child.wait(timeout=max(deadline - time.monotonic(), 0.1))
