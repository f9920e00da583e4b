"""A seccomp agent: takes a listener from the runtime and answers the calls of a container."""
import errno
import fcntl
import json
import os
import select
import struct
import threading

from .terminal import FdSocket

_RECEIVE = 0xC0502100
_SEND = 0xC0182101
_CONTINUE = 1


def _is_json(data):
    try:
        return bool(json.loads(data))
    except ValueError:
        return False


class Agent:
    """Listens at `path`; every connection is one message. `answer(nr, args)` gives (value, errno) or "continue"."""

    def __init__(self, path, answer=lambda nr, args: (0, errno.EOPNOTSUPP)):
        self.server = FdSocket(path)
        self.path = path
        self.answer = answer
        self.messages = []
        self.calls = []
        self.problems = []
        self.listeners = []
        self.thread = None
        self.wake_read, self.wake_write = os.pipe()

    def start(self):
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def _serve(self):
        poller = select.poll()
        poller.register(self.wake_read, select.POLLIN)
        poller.register(self.server.listener.fileno(), select.POLLIN)
        while True:
            for fd, events in poller.poll():
                if fd == self.wake_read:
                    return
                if fd == self.server.listener.fileno():
                    data, fds, carriers = self.server.receive(complete=_is_json)
                    self.messages.append(json.loads(data))
                    if len(fds) != 1 or carriers != 1:
                        self.problems.append(f"{len(fds)} descriptors in {carriers} messages")
                    self.listeners += fds
                    for listener in fds:
                        poller.register(listener, select.POLLIN)
                elif events & select.POLLIN:
                    self._handle(fd)
                else:
                    poller.unregister(fd)

    def _handle(self, listener):
        buffer = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, buffer)
            identity, pid, _, number, _, _, *args = struct.unpack("=QIIiIQ6Q", buffer)
            self.calls.append((number, pid))
            reply = self.answer(number, args)
            if reply == "continue":
                packed = struct.pack("=QqiI", identity, 0, 0, _CONTINUE)
            else:
                packed = struct.pack("=QqiI", identity, reply[0], -reply[1], 0)
            fcntl.ioctl(listener, _SEND, packed)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):
                self.problems.append(str(error))

    def close(self):
        os.write(self.wake_write, b"x")
        if self.thread:
            self.thread.join(5)
        self.server.close()
        os.close(self.wake_read)
        os.close(self.wake_write)
