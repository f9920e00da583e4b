"""containerd and dockerd, started privately, and their command line clients."""

import contextlib
import json
import os
import subprocess

import host
from client import Client, ContainerClient
from images import IMAGE

# Debian's own: another docker may come first on PATH.
DOCKER = "/usr/bin/docker"
RUNTIME_NAME = "under-test"

_CONTAINERD_TOML = """
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
                    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
                    "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "{root}/sock"
"""


@contextlib.contextmanager
def _daemon(argv, env, log, answers):
    """Runs a daemon until the block ends; its output goes to `log`, which a failed start shows."""
    with open(log, "wb") as output:
        process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def ready():
        assert process.poll() is None, f"{argv[0]} ended: {log.read_text(errors='replace')[-3000:]}"
        return answers()

    try:
        host.eventually(ready, f"{argv[0]} answers")
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Containerd(Client):
    """containerd and ctr, with everything below `root`; a context manager."""

    def __init__(self, root, runtime, cgroup_parent, archive):
        root.mkdir()
        self.socket = f"{root}/sock"
        self._root, self._archive = root, archive
        self._cgroup_parent = cgroup_parent
        self._snapshotter = ["--snapshotter", "overlayfs" if host.overlay_works(root) else "native"]
        self._placed = ["--runc-binary", runtime.path, "--runc-root", f"{root}/runtime", *self._snapshotter]
        super().__init__(["ctr", "--address", self.socket, "--namespace", "clients"], {"PATH": os.environ["PATH"]})

    def __enter__(self):
        config = self._root / "config.toml"
        config.write_text(_CONTAINERD_TOML.format(root=self._root))
        argv = ["containerd", "--config", str(config), "--log-level", "info"]
        with contextlib.ExitStack() as stack:
            env = {**self._env, "TMPDIR": str(self._root)}
            ready = lambda: self.attempt("version").returncode == 0
            stack.enter_context(_daemon(argv, env, self._root / "log", ready))
            self.call("image", "import", *self._snapshotter, str(self._archive))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure):
        return self._stack.__exit__(*failure)

    def run_arguments(self, container, *args, options=()):
        """The arguments after `ctr run` for a container named `container`."""
        return [*self._placed, "--cgroup", f"{self._cgroup_parent}/{container}", *options, IMAGE, container, *args]

    def task_pid(self, container):
        """The host's pid of a task's init, or None when there is no such task."""
        for line in self.call("task", "list").splitlines()[1:]:
            name, pid, _ = line.split()
            if name == container:
                return int(pid)
        return None

    def task_status(self, container):
        """RUNNING, PAUSED, STOPPED as ctr prints it, or None when there is no such task."""
        rows = [line.split() for line in self.call("task", "list").splitlines()[1:]]
        return next((status for name, _, status in rows if name == container), None)

    def remove(self, container):
        """Removes a container with its task, in whatever state it is."""
        self.attempt("task", "resume", container)
        self.attempt("task", "kill", "--signal", "KILL", container)
        if self.task_status(container) is not None:
            host.eventually(lambda: self.task_status(container) == "STOPPED", f"{container} stops")
            self.attempt("task", "delete", container)
        self.attempt("container", "delete", container)


class Docker(ContainerClient):
    """dockerd and docker on a containerd of ours, with everything below `root`; a context manager."""

    def __init__(self, root, runtime, cgroup_parent, archive, containerd):
        root.mkdir()
        self._root, self._runtime, self._archive = root, runtime, archive
        self._cgroup_parent, self._containerd = cgroup_parent, containerd
        env = {"PATH": os.environ["PATH"], "HOME": str(root), "DOCKER_CONFIG": str(root)}
        super().__init__([DOCKER, "--host", f"unix://{root}/sock"], {**env, "DOCKER_HOST": f"unix://{root}/sock"})

    def _daemon_argv(self):
        # The key that 20.10 would otherwise write to /etc/docker; there is no flag for it.
        (self._root / "daemon.json").write_text(json.dumps({"deprecated-key-path": f"{self._root}/key.json"}))
        driver = "overlay2" if host.overlay_works(self._root) else "vfs"
        options = {
            "add-runtime": f"{RUNTIME_NAME}={self._runtime.path}",
            "cgroup-parent": self._cgroup_parent,
            "config-file": f"{self._root}/daemon.json",
            "containerd": self._containerd.socket,
            "data-root": f"{self._root}/data",
            "exec-opt": "native.cgroupdriver=cgroupfs",
            "exec-root": f"{self._root}/exec",
            "host": f"unix://{self._root}/sock",
            "pidfile": f"{self._root}/pid",
            "storage-driver": driver,
            "bridge": "none",
            "iptables": "false",
            "oom-score-adjust": "0",
        }
        return ["dockerd", *(f"--{key}={value}" for key, value in options.items())]

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            env = {**self._env, "TMPDIR": str(self._root)}
            ready = lambda: self.attempt("version").returncode == 0
            stack.enter_context(_daemon(self._daemon_argv(), env, self._root / "log", ready))
            self.call("load", "--quiet", "--input", str(self._archive))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure):
        return self._stack.__exit__(*failure)

    def command(self, verb, args):
        placed = ["--runtime", RUNTIME_NAME, "--network", "none"] if verb in ("run", "create") else []
        return super().command(verb, [*placed, *args])

    def remove(self, name):
        """Removes a container, if there is one, in whatever state it is."""
        self.attempt("rm", "--force", name)
