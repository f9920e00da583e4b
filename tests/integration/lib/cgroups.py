"""What the cgroup tests share."""
import os

from . import host

V1 = not os.path.exists(f"{host.CGROUP_ROOT}/cgroup.controllers")
MIB = 1 << 20


def memberships(pid):
    return {line.split(":")[1]: line.split(":", 2)[2] for line in host.read(f"/proc/{pid}/cgroup").split()}
