"""Clients that send garbage, half a message or far too much, or never read, are nobody else's trouble."""
import contextlib
import socket
import time

import pytest

from lib.stage import cast, stage  # noqa: F401
from lib.supervised import Supervised

# Silences of a tenth of a second are judged: nothing else may run beside it.
pytestmark = pytest.mark.alone


def test_clients_that_send_garbage(stage, cast):
    path = cast.supervised.socket

    def garbage():
        for number in range(30):
            with Supervised.api(cast.supervised) as api:
                api.socket.sendall(bytes((number * 7 + i * 13) % 255 + 1 for i in range(5000)) + b"\0")
                assert api.receive()["error"]
                assert api.call("NoSuchMethod")["error"]
                assert api.call("Up")["error"]
                assert api.call("Status")["parameters"]
    stage.unmoved(garbage)

    def half():
        sockets = []
        for _ in range(20):
            client = socket.socket(socket.AF_UNIX)
            client.connect(path)
            client.sendall(b'{"method": "gantry.supervisor.Sta')
            sockets.append(client)
        time.sleep(0.3)
        for client in sockets:
            client.close()
    stage.unmoved(half)


def test_a_message_without_an_end(stage, cast):
    def endless_message():
        with cast.supervised.api() as api:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for _ in range(32):
                    api.socket.sendall(b"x" * (1 << 16))
            with contextlib.suppress(ConnectionResetError):
                answer = api.receive()
                assert answer is None or "1048576" in answer["parameters"]["message"], answer
    stage.unmoved(endless_message)


def test_a_client_that_never_reads(stage, cast):
    """It asks until nobody takes its questions any more."""
    def deaf():
        with cast.supervised.api(timeout=0.3) as api:
            with pytest.raises(TimeoutError):
                while True:
                    for _ in range(100):
                        api.send("List")
            time.sleep(0.3)
    stage.unmoved(deaf)


def test_three_hundred_connections_that_say_nothing(stage, cast):
    def crowd():
        with contextlib.ExitStack() as all_of_them:
            for _ in range(300):
                all_of_them.enter_context(cast.supervised.api())
            box = cast.bundle("true")
            cast.up(box).ok()
            cast.rm(box).ok()
            time.sleep(0.3)
    stage.unmoved(crowd)


def test_descriptors_that_nobody_wants(stage, cast):
    def parcels():
        for count in (1, 2, 100):
            with cast.supervised.api() as api, contextlib.ExitStack() as files:
                fds = [files.enter_context(open("/dev/null", "rb")).fileno() for _ in range(count)]
                assert api.call("Status", fds)
                assert api.call("Up", fds, id="x", bundle="/x", rootfs="/x", restart="no", log="", netns="")["error"]
    stage.unmoved(parcels)
