"""podman with every directory and configuration file of its own."""

import os

import host
from client import ContainerClient

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


class Podman(ContainerClient):
    """Calls podman; its images and containers are below `root`."""

    def __init__(self, root, runtime, cgroup_parent, archive):
        root.mkdir()
        self._cgroup_parent = cgroup_parent
        driver = "overlay" if host.overlay_works(root) else "vfs"
        name = os.path.basename(runtime.path)
        (root / "containers.conf").write_text(_CONTAINERS_CONF.format(name=name, path=runtime.path, root=root))
        (root / "storage.conf").write_text(_STORAGE_CONF.format(driver=driver, root=root))
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "XDG_RUNTIME_DIR": str(root),
            "TMPDIR": str(root),
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
        }
        # --root and the others again on the command line: they are what ends up in the exit command of conmon.
        argv = ["podman", "--root", f"{root}/graph", "--runroot", f"{root}/run", "--tmpdir", f"{root}/tmp"]
        super().__init__(argv, env)
        self.call("load", "--quiet", "--input", str(archive))

    def command(self, verb, args):
        placed = ["--cgroup-parent", self._cgroup_parent] if verb in ("run", "create") else []
        return super().command(verb, [*placed, *args])

    def remove(self, name):
        """Removes a container, if there is one, in whatever state it is."""
        self.call("rm", "--force", "--time", "0", "--ignore", name)
