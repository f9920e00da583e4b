"""`gantry supervise` under test: the keeper, the supervisor, their logs and their socket."""
import contextlib
import json
import os
import signal
import socket
import subprocess

from . import host


def command_of(pid):
    try:
        return host.read(f"/proc/{pid}/cmdline").split("\0")
    except FileNotFoundError:
        return []


class Api:
    """One connection to a supervisor, for what the verbs would never say."""

    def __init__(self, path, timeout=10.0):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, fds=(), **parameters):
        text = json.dumps({"method": f"gantry.supervisor.{method}", "parameters": parameters}).encode() + b"\0"
        if fds:
            socket.send_fds(self.socket, [text], fds)
        else:
            self.socket.sendall(text)

    def receive(self):
        """The next answer; None when the supervisor hangs up."""
        while b"\0" not in self.buffer:
            got = self.socket.recv(1 << 16)
            if not got:
                return None
            self.buffer += got
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def call(self, method, fds=(), **parameters):
        self.send(method, fds, **parameters)
        return self.receive()


class Supervised:
    """`gantry supervise` with a root and a state directory of its own."""

    def __init__(self, runtime, work):
        self.runtime, self.work = runtime, work
        self.state_dir = f"{work}/state"
        self.errors = f"{work}/supervise.err"
        self.socket = f"{runtime.root}/@supervisor/socket"
        self.process = None

    def begin(self, *flags, prefix=(), **popen):
        with open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, self.runtime.program, "--root", self.runtime.root, "supervise",
                 "--state-dir", self.state_dir, *flags],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=self.runtime.environment(None), **popen)
        self.await_supervisor(0)
        return self

    @property
    def keeper(self):
        return self.process.pid

    def supervisor(self):
        """Pid of the supervisor, 0 while there is none."""
        for pid in host.children(self.keeper):
            # A log copier that outlives its supervisor is the keeper's, too.
            if "--under-keeper" in command_of(pid) and host.read(f"/proc/{pid}/comm") != "gantry-copier\n":
                return pid
        return 0

    def await_supervisor(self, former):
        def answers():
            assert self.process.poll() is None, host.read(self.errors)
            pid = self.supervisor()
            return pid and pid != former and self.runtime.call("wait", "nobody-is-called-so").message.endswith("exist")
        host.eventually(answers, 10, "a supervisor that answers")
        return self.supervisor()

    def kill_supervisor(self):
        former = self.supervisor()
        os.kill(former, signal.SIGKILL)
        return former

    def end(self):
        """The supervisor and all its containers go; returns what is left."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                for pid in host.children(self.keeper):
                    os.kill(pid, signal.SIGKILL)
                self.process.kill()
                self.process.wait()
        self.process = None

    def api(self, **how):
        return Api(self.socket, **how)

    def status(self):
        with self.api() as api:
            return api.call("Status")["parameters"]

    # -- verbs
    def up(self, *bundles, flags=(), **spawn):
        for bundle in bundles:
            bundle.write()
            self.runtime.track(bundle.id)
        return self.runtime.call("up", *flags, *[bundle.path for bundle in bundles], **spawn)

    def log(self, container, path=None):
        """The output in the log: bytes of both streams, in order. `path`: it is there, and not where logs are."""
        container = container if isinstance(container, str) else container.id
        text = []
        path = path or f"{self.state_dir}/{container}/container.log"
        for name in [f"{path}.{number}" for number in range(99, 0, -1)] + [path]:
            if not os.path.exists(name):
                continue
            with open(name, "rb") as file:
                for line in file.read().splitlines(keepends=True):
                    _, _, tag, rest = line.split(b" ", 3)
                    text.append(rest if tag == b"F" else rest[:-1])
        return b"".join(text).decode()

    def wait(self, *ids, **spawn):
        return self.runtime.call("wait", *[i if isinstance(i, str) else i.id for i in ids], **spawn)

    def rm(self, *flags_and_ids, **spawn):
        return self.runtime.call("rm", *[i if isinstance(i, str) else i.id for i in flags_and_ids], **spawn)

    def definition(self, bundle):
        return json.loads(host.read(f"{self.state_dir}/{bundle.id}/definition.json"))

    def listing(self):
        with self.api() as api:
            return api.call("List", after="")["parameters"]["containers"]

    def remove_all(self):
        """What the test has left, while there is somebody to do it."""
        if self.process is None or self.process.poll() is not None:
            return
        left = set(self.runtime.ids)
        with contextlib.suppress(OSError, TypeError):
            left |= {entry["id"] for entry in self.listing()}
        if left:
            self.runtime.call("rm", "--force", *sorted(left), timeout=40)

    def remove_remains(self):
        """The socket outlives a supervisor."""
        for name in ("socket", ""):
            path = f"{self.runtime.root}/@supervisor/{name}"
            if os.path.isdir(path):
                for left in os.listdir(path):
                    os.unlink(f"{path}/{left}")
                os.rmdir(path)
            elif os.path.exists(path):
                os.unlink(path)
