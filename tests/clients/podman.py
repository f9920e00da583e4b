"""podman with every directory and configuration file of its own."""

import json
import os
import subprocess

import host
from images import IMAGE
from terminal import Terminal

# Docker's usual unlimited number of files cannot be granted on hosts without CAP_SYS_RESOURCE. Locks in files, because
# the default ones are in a /dev/shm object that all podmans of a host share.
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "{name}"
runtime_supports_json = ["{name}"]
[engine.runtimes]
{name} = ["{path}"]
[network]
network_config_dir = "{root}/net"
"""

_STORAGE_CONF = """
[storage]
driver = "{driver}"
graphroot = "{root}/graph"
runroot = "{root}/run"
"""


class Podman:
    """Calls podman; its images and containers are below `root`."""

    def __init__(self, root, runtime, cgroup_parent, archive):
        root.mkdir()
        self._cgroup_parent = cgroup_parent
        driver = "overlay" if host.overlay_works(root) else "vfs"
        name = os.path.basename(runtime.path)
        (root / "containers.conf").write_text(_CONTAINERS_CONF.format(name=name, path=runtime.path, root=root))
        (root / "storage.conf").write_text(_STORAGE_CONF.format(driver=driver, root=root))
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "XDG_RUNTIME_DIR": str(root),
            "TMPDIR": str(root),
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
        }
        # --root and the others again on the command line: they are what ends up in the exit command of conmon.
        self._argv = ["podman", "--root", f"{root}/graph", "--runroot", f"{root}/run", "--tmpdir", f"{root}/tmp"]
        self.call("load", "--quiet", "--input", str(archive))

    def _command(self, verb, args):
        placed = ["--cgroup-parent", self._cgroup_parent] if verb in ("run", "create") else []
        return [*self._argv, verb, *placed, *args]

    def call(self, verb, *args, status=0, stdin=None):
        """Runs one command, requires its exit status, and returns what it printed."""
        done = self.attempt(verb, *args, stdin=stdin)
        assert done.returncode == status, f"podman {verb}: exit status {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def attempt(self, verb, *args, stdin=None):
        """Runs one command and returns the finished process, whatever its exit status."""
        argv = self._command(verb, args)
        feed = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=30, check=False, **feed)

    def on_terminal(self, verb, *args):
        return Terminal(self._command(verb, args), env=self._env)

    def inspect(self, name):
        return json.loads(self.call("inspect", "--type", "container", name))[0]

    def pid(self, name):
        return self.inspect(name)["State"]["Pid"]

    def run_detached(self, name, *args, options=()):
        """Starts a container and returns the host's pid of its init."""
        self.call("run", "-d", "--name", name, *options, IMAGE, *args)
        return self.pid(name)
