"""Terminals: a receiver for console sockets and a caller's terminal made of a pty."""
import array
import contextlib
import fcntl
import os
import select
import socket
import struct
import termios
import time


def window_size(fd):
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    return rows, columns


def set_window_size(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def read_until(fd, wanted, timeout=8.0):
    """Reads a terminal or pipe until `wanted` was seen; the end (EIO) counts as end of text."""
    deadline = time.monotonic() + timeout
    seen = b""
    wanted = wanted if isinstance(wanted, bytes) else wanted.encode()
    while wanted not in seen:
        left = deadline - time.monotonic()
        assert left > 0, f"{wanted!r} not in {seen!r}"
        if select.select([fd], [], [], min(left, 0.1))[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            assert data, f"end of terminal, {wanted!r} not in {seen!r}"
            seen += data
    return seen.decode(errors="replace")


def read_all(fd, timeout=8.0):
    """Everything until the other side is gone."""
    deadline = time.monotonic() + timeout
    seen = b""
    while True:
        left = deadline - time.monotonic()
        assert left > 0, f"no end after {seen!r}"
        if select.select([fd], [], [], min(left, 0.1))[0]:
            try:
                data = os.read(fd, 65536)
            except OSError:
                data = b""
            if not data:
                return seen.decode(errors="replace")
            seen += data


class FdSocket:
    """A listening socket that takes one message with descriptors per connection (console, pidfd, seccomp agent)."""

    def __init__(self, path):
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # bind() through the directory's fd: the name itself may be longer than sun_path.
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            self.listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
        self.listener.listen(8)
        self.open_fds = []
        self.left_open = 0

    def receive(self, timeout=8.0, complete=None, grace=0.3):
        """(all data until the end, descriptors, messages that carried descriptors). With complete(data), which says
        whether the message is whole, a sender that does not close is noted in `left_open` after `grace` seconds."""
        self.listener.settimeout(timeout)
        connection, _ = self.listener.accept()
        data, fds, carriers = b"", [], 0
        with connection:
            connection.settimeout(timeout)
            while True:
                try:
                    part, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16 * 4))
                except TimeoutError:
                    if not complete or not complete(data):
                        raise
                    self.left_open += 1
                    break
                for level, kind, payload in ancillary:
                    if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                        carriers += 1
                        numbers = array.array("i")
                        numbers.frombytes(payload[:len(payload) - len(payload) % 4])
                        fds += list(numbers)
                if not part:
                    break
                data += part
                if complete and complete(data):
                    connection.settimeout(grace)
        self.open_fds += fds
        return data, fds, carriers

    def close(self):
        self.listener.close()
        for fd in self.open_fds:
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def fd_socket(path):
    server = FdSocket(path)
    try:
        yield server
    finally:
        server.close()


class Pty:
    """A caller's terminal: hand `slave` to a child as stdio, read and write `master`."""

    def __init__(self, rows=24, columns=80):
        self.master, self.slave = os.openpty()
        self.name = os.ttyname(self.slave)
        set_window_size(self.slave, rows, columns)

    def attributes(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.attributes()[3] & (termios.ECHO | termios.ICANON)

    def adopt(self):
        """preexec_fn: the child becomes leader of a session on this terminal."""
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def stdio(self):
        return {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, "preexec_fn": self.adopt}

    def write(self, text):
        os.write(self.master, text.encode())

    def close(self):
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def pty(rows=24, columns=80):
    terminal = Pty(rows, columns)
    try:
        yield terminal
    finally:
        terminal.close()
