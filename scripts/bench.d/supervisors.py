"""Who keeps containers running: gantry's supervisor, conmon as podman uses it, and containerd's shims."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import bundles
import processes
from contestants import SLEEP

PARALLEL = 8  # starts in flight, for all contestants
_QUIET = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
_RM_AT_ONCE = 500

# conmon answers with the pid on the pipe when the container is created, and then podman starts it. The descriptors of
# podman's own are left out, and so is what only concerns other uses: terminals, attaching, systemd.
_CONMON = """\
set -e
directory=$1/$2
_OCI_SYNCPIPE=3 conmon --api-version 1 -c "$2" -u "$2" -n "$2" -r "$3" -b "$directory" -p "$directory/pid" \
  --exit-dir "$1/exits" --persist-dir "$directory" --full-attach -l "k8s-file:$directory/log" --log-level error \
  --runtime-arg --root --runtime-arg "$4" --conmon-pidfile "$directory/conmon" --socket-dir-path "$directory" \
  3>&1 >/dev/null | { read -r line; case $line in *'"pid": -'*|*'"data": -'*) echo "$line" >&2; exit 1;; esac; }
exec "$3" --root "$4" start "$2"
"""


def _write_bundle(arena, container, directory, args=SLEEP, annotations=None):
    """A bundle whose container is in a cgroup of the same name below the arena's."""
    config = bundles.default_config(arena.rootfs, f"{arena.cgroup}/{container}", list(args), arena.is_v2)
    if annotations:
        config["annotations"] = annotations
    bundles.write_bundle(directory, config)


def _at_once(command, names, **options):
    """Runs `command` for each name, which replaces {}; PARALLEL at a time."""
    xargs = ["xargs", "-P", str(PARALLEL), "-I", "{}", *map(str, command)]
    subprocess.run(xargs, input="\n".join(names), text=True, check=True, stdout=subprocess.DEVNULL, **options)


class Client:
    """A connection to the supervisor: one call at a time."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))

    def status(self):
        self._socket.sendall(b'{"method":"gantry.supervisor.Status","parameters":{}}\0')
        answer = b""
        while not answer.endswith(b"\0"):
            part = self._socket.recv(1 << 16)
            if not part:
                raise ConnectionError("the supervisor hung up")
            answer += part
        return json.loads(answer[:-1])["parameters"]

    def close(self):
        self._socket.close()


class Gantry:
    """`gantry supervise` with a root and a state directory of its own; a context manager."""

    name = "gantry"

    def __init__(self, program, arena):
        self.program, self._arena = str(program), arena
        self._root, self._state = arena.state / "supervised", arena.state / "definitions"
        self._bundle = arena.directory / "bundles/idle"
        self._log = arena.directory / "supervise.log"
        self.socket = self._root / "@supervisor/socket"
        self._process = None
        self._batches = 0

    def __enter__(self):
        if not self._bundle.exists():
            _write_bundle(self._arena, "supervised", self._bundle)
        command = [self.program, "--root", self._root, "supervise", "--state-dir", self._state]
        with open(self._log, "wb") as log:
            # pylint: disable-next=consider-using-with
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        processes.eventually(self.answers, "the supervisor answers")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        # The keeper first: it would start another supervisor.
        self._process.kill()
        self._process.wait()
        processes.end_naming(self._root)
        shutil.rmtree(self._state, ignore_errors=True)
        errors = [line for line in self._log.read_text(encoding="utf-8").splitlines() if "level=error" in line]
        if errors:
            print("\n".join(errors[:5]), file=sys.stderr)

    def answers(self):
        with contextlib.suppress(OSError):
            client = Client(self.socket)
            try:
                return client.status()
            finally:
                client.close()
        return None

    def pids(self):
        """The keeper and the supervisor."""
        keeper = self._process.pid
        return [keeper, next(pid for pid in processes.children(keeper) if "--under-keeper" in processes.command_line(pid))]

    def command(self, verb, *args):
        return [self.program, "--root", str(self._root), verb, *args]

    def prepare(self, count):
        """Their names: they are copies of one bundle."""
        self._batches += 1
        return [f"idle{self._batches}-{i}" for i in range(1, count + 1)]

    def begin(self, names):
        """The process that starts all that prepare() named."""
        base = names[0].rpartition("-")[0]
        command = self.command("up", str(self._bundle), "--id", base, "--count", str(len(names)))
        return subprocess.Popen(command, **_QUIET)

    def start(self, names):
        if self.begin(names).wait() != 0:
            raise RuntimeError(f"bench: gantry up --count {len(names)} failed")

    def remove(self, names):
        for at in range(0, len(names), _RM_AT_ONCE):
            some = names[at : at + _RM_AT_ONCE]
            subprocess.run(self.command("rm", "--force", "--state-dir", str(self._state), *some), check=True, **_QUIET)

    def exec_steps(self, container):
        return [["run", self.command("exec", container, "/bin/true")]]


class Conmon:
    """A conmon and crun for each container; without conmon, crun alone."""

    def __init__(self, arena, with_conmon=True):
        self.name = "conmon + crun" if with_conmon else "crun run -d"
        self._arena, self._with_conmon = arena, with_conmon
        self._root = arena.state / ("conmon" if with_conmon else "crun")
        self._directory = None
        self._script = arena.directory / "conmon.sh"
        self._batches = 0

    def __enter__(self):
        self._directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._root.name}-", dir=self._arena.state))
        (self._directory / "exits").mkdir()
        self._script.write_text(_CONMON, encoding="ascii")
        return self

    def __exit__(self, *_):
        processes.end_naming(self._directory)

    def prepare(self, count):
        """What podman prepares, too, before it starts anything: not part of what is measured."""
        self._batches += 1
        names = [f"{self._root.name}{self._batches}-{i}" for i in range(count)]
        for name in names:
            _write_bundle(self._arena, name, self._directory / name)
        return names

    def start(self, names):
        crun = shutil.which("crun")
        if self._with_conmon:
            return _at_once(["sh", self._script, self._directory, "{}", crun, self._root], names)
        return _at_once([crun, "--root", self._root, "run", "-d", "-b", f"{self._directory}/{{}}", "{}"], names)

    def pids(self):
        return processes.naming(self._directory)

    def remove(self, names):
        _at_once([shutil.which("crun"), "--root", self._root, "delete", "--force", "{}"], names)


_CONTAINERD_TOML = """
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
                    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
                    "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{root}/sock"
[plugins."io.containerd.runtime.v1.linux"]
  no_shim = true
"""


class Shims:
    """containerd-shim-runc-v2 with crun below a private containerd: one for each container or, as for the containers of
    a Kubernetes pod, one for `grouped` of them."""

    def __init__(self, arena, grouped=1):
        self.name = f"shim of {grouped} + crun" if grouped > 1 else "shim + crun"
        self._arena, self._grouped = arena, grouped
        self._root = arena.directory / f"shims-{grouped}"
        self._batches = 0
        self._daemon = None

    def __enter__(self):
        # The sockets of shims are in /run whatever the configuration says; this mount namespace is ours.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
        self._root.mkdir()
        config = self._root / "config.toml"
        config.write_text(_CONTAINERD_TOML.format(root=self._root), encoding="ascii")
        log = open(self._root / "log", "wb")  # pylint: disable=consider-using-with
        command = ["containerd", "--config", config, "--log-level", "warn"]
        # pylint: disable-next=consider-using-with
        self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        env=os.environ | {"TMPDIR": str(self._root)})
        log.close()
        version = self._ctr("version")
        processes.eventually(lambda: subprocess.run(version, capture_output=True, check=False).returncode == 0,
                             "containerd answers")
        return self

    def __exit__(self, *_):
        # Shims first, while containerd could still be asked what has become of them.
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self._daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._daemon.wait(10)
        self._daemon.kill()
        self._daemon.wait()
        processes.end_naming(self._root)
        mounted = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for path in [*(p for p in reversed(mounted) if p.startswith(f"{self._root}/")), "/run"]:
            subprocess.run(["umount", "-l", path], check=False)

    def _ctr(self, *args):
        return ["ctr", "--address", f"{self._root}/sock", "--namespace", "bench", *map(str, args)]

    def prepare(self, count):
        self._batches += 1
        names = [f"shim{self._grouped}-{self._batches}-{i}" for i in range(count)]
        for i, name in enumerate(names):
            group = names[i // self._grouped * self._grouped]
            _write_bundle(self._arena, name, self._root / "bundles" / name,
                          annotations={"io.containerd.runc.v2.group": group})
        return names

    def start(self, names):
        placed = ["--runc-binary", shutil.which("crun"), "--runc-root", f"{self._root}/runtime", "--null-io"]
        command = self._ctr("run", "-d", *placed, "--config", f"{self._root}/bundles/{{}}/config.json", "{}")
        # The first of a group starts its shim; the others find it.
        _at_once(command, names[:: self._grouped])
        if self._grouped > 1:
            _at_once(command, [name for i, name in enumerate(names) if i % self._grouped])

    def pids(self):
        return [pid for pid in processes.naming(self._root)
                if processes.command_line(pid)[0].endswith("containerd-shim-runc-v2")]

    def remove(self, names):
        # It warns of the signal that it has sent itself.
        _at_once(self._ctr("task", "rm", "--force", "{}"), names, stderr=subprocess.DEVNULL)
        _at_once(self._ctr("container", "rm", "{}"), names)


def timed(action, *args):
    """Seconds, and what it returned."""
    started = time.monotonic()
    result = action(*args)
    return time.monotonic() - started, result
